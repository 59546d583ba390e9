//! Records on their way out and in, and removing those that were named.

use std::sync::Arc;

use tokio::time::Instant;

use super::Shared;
use super::commit::pause_after;
use super::layout::{self, Partition};
use super::plan::Tried;
use super::view::{View, Wanted};
use crate::error::Result;
use crate::id::SessionId;
use crate::record::{Mark, Record};
use crate::store::{
    Access, Admission, Import, Imported, Outcome, Query, Records, Remove, Rows, Swept, Write,
    admit, settled,
};

/// Most rows that are looked at in one step.
const CHUNK: usize = 128;

impl Shared {
    pub(super) async fn records(
        self: &Arc<Self>,
        query: &Query,
        until: Instant,
    ) -> Result<Records> {
        let page = self.page(query, until).await?;
        let ids: Vec<_> = page.sessions.iter().map(|session| session.id).collect();
        let mut all = Records { records: Vec::new(), next: page.next, corrupt: page.corrupt };
        for (partition, ids) in self.by_partition(&ids) {
            let view = View::read(self, partition, ids, None, until).await?;
            for id in ids {
                match view.row(id) {
                    Ok(Some(row)) => {
                        let (record, endings) = (&row.record, view.endings_of(&row.record));
                        let record = settled(record, &endings, self.config.keep_ended)?;
                        all.records.push((*id, record));
                    }
                    // It was purged meanwhile.
                    Ok(None) => {}
                    Err(error) if error.is_corrupt() => all.corrupt.push(*id),
                    Err(error) => return Err(error),
                }
            }
        }
        all.records.sort_unstable_by_key(|(id, _)| *id);
        Ok(all)
    }

    /// Runs of IDs of one partition.
    fn by_partition<'a>(
        &self,
        ids: &'a [SessionId],
    ) -> impl Iterator<Item = (Partition, &'a [SessionId])> {
        let here = |id: &SessionId| self.keys.partition_of(id);
        ids.chunk_by(move |one, other| here(one) == here(other))
            .flat_map(|ids| ids.chunks(CHUNK))
            .map(move |ids| (here(&ids[0]), ids))
    }

    pub(super) async fn import(&self, import: Import, until: Instant) -> Result<Imported> {
        let mut records = import.records;
        let partition_of = |id: &SessionId| self.keys.partition_of(id);
        records.sort_by_key(|(id, _)| (partition_of(id), *id));
        // Before anything is stored that needs it.
        let live = records.iter().filter(|(_, record)| record.mark() == Mark::None);
        if let Some((_, longest)) = live.max_by_key(|(_, record)| record.idle_timeout()) {
            let access = Access::at(self.config.clock.now());
            self.learn_timing(&Outcome::Committed(longest.clone()), &access, until).await?;
        }
        let mut done = Imported::default();
        for of_one in records.chunk_by(|a, b| partition_of(&a.0) == partition_of(&b.0)) {
            for chunk in of_one.chunks(CHUNK) {
                self.import_some(partition_of(&chunk[0].0), chunk, &mut done, until).await?;
            }
        }
        Ok(done)
    }

    async fn import_some(
        &self,
        partition: Partition,
        records: &[(SessionId, Record)],
        done: &mut Imported,
        until: Instant,
    ) -> Result<()> {
        let mut ids: Vec<_> = records.iter().map(|(id, _)| *id).collect();
        ids.dedup();
        let mut doubts = Vec::new();
        let mut conflicts = 0;
        loop {
            let mut view = View::read(self, partition, &ids, None, until).await?;
            let mut plan = view.plan(self, partition, self.config.clock.now())?;
            let mut part = Imported::default();
            let mut inserted: Vec<(SessionId, Record)> = Vec::new();
            for (id, record) in records {
                let row = match view.row(id) {
                    Ok(row) => row.cloned(),
                    Err(error) if error.is_corrupt() => {
                        part.conflicts.push(*id);
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                if row.as_ref().is_some_and(|row| doubts.contains(&row.stamp)) {
                    part.imported += 1;
                    continue;
                }
                let twice = inserted.iter().find(|(known, _)| known == id);
                let there = match (&row, twice) {
                    (Some(row), _) => {
                        let endings = view.endings_of(&row.record);
                        Some(settled(&row.record, &endings, self.config.keep_ended)?)
                    }
                    (None, twice) => twice.map(|(_, record)| record.clone()),
                };
                // What ended all sessions of its user is part of the state that is compared.
                let mut endings = view.endings(None)?;
                if let Some(user) = record.user().filter(|_| view.state.user_endings > 0) {
                    let hash = layout::hash_of(Some(user));
                    let wanted = Some(Wanted { hash, sessions: 0 });
                    let of_user = View::read(self, partition, &[], wanted, until).await?;
                    endings.user = of_user.ending(&hash).map(|stored| stored.ending);
                }
                match admit(record, there.as_ref(), &endings, view.generation()?)? {
                    Admission::Same => part.same += 1,
                    Admission::Ended => part.ended += 1,
                    Admission::Conflict => part.conflicts.push(*id),
                    Admission::Insert(after) => {
                        inserted.push((*id, after.clone()));
                        plan.put(&Write { id: *id, before: None, after });
                        part.imported += 1;
                    }
                }
            }
            let stamp = plan.stamp;
            match plan.carry_out_if_any(until).await? {
                Tried::Done => {
                    done.imported += part.imported;
                    done.same += part.same;
                    done.ended += part.ended;
                    done.conflicts.append(&mut part.conflicts);
                    return Ok(());
                }
                Tried::Changed { in_doubt } => doubts.extend(in_doubt.then_some(stamp)),
            }
            conflicts += 1;
            pause_after(conflicts, until).await?;
        }
    }

    pub(super) async fn remove_some(&self, remove: &Remove, until: Instant) -> Result<Swept> {
        let timing = self.timing(until).await?;
        let mut ids = remove.ids.clone();
        ids.sort_unstable();
        ids.dedup();
        let mut swept = Swept::default();
        for (partition, ids) in self.by_partition(&ids) {
            let mut conflicts = 0;
            swept.removed += loop {
                let view = View::read(self, partition, ids, None, until).await?;
                let mut plan = view.plan(self, partition, remove.at)?.shrinks();
                let mut removed = 0;
                for id in ids {
                    let row = match view.row(id) {
                        Ok(Some(row)) => row,
                        Ok(None) => continue,
                        Err(error) if error.is_corrupt() => continue,
                        Err(error) => return Err(error),
                    };
                    let (record, endings) = (&row.record, view.endings_of(&row.record));
                    if remove.covers(id, record, &endings, timing.touch_interval) {
                        plan.remove(&layout::entry(id, record.user()));
                        self.recent.forget(id);
                        removed += 1;
                    }
                }
                if let Tried::Done = plan.carry_out_if_any(until).await? {
                    break removed;
                }
                conflicts += 1;
                pause_after(conflicts, until).await?;
            };
        }
        Ok(swept)
    }
}
