//! How records leave the plain store, and come into it.

use super::faults::Fault;
use super::model::Shared;
use crate::error::Result;
use crate::store::{Admission, Import, Imported, Query, Records, Remove, Swept, admit, settled};

impl Shared {
    pub(super) fn records(&self, query: &Query) -> Result<Records> {
        let state = self.state.lock();
        let mut records = Vec::new();
        for (id, record) in &state.rows {
            let endings = state.endings_of(record.user());
            let interval = state.timing.touch_interval;
            let passed = query.after.is_some_and(|after| *id <= after);
            if passed || !query.filter.matches(id, record, &endings, query.at, interval) {
                continue;
            }
            if records.len() >= query.limit.max(1) {
                let next = records.last().map(|(id, _)| *id);
                return Ok(Records { records, next, corrupt: Vec::new() });
            }
            records.push(match self.fault {
                Fault::ExportForgetsEndings => (*id, record.clone()),
                _ => (*id, settled(record, &endings, self.keep_ended)?),
            });
        }
        Ok(Records { records, next: None, corrupt: Vec::new() })
    }

    pub(super) fn import(&self, import: &Import) -> Result<Imported> {
        let mut state = self.state.lock();
        let mut done = Imported::default();
        for (id, record) in &import.records {
            let there = match state.inspect(id).filter(|_| !self.has(Fault::ImportOverwrites)) {
                Some((there, endings)) => Some(settled(&there, &endings, self.keep_ended)?),
                None => None,
            };
            let endings = state.endings_of(record.user());
            match admit(record, there.as_ref(), &endings, state.generation)? {
                Admission::Same => done.same += 1,
                Admission::Ended => done.ended += 1,
                Admission::Conflict => done.conflicts.push(*id),
                Admission::Insert(after) => {
                    let timing = &mut state.timing;
                    timing.longest_idle = timing.longest_idle.max(after.idle_timeout());
                    state.rows.insert(*id, after);
                    done.imported += 1;
                }
            }
        }
        Ok(done)
    }

    pub(super) fn remove(&self, remove: &Remove) -> Swept {
        let mut state = self.state.lock();
        let interval = state.timing.touch_interval;
        let mut swept = Swept::default();
        for id in &remove.ids {
            let Some((record, endings)) = state.inspect(id) else { continue };
            let all = self.has(Fault::RemoveEndsLive);
            if all || remove.covers(id, &record, &endings, interval) {
                state.rows.remove(id);
                swept.removed += 1;
            }
        }
        swept
    }
}
