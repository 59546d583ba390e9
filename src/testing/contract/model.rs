//! A session store in a hundred lines, from the rules alone: what real ones are compared with.
//!
//! It shares nothing with them, not even [`apply`](crate::store::apply), so that a mistake there
//! is no mistake here.

use std::collections::BTreeMap;
use std::time::Duration;

use super::trial::{GRACE, HOUR, TIMEOUTS};
use crate::expiry::Timestamp;

/// Which of a handful of session IDs.
pub(super) type Slot = usize;

/// One call of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Create {
        slot: Slot,
        user: Option<u8>,
    },
    Merge {
        slot: Slot,
        key: u8,
        value: u64,
    },
    /// Sets `key` to `value` if it is `expected`.
    Swap {
        slot: Slot,
        key: u8,
        expected: Option<u64>,
        value: u64,
    },
    Renew {
        from: Slot,
        to: Slot,
        user: Option<u8>,
    },
    End {
        slot: Slot,
    },
    EndIds {
        slots: Vec<Slot>,
    },
    EndUser {
        user: u8,
        except: Option<Slot>,
    },
    EndEveryone {
        except: Option<Slot>,
    },
    Touch {
        slot: Slot,
    },
    Purge,
    Sweep,
    Advance {
        by: Duration,
    },
    /// The clock is set back.
    Back {
        by: Duration,
    },
    Rotate,
    Retire {
        key: usize,
    },
}

/// What a call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Result {
    Done,
    /// There is a record already.
    Taken,
    /// Another value was found.
    Changed,
    /// There is no live session, and why.
    Over(Over),
    /// The ring has all the keys it can have, or the key is not one to retire.
    Refused,
    /// This many were ended, and were over before.
    Counted(u64, u64),
}

/// Why there is no live session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    NotFound,
    Expired,
    Ended,
    Superseded(Slot),
}

/// What is there to see of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum View {
    Live { data: BTreeMap<u8, u64>, user: Option<u8>, absolute_at: Timestamp, seen_at: Timestamp },
    Over(Over),
}

#[derive(Clone, Debug)]
enum Mark {
    None,
    Ended { at: Timestamp, grace: Timestamp },
    Superseded { until: Timestamp, by: Slot },
}

#[derive(Clone, Debug)]
struct Row {
    data: BTreeMap<u8, u64>,
    user: Option<u8>,
    absolute_at: Timestamp,
    seen_at: Timestamp,
    mark: Mark,
    /// A sweep may have erased it.
    may_be_gone: bool,
}

impl Row {
    fn expires_at(&self) -> Timestamp {
        self.seen_at.saturating_add(TIMEOUTS.idle).min(self.absolute_at)
    }

    fn over(&self, now: Timestamp) -> Option<Over> {
        match self.mark {
            Mark::Superseded { until, by } if now < until => Some(Over::Superseded(by)),
            Mark::Superseded { .. } => Some(Over::NotFound),
            Mark::Ended { .. } => Some(Over::Ended),
            Mark::None => (now >= self.expires_at()).then_some(Over::Expired),
        }
    }

    fn is_in_grace(&self, now: Timestamp) -> bool {
        match self.mark {
            Mark::None => false,
            Mark::Ended { grace, .. } => now < grace,
            Mark::Superseded { until, .. } => now < until,
        }
    }

    /// Whether a sweep at `now` may erase it.
    fn is_due(&self, now: Timestamp, keep: Duration) -> bool {
        now >= self.expires_at().saturating_add(HOUR) && matches!(self.mark, Mark::None)
            || match self.mark {
                Mark::None => false,
                Mark::Ended { at, .. } => {
                    now >= at.saturating_add(keep) || now >= self.expires_at().saturating_add(HOUR)
                }
                Mark::Superseded { until, .. } => now >= until,
            }
    }

    fn is_ended(&self) -> bool {
        matches!(self.mark, Mark::Ended { .. })
    }

    fn end(&mut self, at: Timestamp, grace: Duration) {
        self.data.clear();
        self.mark = Mark::Ended { at, grace: at.saturating_add(grace) };
    }
}

/// The reference.
#[derive(Clone, Debug)]
pub(super) struct Model {
    rows: BTreeMap<Slot, Row>,
    pub(super) now: Timestamp,
    keep_ended: Duration,
    /// When all sessions of somebody, or of everyone, were ended last.
    last_ending_at: Timestamp,
    /// Until when each key verifies; the last one signs.
    keys: Vec<Timestamp>,
}

impl Model {
    pub(super) fn new(now: Timestamp, keep_ended: Duration) -> Self {
        let keys = vec![Timestamp::MAX];
        Self { rows: BTreeMap::new(), now, keep_ended, last_ending_at: Timestamp::MIN, keys }
    }

    /// What is to be seen of `slot`.
    pub(super) fn view(&self, slot: Slot) -> View {
        let Some(row) = self.rows.get(&slot) else { return View::Over(Over::NotFound) };
        match row.over(self.now) {
            Some(over) => View::Over(over),
            None => View::Live {
                data: row.data.clone(),
                user: row.user,
                absolute_at: row.absolute_at,
                seen_at: row.seen_at,
            },
        }
    }

    /// How many keys verify.
    pub(super) fn verifying(&self) -> usize {
        self.keys.iter().filter(|until| self.now < **until).count()
    }

    /// Takes note that `slot` was not found, where a sweep may be why.
    pub(super) fn forget_swept(&mut self, slot: Slot) {
        if self.rows.get(&slot).is_some_and(|row| row.may_be_gone) {
            self.rows.remove(&slot);
        }
    }

