//! Removing what is over.

use std::time::Duration;

use super::shard::{Shard, Tail};
use super::{Inner, Users};
use crate::expiry::Timestamp;
use crate::record::{IndexKey, Mark, Record};
use crate::store::{SWEEP_DELAY, Sweep, Swept};

impl Inner {
    pub(super) fn sweep(&self, sweep: Sweep) -> Swept {
        let pending = self.endings.read().next_pending();
        if let Some(pending) = pending {
            self.finish_ending(&pending);
        }
        let mut users = self.users.lock();
        let mut swept = Swept::default();
        let mut changed = 0;
        for shard in &self.shards {
            let mut shard = shard.write();
            for key in due_keys(&shard, &sweep) {
                for tail in shard.deadlines.remove(&key).unwrap_or_default().0 {
                    let fate = if changed < sweep.limit {
                        self.sweep_row(&mut shard, &mut users, key, tail, &sweep)
                    } else {
                        swept.more = true;
                        Fate::Filed(key)
                    };
                    changed += usize::from(fate != Fate::Filed(key));
                    swept.removed += u64::from(fate == Fate::Removed);
                    if let Fate::Filed(key) = fate {
                        shard.deadlines.entry(key).or_default().push(tail);
                    }
                }
            }
        }
        swept.more |= !self.endings.read().pending.is_empty();
        swept
    }

    /// Removes the row if it is due, or says where it is filed now.
    fn sweep_row(
        &self,
        shard: &mut Shard,
        users: &mut Users,
        key: IndexKey,
        tail: Tail,
        sweep: &Sweep,
    ) -> Fate {
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
            let mut notes = self.events.notes();
            notes.removed(&id, record, &self.endings_of(record.user()));
            self.events.tell(notes);
            self.remove(shard, users, &id);
            return Fate::Removed;
        }
        let mut header = record.header();
        header.refile();
        if header.bucket != record.bucket()
            && let Ok(record) = Record::new(&header, record.data())
        {
            shard.rows.insert(id, record);
        }
        Fate::Filed(IndexKey { over: key.over, bucket: header.bucket })
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

/// What became of an entry of the deadline index.
#[derive(PartialEq)]
enum Fate {
    Removed,
    Forgotten,
    Filed(IndexKey),
}

/// The buckets that may hold something due.
fn due_keys(shard: &Shard, sweep: &Sweep) -> Vec<IndexKey> {
    let delay = if sweep.purge { Duration::ZERO } else { SWEEP_DELAY };
    let live_until = IndexKey::bucket_of(sweep.at.saturating_sub(delay));
    let over_until = if sweep.purge { u32::MAX } else { IndexKey::bucket_of(sweep.at) };
    let due = |over, until| {
        let (from, to) = (IndexKey { over, bucket: 0 }, IndexKey { over, bucket: until });
        shard.deadlines.range(from..=to).map(|(key, _)| *key)
    };
    due(false, live_until).chain(due(true, over_until)).collect()
}
