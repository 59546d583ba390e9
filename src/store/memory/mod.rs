//! Sessions in memory: for tests, for one process that may forget, and as the reference.
//!
//! # Structure
//!
//! 64 shards by ID, each a map under its own lock. A load, merge, compare-and-set or touch takes
//! one shard's lock and nothing else. What concerns several rows or the index by user (a renewal, a
//! login, an ending) first takes the one `Users` lock, under which these operations take
//! turns; they may then lock several shards, and since nobody else holds more than one, none can
//! wait for the other. The endings are locked last, for a moment, and always under the lock of
//! the row that is compared with them. A renewal keeps the shard bytes, so the old and the new row
//! lie under one lock and change in one step.
//!
//! A row is shared with whoever was given it, and never changes under them: a commit puts another
//! in its place. Only a merge of one value that is as long as the one before, into a row that nobody
//! else has, is written into the row itself, which saves an allocation.
//!
//! The index ordered by deadline is a list of IDs for each bucket. Its entries are hints: the
//! sweeper looks at the row and files it anew if it was met too early, so that only a new deadline
//! that is *earlier* costs an entry. The entry of a row that leaves before its time, or is filed anew,
//! stays as it is; once a shard has more of these than rows, its index is made anew from the rows.
//!
//! # Size
//!
//! A session of 300 bytes takes about 470: its record (header, lengths, data, reference counts;
//! one allocation), a slot of 49 bytes in a map that is half to seven eighths full, and the last 12
//! bytes of its ID in the index, whose lists grow by an eighth. Where sessions leave before their
//! time, there are up to two entries for each. IDs that end alike, which only somebody makes who
//! makes up IDs, find one row: the others are never swept, and expire all the same. A user who is
//! signed in takes some 480 bytes in the index by user, which the bound does not count.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::apply::{Change, change, change_in_place};
use super::events::Hub;
use super::{
    Access, Answer, Applied, Commit, End, EndReport, Events, Freshness, Import, Imported,
    Inspected, KeyChange, Loaded, Op, Outcome, Page, Query, Records, Remove, SessionStore, Stats,
    Sweep, Swept, Timing, apply,
};
use crate::error::{Error, Kind, Result};
use crate::expiry::Clock;
use crate::id::SessionId;
use crate::keyring::KeyRing;
use crate::record::{Absence, Endings, Record};

mod builder;
mod ending;
mod page;
mod room;
mod shard;
mod sweep;
#[cfg(test)]
mod tests;
mod timing;
mod transfer;
mod view;

pub use builder::MemoryStoreBuilder;
use ending::AllEndings;
use room::{Shortage, Spent, cost};
use shard::Shard;
use timing::Longest;
use view::{Users, View};

const SHARDS: usize = 64;

/// A store in this process's memory. Cheap to clone; clones share the sessions.
///
/// Bounded to 256 MiB unless configured: what is over goes first, then the least recently seen
/// anonymous sessions. Signed-in sessions are never evicted; a newcomer gets `is_full()`.
///
/// ```
/// use fastsession::MemoryStore;
/// let store = MemoryStore::new()?;
/// # let _ = store;
/// # Ok::<(), fastsession::Error>(())
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    max_bytes: usize,
    keep_ended: Duration,
    shards: [RwLock<Shard>; SHARDS],
    users: Mutex<Users>,
    /// Whether any ending exists: most processes never see one, and their loads skip the lock.
    any_ending: AtomicBool,
    endings: RwLock<AllEndings>,
    bytes: AtomicUsize,
    /// The last scan for room that was in vain.
    spent: Mutex<Option<Spent>>,
    keys: RwLock<KeyRing>,
    keys_held_by_application: bool,
    longest: Longest,
    /// The shard that the next step of a sweep begins with.
    sweep_from: AtomicUsize,
    closed: AtomicBool,
    events: Hub,
}

impl MemoryStore {
    /// A store with the defaults: the system's clock, 256 MiB, a fresh signing key.
    pub fn new() -> Result<Self> {
        Self::builder().build()
    }

    /// Configures a store.
    pub fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder::new()
    }
}

/// What became of a commit.
enum Tried {
    Done(Outcome),
    /// Nothing was changed, for want of room.
    NoRoom(Shortage),
}

impl Inner {
    fn shard_of(id: &SessionId) -> usize {
        usize::from(id.as_bytes()[0]) % SHARDS
    }