    /// The result that `step` must have.
    pub(super) fn apply(&mut self, step: &Step) -> Result {
        match *step {
            Step::Create { slot, user } => {
                if self.rows.contains_key(&slot) {
                    return Result::Taken;
                }
                let row = self.fresh(user);
                self.rows.insert(slot, row);
                Result::Done
            }
            Step::Merge { slot, key, value } => self.write(slot, |row| {
                row.data.insert(key, value);
                Result::Done
            }),
            Step::Swap { slot, key, expected, value } => self.write(slot, |row| {
                if row.data.get(&key).copied() != expected {
                    return Result::Changed;
                }
                row.data.insert(key, value);
                Result::Done
            }),
            Step::Renew { from, to, user } => self.renew(from, to, user),
            Step::End { slot } => {
                let now = self.now;
                self.write(slot, |row| {
                    row.end(now, GRACE);
                    Result::Done
                })
            }
            Step::EndIds { ref slots } => self.end_ids(slots),
            Step::EndUser { user, except } => self.end_all(Some(user), except),
            Step::EndEveryone { except } => self.end_all(None, except),
            Step::Touch { slot } => {
                self.write(slot, |_| Result::Done);
                Result::Done
            }
            Step::Purge => {
                self.purge();
                Result::Done
            }
            Step::Sweep => {
                let (now, keep) = (self.now, self.keep_ended);
                let due = self.rows.values_mut().filter(|row| row.is_due(now, keep));
                due.for_each(|row| row.may_be_gone = true);
                Result::Done
            }
            Step::Advance { by } => {
                self.now = self.now.saturating_add(by);
                Result::Done
            }
            Step::Back { by } => {
                self.now = self.now.saturating_sub(by);
                Result::Done
            }
            Step::Rotate => self.rotate(),
            Step::Retire { key } => self.retire(key),
        }
    }

    fn purge(&mut self) {
        let now = self.now;
        // A store may take a session for ended by the last of several endings. Before that, on a
        // clock that was set back, requests beside it may still be running.
        let until = self.last_ending_at;
        for row in self.rows.values_mut().filter(|row| now < until && row.is_ended()) {
            row.may_be_gone = true;
        }
        self.rows.retain(|_, row| {
            row.over(now).is_none() || row.is_in_grace(now) || (now < until && row.is_ended())
        });
    }

    fn fresh(&self, user: Option<u8>) -> Row {
        Row {
            data: BTreeMap::new(),
            user,
            absolute_at: self.now.saturating_add(TIMEOUTS.absolute),
            seen_at: self.now,
            mark: Mark::None,
            may_be_gone: false,
        }
    }

    fn over(&self, slot: Slot) -> Option<Over> {
        match self.view(slot) {
            View::Over(over) => Some(over),
            View::Live { .. } => None,
        }
    }

    /// Changes a live session, which is seen by that unless nothing was changed.
    fn write(&mut self, slot: Slot, change: impl FnOnce(&mut Row) -> Result) -> Result {
        if let Some(over) = self.over(slot) {
            return Result::Over(over);
        }
        let now = self.now;
        let Some(row) = self.rows.get_mut(&slot) else { return Result::Over(Over::NotFound) };
        let result = change(row);
        if result == Result::Done {
            row.seen_at = row.seen_at.max(now);
        }
        result
    }

    fn renew(&mut self, from: Slot, to: Slot, user: Option<u8>) -> Result {
        if let Some(over) = self.over(from) {
            return Result::Over(over);
        }
        if self.rows.contains_key(&to) {
            return Result::Taken;
        }
        let (now, fresh) = (self.now, self.fresh(user));
        let Some(old) = self.rows.get_mut(&from) else { return Result::Over(Over::NotFound) };
        let mut new = old.clone();
        new.seen_at = new.seen_at.max(now);
        if user.is_some() {
            if old.user.is_some() && old.user != user {
                new.data.clear();
            }
            new.user = user;
            new.absolute_at = fresh.absolute_at;
        }
        old.mark = Mark::Superseded { until: now.saturating_add(GRACE), by: to };
        old.user = None;
        self.rows.insert(to, new);
        Result::Done
    }

    fn end_ids(&mut self, slots: &[Slot]) -> Result {
        let (mut ended, mut over_before) = (0, 0);
        for slot in slots {
            let Some(row) = self.rows.get_mut(slot) else { continue };
            if row.over(self.now).is_some() {
                over_before += 1;
            } else {
                row.end(self.now, Duration::ZERO);
                ended += 1;
            }
        }
        Result::Counted(ended, over_before)
    }

    /// What had expired before has been ended, too, afterwards.
    fn end_all(&mut self, user: Option<u8>, except: Option<Slot>) -> Result {
        self.last_ending_at = self.last_ending_at.max(self.now);
        let spared = except.filter(|slot| self.over(*slot).is_none());
        for (slot, row) in &mut self.rows {
            let concerned = user.is_none() || row.user == user;
            if concerned && Some(*slot) != spared && matches!(row.mark, Mark::None) {
                row.end(self.now, Duration::ZERO);
            }
        }
        Result::Done
    }

    fn rotate(&mut self) -> Result {
        let now = self.now;
        let verifying = self.keys.iter().filter(|until| now < **until).count();
        if verifying >= crate::keyring::KeyRing::MAX_KEYS {
            return Result::Refused;
        }
        if let Some(active) = self.keys.last_mut() {
            *active = now.saturating_add(HOUR);
        }
        self.keys.retain(|until| now < *until);
        self.keys.push(Timestamp::MAX);
        Result::Done
    }

    /// The `key`th, counted from the active one.
    fn retire(&mut self, key: usize) -> Result {
        match self.keys.len().checked_sub(key + 1) {
            Some(place) if key > 0 => {
                self.keys.remove(place);
                Result::Done
            }
            _ => Result::Refused,
        }
    }
}
