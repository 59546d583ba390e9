//! The bound on memory, and what makes room for a newcomer.

use std::sync::atomic::Ordering;

use super::Inner;
use crate::error::{Error, Kind, Result};
use crate::record::{Mark, Record};
use crate::store::Write;

/// Map slot, index entry and allocation of one record.
const ROW_OVERHEAD: usize = 128;

impl Inner {
    pub(super) fn check_room(&self, writes: impl Iterator<Item = Write>) -> Result<()> {
        let (mut added, mut removed) = (0, 0);
        for write in writes {
            added += cost(&write.after);
            removed += write.before.as_ref().map_or(0, cost);
        }
        let bytes = self.bytes.load(Ordering::Relaxed);
        if added > removed && bytes + added - removed > self.max_bytes {
            let message = format!("the memory store is full: {} bytes", self.max_bytes);
            return Err(Error::new(Kind::Full, message));
        }
        Ok(())
    }

    /// Evicts down to fifteen sixteenths of the bound: what is over first, then the least
    /// recently seen anonymous sessions. A scan of all rows, paid once for many newcomers.
    pub(super) fn make_room(&self) {
        let at = self.clock.now();
        let mut users = self.users.lock();
        let target = self.max_bytes - self.max_bytes / 16;
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
            }
        }
    }
}

pub(super) fn cost(record: &Record) -> usize {
    record.size_bytes() + ROW_OVERHEAD
}
