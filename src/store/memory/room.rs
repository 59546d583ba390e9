//! The bound on memory, and what makes room for a newcomer.

use std::sync::atomic::Ordering;

use super::Inner;
use crate::error::{Error, Kind};
use crate::record::{Mark, Record};
use crate::store::Write;

/// Map slot, index entry and allocation of one record.
const ROW_OVERHEAD: usize = 128;

impl Inner {
    /// How many bytes `writes` add, if they do not fit.
    pub(super) fn shortage<'a>(&self, writes: impl Iterator<Item = &'a Write>) -> Option<usize> {
        let (mut added, mut removed) = (0, 0);
        for write in writes {
            added += cost(&write.after);
            removed += write.before.as_ref().map_or(0, cost);
        }
        self.shortage_by(added, removed)
    }

    /// The same where so many are added and removed.
    pub(super) fn shortage_by(&self, added: usize, removed: usize) -> Option<usize> {
        let wanted = added.checked_sub(removed).filter(|bytes| *bytes > 0)?;
        let bytes = self.bytes.load(Ordering::Relaxed);
        (bytes + wanted > self.max_bytes).then_some(wanted)
    }

    pub(super) fn full(&self) -> Error {
        Error::new(Kind::Full, format!("the memory store is full: {} bytes", self.max_bytes))
    }

    /// Evicts until `wanted` bytes fit, and a sixteenth of the bound at least: what is over first,
    /// then the least recently seen anonymous sessions. A scan of all rows, paid once for many
    /// newcomers. Nobody goes for what would not fit into an empty store.
    pub(super) fn make_room(&self, wanted: usize) {
        let Some(most) = self.max_bytes.checked_sub(wanted) else { return };
        let at = self.clock.now();
        let mut users = self.users.lock();
        let target = most.min(self.max_bytes - self.max_bytes / 16);
        let is_anonymous = |row: &Record| row.user().is_none() && row.mark() == Mark::None;
        let mut anonymous = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.write();
            let over: Vec<_> = shard
                .rows
                .iter()
                .filter(|(_, record)| self.is_removable(record, at))
                .map(|(id, _)| *id)
                .collect();
            for id in over {
                self.remove(&mut shard, &mut users, &id);
            }
            shard.drop_stale();
            let live = shard.rows.iter().filter(|(_, row)| is_anonymous(row));
            anonymous.extend(live.map(|(id, record)| (record.last_seen_at(), *id)));
        }
        anonymous.sort_unstable();
        for (_, id) in anonymous {
            if self.bytes.load(Ordering::Relaxed) <= target {
                return;
            }
            let mut shard = self.shards[Self::shard_of(&id)].write();
            if shard.rows.get(&id).is_some_and(is_anonymous) {
                self.remove(&mut shard, &mut users, &id);
                shard.drop_stale();
            }
        }
    }
}

pub(super) fn cost(record: &Record) -> usize {
    record.size_bytes() + ROW_OVERHEAD
}