    fn open(&self) -> Result<()> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Error::new(Kind::Unavailable, "the store was closed"));
        }
        Ok(())
    }

    fn endings_of(&self, user: Option<&str>) -> Endings {
        if !self.any_ending.load(Ordering::Acquire) {
            return Endings::default();
        }
        let endings = self.endings.read();
        Endings {
            everyone: endings.everyone,
            user: user.and_then(|user| endings.users.get(user).copied()),
        }
    }

    /// A row, and the endings read under its lock: an ending that spares it changes both.
    fn row(&self, id: &SessionId) -> Option<(Record, Endings)> {
        let shard = self.shards[Self::shard_of(id)].read();
        let record = shard.rows.get(id)?;
        Some((record.clone(), self.endings_of(record.user())))
    }

    fn load(&self, id: &SessionId, access: &Access) -> Result<Loaded> {
        self.open()?;
        let Some((record, endings)) = self.row(id) else {
            return Ok(Loaded::Absent(Absence::NotFound));
        };
        Ok(match record.absence(access.at, access.timeouts.as_ref(), &endings) {
            None => Loaded::Live(record),
            Some(absence) => Loaded::Absent(absence),
        })
    }

    fn commit(&self, commit: &Commit) -> Result<Outcome> {
        self.open()?;
        let wanted = match self.try_commit(commit)? {
            Tried::Done(outcome) => return Ok(outcome),
            Tried::NoRoom(wanted) => wanted,
        };
        if !self.make_room(wanted) {
            return Err(self.full());
        }
        match self.try_commit(commit)? {
            Tried::Done(outcome) => Ok(outcome),
            Tried::NoRoom(_) => Err(self.full()),
        }
    }

    fn try_commit(&self, commit: &Commit) -> Result<Tried> {
        if matches!(commit.op, Op::Merge(_) | Op::MergeUnseen { .. } | Op::CompareAndSet { .. })
            && let Some(tried) = self.try_change(commit)?
        {
            return Ok(tried);
        }
        let lists = matches!(
            commit.op,
            Op::Renew { .. } | Op::Create { login: Some(_), .. } | Op::End { .. }
        );
        let mut view = if lists {
            View::of_one_and_users(self, &commit.id)
        } else {
            View::of_one(self, &commit.id)
        };
        if let Op::Renew { new_id, .. } = &commit.op {
            view.hold(new_id);
        }
        let Applied { outcome, write, more } = apply(commit, &mut view)?;
        // A logout works in a full store, though a mark may be larger than the data it replaces.
        let bounded = !matches!(commit.op, Op::End { .. });
        if let Some(wanted) = self.shortage(write.iter().chain(&more)).filter(|_| bounded) {
            return Ok(Tried::NoRoom(wanted));
        }
        let mut notes = self.events.notes();
        notes.wrote(write.iter().chain(&more));
        for write in write.into_iter().chain(more) {
            view.put(write);
        }
        // Under the lock, so that what becomes of one session is told in its order.
        self.events.tell(notes);
        drop(view);
        Ok(self.done(commit, outcome))
    }

    /// A change to a session's data, in its place in the map: no other row, no index by user and
    /// nobody who listens is concerned. Nearly every commit is one. `None` if there is no such row.
    fn try_change(&self, commit: &Commit) -> Result<Option<Tried>> {
        let mut shard = self.shards[Self::shard_of(&commit.id)].write();
        let Some(row) = shard.rows.get_mut(&commit.id) else { return Ok(None) };
        let endings = self.endings_of(row.user());
        // As long as before, and filed where it was: there is no room to find and nothing to count.
        if change_in_place(commit, row, &endings) {
            let after = row.clone();
            drop(shard);
            return Ok(Some(self.done(commit, Outcome::Committed(after))));
        }
        let (after, is_filed) = match change(commit, row, &endings, self.keep_ended)? {
            Change::Data(after) => (after, true),
            Change::To(after) => (after, false),
            Change::None(outcome) => return Ok(Some(Tried::Done(outcome))),
            Change::More => return Ok(None),
        };
        if let Some(bytes) = self.shortage_by(cost(&after), cost(row)) {
            let is_anonymous = after.user().is_none();
            return Ok(Some(Tried::NoRoom(Shortage { bytes, is_anonymous })));
        }
        let before = std::mem::replace(row, after.clone());
        self.account(cost(&before), cost(&after));
        if !is_filed {
            shard.file(&commit.id, Some(&before), after.index_key());
        }
        drop(shard);
        drop(before);
        Ok(Some(self.done(commit, Outcome::Committed(after))))
    }

    fn done(&self, commit: &Commit, outcome: Outcome) -> Tried {
        if let Outcome::Committed(record) = &outcome {
            let touch_interval = commit.access.touch_interval;
            self.longest.widen(Timing { longest_idle: record.idle_timeout(), touch_interval });
        }
        Tried::Done(outcome)
    }

    fn insert(&self, shard: &mut Shard, id: SessionId, after: Record) {
        let (key, size) = (after.index_key(), cost(&after));
        let before = shard.rows.insert(id, after);
        self.account(before.as_ref().map_or(0, cost), size);
        shard.file(&id, before.as_ref(), key);
    }

    /// For a row of this size, which took the place of one of `freed`.
    fn account(&self, freed: usize, size: usize) {
        // Most rows keep their size, and threads need not take turns for that.
        if size > freed {
            self.bytes.fetch_add(size - freed, Ordering::Relaxed);
        } else if freed > size {
            self.bytes.fetch_sub(freed - size, Ordering::Relaxed);
        }
    }

    /// Leaves its entry in the index, and the care for that to the caller, who may be removing many.
    fn remove(&self, shard: &mut Shard, users: &mut Users, id: &SessionId) {
        let Some(record) = shard.rows.remove(id) else { return };
        self.bytes.fetch_sub(cost(&record), Ordering::Relaxed);
        if let Some(user) = record.listed_user() {
            users.remove(user, id);
        }
    }
}

