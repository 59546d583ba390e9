//! The bound on memory, and what makes room for a newcomer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Inner, Users};
use crate::error::{Error, Kind};
use crate::expiry::Timestamp;
use crate::record::{Mark, Record};
use crate::store::Write;

/// Map slot, index entry and allocation of one record.
const ROW_OVERHEAD: usize = 128;

/// How long a scan that found too little stands for those after it.
const SPENT_FOR: Duration = Duration::from_secs(1);

/// What did not fit.
#[derive(Clone, Copy)]
pub(super) struct Shortage {
    pub(super) bytes: usize,
    /// Nobody who is signed in wants it.
    pub(super) is_anonymous: bool,
}

/// A scan removed all that it may, and freed too little.
#[derive(Clone, Copy)]
pub(super) struct Spent {
    at: Timestamp,
    /// What was left.
    bytes: usize,
}

impl Inner {
    /// What `writes` add, if it does not fit.
    pub(super) fn shortage<'a>(
        &self,
        mut writes: impl Iterator<Item = &'a Write> + Clone,
    ) -> Option<Shortage> {
        let (mut added, mut removed) = (0, 0);
        for write in writes.clone() {
            added += cost(&write.after);
            removed += write.before.as_ref().map_or(0, cost);
        }
        let bytes = self.shortage_by(added, removed)?;
        let is_anonymous = writes.all(|write| write.after.user().is_none());
        Some(Shortage { bytes, is_anonymous })
    }

    /// How many bytes more it takes where so many are added and removed, if they do not fit.
    pub(super) fn shortage_by(&self, added: usize, removed: usize) -> Option<usize> {
        let wanted = added.checked_sub(removed).filter(|bytes| *bytes > 0)?;
        let bytes = self.bytes.load(Ordering::Relaxed);
        (bytes + wanted > self.max_bytes).then_some(wanted)
    }

    pub(super) fn full(&self) -> Error {
        Error::new(Kind::Full, format!("the memory store is full: {} bytes", self.max_bytes))
    }

    /// Makes room for `wanted`, if there is any to be had; whether another try is worth it. Nobody
    /// goes for what would not fit into an empty store.
    pub(super) fn make_room(&self, wanted: Shortage) -> bool {
        let Some(most) = self.max_bytes.checked_sub(wanted.bytes) else { return false };
        if self.is_hopeless(wanted) {
            return false;
        }
        let mut users = self.users.lock();
        // Others may have scanned meanwhile.
        if self.is_hopeless(wanted) {
            return false;
        }
        if self.shortage_by(wanted.bytes, 0).is_some() {
            self.evict(&mut users, most.min(self.ample()));
        }
        true
    }

    /// Evicts until no more than `target` is left: what is over first, then the least recently seen
    /// anonymous sessions. A scan of all rows, paid once for many newcomers: it frees a sixteenth of
    /// the bound for them, or it is remembered for a second that there is not as much to be had.
    fn evict(&self, users: &mut Users, target: usize) {
        let at = self.clock.now();
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
                self.remove(&mut shard, users, &id);
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
                self.remove(&mut shard, users, &id);
                shard.drop_stale();
            }
        }
        let bytes = self.bytes.load(Ordering::Relaxed);
        if bytes > target {
            *self.spent.lock() = Some(Spent { at, bytes });
        }
    }

    /// Whether a scan found so little a moment ago that another is not worth it: without all that
    /// could be evicted there would be no room either, or visitors would only push each other out.
    fn is_hopeless(&self, wanted: Shortage) -> bool {
        let Some(Spent { at, bytes }) = *self.spent.lock() else { return false };
        // A clock that was stepped back makes nobody wait.
        let counts = (at..at.saturating_add(SPENT_FOR)).contains(&self.clock.now());
        let is_little = bytes > self.ample();
        counts && (bytes + wanted.bytes > self.max_bytes || wanted.is_anonymous && is_little)
    }

    /// What may be left for the next newcomers to find room without a scan.
    fn ample(&self) -> usize {
        self.max_bytes - self.max_bytes / 16
    }
}

pub(super) fn cost(record: &Record) -> usize {
    record.size_bytes() + ROW_OVERHEAD
}
