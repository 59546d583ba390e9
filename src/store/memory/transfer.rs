//! Records on their way out and in.

use super::{Inner, View};
use crate::error::Result;
use crate::id::SessionId;
use crate::record::{Mark, Record};
use crate::store::{
    Admission, Import, Imported, Query, Records, Remove, Rows, Swept, Timing, Write, admit, settled,
};

impl Inner {
    pub(super) fn records(&self, query: &Query) -> Result<Records> {
        let page = self.page(query)?;
        let mut records = Vec::with_capacity(page.sessions.len());
        for id in page.sessions.iter().map(|session| session.id) {
            // It may have been purged meanwhile.
            if let Some((record, endings)) = self.row(&id) {
                records.push((id, settled(&record, &endings, self.keep_ended)?));
            }
        }
        Ok(Records { records, next: page.next, corrupt: page.corrupt })
    }

    pub(super) fn import(&self, import: &Import) -> Result<Imported> {
        self.open()?;
        let mut done = Imported::default();
        // Nothing is stored before it is known that everything has its place.
        let new = import.records.iter().filter(|(id, _)| self.row(id).is_none());
        let writes: Vec<_> = new
            .map(|(id, record)| Write { id: *id, before: None, after: record.clone() })
            .collect();
        if let Some(wanted) = self.shortage(writes.iter())
            && (!self.make_room(wanted) || self.shortage(writes.iter()).is_some())
        {
            return Err(self.full());
        }
        for (id, record) in &import.records {
            match self.import_one(*id, record)? {
                Admission::Insert(_) => done.imported += 1,
                Admission::Same => done.same += 1,
                Admission::Ended => done.ended += 1,
                Admission::Conflict => done.conflicts.push(*id),
            }
        }
        Ok(done)
    }

    fn import_one(&self, id: SessionId, record: &Record) -> Result<Admission> {
        let mut view = View::of_one_and_users(self, &id);
        let there = match view.get(&id)? {
            Some(there) => Some(settled(&there, &view.endings(there.user())?, self.keep_ended)?),
            None => None,
        };
        let (endings, generation) = (view.endings(record.user())?, view.generation()?);
        let admission = admit(record, there.as_ref(), &endings, generation)?;
        if let Admission::Insert(after) = &admission {
            view.put(Write { id, before: None, after: after.clone() });
            if after.mark() == Mark::None {
                let longest_idle = after.idle_timeout();
                self.longest.widen(Timing { longest_idle, ..Timing::default() });
            }
        }
        Ok(admission)
    }

    pub(super) fn remove_some(&self, remove: &Remove) -> Result<Swept> {
        self.open()?;
        let touch_interval = self.longest.get().touch_interval;
        let mut users = self.users.lock();
        let mut swept = Swept::default();
        for id in &remove.ids {
            let mut shard = self.shards[Self::shard_of(id)].write();
            let Some(record) = shard.rows.get(id) else { continue };
            let endings = self.endings_of(record.user());
            if remove.covers(id, record, &endings, touch_interval) {
                let mut notes = self.events.notes();
                notes.removed(id, record, &endings);
                self.events.tell(notes);
                self.remove(&mut shard, &mut users, id);
                shard.drop_stale();
                swept.removed += 1;
            }
        }
        Ok(swept)
    }
}
