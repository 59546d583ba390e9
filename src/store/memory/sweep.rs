//! Removing what is over.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::shard::{Shard, Tail};
use super::{Inner, SHARDS, Users};
use crate::expiry::Timestamp;
use crate::id::SessionId;
use crate::record::{IndexKey, Mark, Record};
use crate::store::{SWEEP_DELAY, Sweep, Swept};

impl Inner {
    pub(super) fn sweep(&self, sweep: Sweep) -> Swept {
        let pending = self.endings.read().next_pending();
        if let Some(pending) = pending {
            self.finish_ending(&pending);
        }
        let mut users = self.users.lock();
        let mut step = Step { sweep, left: sweep.limit, removed: 0 };
        // On from where the last step stopped: what it left in its place is not looked at by each.
        let from = self.sweep_from.load(Ordering::Relaxed);
        let mut more = false;
        for number in (0..SHARDS).map(|number| (from + number) % SHARDS) {
            let mut shard = self.shards[number].write();
            let is_done = self.sweep_shard(&mut shard, &mut users, &mut step);
            shard.drop_stale();
            if !is_done {
                self.sweep_from.store(number, Ordering::Relaxed);
                more = true;
                break;
            }
        }
        more |= !self.endings.read().pending.is_empty();
        Swept { removed: step.removed, more }
    }

    /// Whether nothing is left to do in this shard.
    fn sweep_shard(&self, shard: &mut Shard, users: &mut Users, step: &mut Step) -> bool {
        for key in due_keys(shard, &step.sweep) {
            let mut tails = shard.deadlines.take(key);
            let is_done = self.sweep_bucket(shard, users, key, &mut tails, step);
            shard.deadlines.put_back(key, tails);
            if !is_done {
                return false;
            }
        }
        true
    }

    /// The same of one bucket. What stays in it stays in its place.
    fn sweep_bucket(
        &self,
        shard: &mut Shard,
        users: &mut Users,
        key: IndexKey,
        tails: &mut Vec<Tail>,
        step: &mut Step,
    ) -> bool {
        let mut place = 0;
        while let Some(&tail) = tails.get(place) {
            let fate = self.fate(shard, key, tail, &step.sweep);
            if matches!(fate, Fate::Stays) {
                place += 1;
                continue;
            }
            if step.left == 0 {
                return false;
            }
            step.left -= 1;
            tails.swap_remove(place);
            match fate {
                Fate::Removed(id) => {
                    self.tell_removed(shard, &id);
                    self.remove(shard, users, &id);
                    step.removed += 1;
                }
                Fate::Moved(id, record) => {
                    shard.deadlines.push(record.index_key(), tail);
                    shard.rows.insert(id, record);
                }
                Fate::Forgotten | Fate::Stays => {}
            }
        }
        true
    }

    fn tell_removed(&self, shard: &Shard, id: &SessionId) {
        if let Some(record) = shard.rows.get(id) {
            let mut notes = self.events.notes();
            notes.removed(id, record, &self.endings_of(record.user()));
            self.events.tell(notes);
        }
    }

    fn fate(&self, shard: &Shard, key: IndexKey, tail: Tail, sweep: &Sweep) -> Fate {
        let Some((&id, record)) = shard.rows.get_key_value(&tail) else { return Fate::Forgotten };
        if record.index_key() != key {
            // It ended, or its deadline became an earlier one, and it was filed anew then.
            return Fate::Forgotten;
        }
        let due = if sweep.purge {
            self.is_removable(record, sweep.at)
        } else {
            is_due(record, sweep.at)
        };
        if due {
            return Fate::Removed(id);
        }
        let mut header = record.header();
        header.refile();
        if header.bucket == record.bucket() {
            return Fate::Stays;
        }
        Record::new(&header, record.data()).map_or(Fate::Stays, |record| Fate::Moved(id, record))
    }

    /// Whether an operator's purge may remove it.
    pub(super) fn is_removable(&self, record: &Record, at: Timestamp) -> bool {
        let endings = self.endings_of(record.user());
        record.absence(at, None, &endings).is_some() && !record.is_in_grace(at)
    }
}

/// Whether the store's own sweeping removes it.
fn is_due(record: &Record, at: Timestamp) -> bool {
    match record.mark() {
        Mark::None => at >= record.expires_at().saturating_add(SWEEP_DELAY),
        Mark::Ended { until, .. } | Mark::Superseded { until, .. } => at >= until,
    }
}

/// How far a sweep has come.
struct Step {
    sweep: Sweep,
    /// So many entries may still be taken out.
    left: usize,
    removed: u64,
}

/// What becomes of an entry of the deadline index.
enum Fate {
    /// Its row is gone or filed elsewhere.
    Forgotten,
    Removed(SessionId),
    /// To where its row, so changed, belongs.
    Moved(SessionId, Record),
    Stays,
}

/// The buckets that may hold something due.
fn due_keys(shard: &Shard, sweep: &Sweep) -> Vec<IndexKey> {
    let delay = if sweep.purge { Duration::ZERO } else { SWEEP_DELAY };
    let live_until = IndexKey::bucket_of(sweep.at.saturating_sub(delay));
    let over_until = if sweep.purge { u32::MAX } else { IndexKey::bucket_of(sweep.at) };
    let due = |over, until| {
        let (from, to) = (IndexKey { over, bucket: 0 }, IndexKey { over, bucket: until });
        shard.deadlines.keys(from..=to)
    };
    due(false, live_until).chain(due(true, over_until)).collect()
}