impl SessionStore for MemoryStore {
    fn clock(&self) -> Clock {
        self.inner.clock.clone()
    }

    fn load(&self, id: &SessionId, access: &Access) -> Answer<Loaded> {
        Answer::ready(self.inner.load(id, access))
    }

    fn commit(&self, commit: Commit) -> Answer<Outcome> {
        Answer::ready(self.inner.commit(&commit))
    }

    fn touch(&self, id: &SessionId, access: &Access) {
        let mut shard = self.inner.shards[Inner::shard_of(id)].write();
        let Some(record) = shard.rows.get(id) else { return };
        let endings = self.inner.endings_of(record.user());
        if record.absence(access.at, access.timeouts.as_ref(), &endings).is_none() {
            let record = record.touched(access.at);
            shard.rows.insert(*id, record);
        }
    }

    fn inspect(&self, id: &SessionId) -> Answer<Option<Inspected>> {
        let row = self.inner.row(id);
        let inspected = row.map(|(record, endings)| Inspected { record, endings });
        Answer::ready(self.inner.open().map(|()| inspected))
    }

    fn page(&self, query: &Query) -> Answer<Page> {
        Answer::ready(self.inner.page(query))
    }

    fn end(&self, end: End) -> Answer<EndReport> {
        Answer::ready(self.inner.end(&end))
    }

    fn sweep(&self, sweep: Sweep) -> Answer<Swept> {
        Answer::ready(self.inner.open().map(|()| self.inner.sweep(sweep)))
    }

    fn remove(&self, remove: Remove) -> Answer<Swept> {
        Answer::ready(self.inner.remove_some(&remove))
    }

    fn records(&self, query: &Query) -> Answer<Records> {
        Answer::ready(self.inner.records(query))
    }

    fn import(&self, import: Import) -> Answer<Imported> {
        Answer::ready(self.inner.import(&import))
    }

    fn stats(&self) -> Answer<Stats> {
        let mut stats = Stats::default();
        for shard in &self.inner.shards {
            let shard = shard.read();
            stats.records += shard.rows.len() as u64;
            stats.stored_bytes += shard.rows.values().map(|r| r.size_bytes() as u64).sum::<u64>();
        }
        Answer::ready(self.inner.open().map(|()| stats))
    }

    fn timing(&self) -> Answer<Timing> {
        Answer::ready(self.inner.open().map(|()| self.inner.longest.get()))
    }

    fn keys(&self, _: Freshness) -> Answer<KeyRing> {
        Answer::ready(self.inner.open().map(|()| self.inner.keys.read().clone()))
    }

    fn change_keys(&self, change: KeyChange) -> Answer<KeyRing> {
        let changed = || {
            self.inner.open()?;
            if self.inner.keys_held_by_application {
                return Err(Error::new(
                    Kind::KeysHeldByApplication,
                    "the application holds the keys",
                ));
            }
            let mut keys = self.inner.keys.write();
            let longest_idle = self.inner.longest.get().longest_idle;
            *keys = change.apply(&keys, longest_idle)?;
            Ok(keys.clone())
        };
        Answer::ready(changed())
    }

    fn events(&self) -> Option<Events> {
        Some(self.inner.events.subscribe(self.inner.clock.clone()))
    }

    fn close(&self) -> Answer<()> {
        self.inner.closed.store(true, Ordering::Relaxed);
        Answer::ready(Ok(()))
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("bytes", &self.inner.bytes.load(Ordering::Relaxed))
            .field("max_bytes", &self.inner.max_bytes)
            .finish_non_exhaustive()
    }
}
