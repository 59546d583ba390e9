//! Sessions in memory: for tests, for one process that may forget, and as the reference.
//!
//! # Structure
//!
//! 64 shards by ID, each a map under its own lock. A load, merge, compare-and-set or touch takes
//! one shard's lock and nothing else. What concerns several rows (a renewal that binds a user, a
//! cap, the index by user) first takes the one `Users` lock, under which these operations take
//! turns; they may then lock several shards, and since nobody else holds more than one, none can
//! wait for the other. The endings are locked last, for a moment, and always under the lock of
//! the row that is compared with them. A renewal keeps the shard bytes, so the old and the new row
//! lie under one lock and change in one step.
//!
//! The index ordered by deadline is a list of IDs for each bucket. Its entries are hints: the
//! sweeper looks at the row and files it anew if it was met too early, so that only a new deadline
//! that is *earlier* costs an entry.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard, RwLock, RwLockWriteGuard};

use super::{
    Access, Answer, Applied, Commit, DEFAULT_KEEP_ENDED, End, EndReport, Freshness, Inspected,
    KeyChange, Loaded, Op, Outcome, Page, Query, Rows, SWEEP_DELAY, SessionStore, Stats, Summary,
    Sweep, Swept, Target, Timing, Write, apply, end_record,
};
use crate::error::{Error, Kind, Result};
use crate::expiry::{Clock, Timestamp};
use crate::id::SessionId;
use crate::keyring::KeyRing;
use crate::record::{Absence, Ending, Endings, IndexKey, Mark, Record};

const SHARDS: usize = 64;
const DEFAULT_MAX_BYTES: usize = 256 * 1024 * 1024;
/// Map slot, index entry and allocation of one record.
const ROW_OVERHEAD: usize = 128;

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

/// Configures a [`MemoryStore`].
#[derive(Debug)]
pub struct MemoryStoreBuilder {
    clock: Clock,
    max_bytes: usize,
    keep_ended: Duration,
    sweep_interval: Duration,
    key_ring: Option<KeyRing>,
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
    keys: RwLock<KeyRing>,
    keys_held_by_application: bool,
    timing: RwLock<Timing>,
    closed: AtomicBool,
}

#[derive(Default)]
struct Shard {
    rows: HashMap<SessionId, Record, BuildHasherDefault<IdHasher>>,
    deadlines: BTreeMap<IndexKey, Vec<SessionId>>,
}

#[derive(Default)]
struct Users {
    sessions: HashMap<Box<str>, BTreeSet<SessionId>>,
}

#[derive(Default)]
struct AllEndings {
    generation: u64,
    everyone: Option<Ending>,
    users: HashMap<Box<str>, Ending>,
    /// Endings whose rows still have to lose their data.
    pending: Vec<PendingEnding>,
}

#[derive(Clone)]
struct PendingEnding {
    generation: u64,
    /// `None` is everyone.
    user: Option<Box<str>>,
}

/// IDs are hashes: eight of their bytes are a hash.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(tail) = bytes.last_chunk::<8>() {
            self.0 = u64::from_le_bytes(*tail);
        }
    }
}

impl MemoryStore {
    /// A store with the defaults: the system's clock, 256 MiB, a fresh signing key.
    pub fn new() -> Result<Self> {
        Self::builder().build()
    }

    /// Configures a store.
    pub fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder {
            clock: Clock::system(),
            max_bytes: DEFAULT_MAX_BYTES,
            keep_ended: DEFAULT_KEEP_ENDED,
            sweep_interval: Duration::from_secs(60),
            key_ring: None,
        }
    }
}

impl MemoryStoreBuilder {
    /// Reads the time from `clock`. Default: the system's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Holds at most about `bytes` of records and index. Default: 256 MiB.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Keeps the header of an ended session for `keep`. Default: 24 hours.
    #[must_use]
    pub fn keep_ended(mut self, keep: Duration) -> Self {
        self.keep_ended = keep;
        self
    }

    /// Sweeps what is over this often. Default: every minute.
    #[must_use]
    pub fn sweep_interval(mut self, interval: Duration) -> Self {
        self.sweep_interval = interval;
        self
    }

    /// Signs with the application's own keys. Default: a fresh key, which dies with the store.
    #[must_use]
    pub fn key_ring(mut self, ring: KeyRing) -> Self {
        self.key_ring = Some(ring);
        self
    }

    /// Makes the store and starts its sweeper.
    pub fn build(self) -> Result<MemoryStore> {
        let keys_held_by_application = self.key_ring.is_some();
        let keys = match self.key_ring {
            Some(ring) => ring,
            None => KeyRing::generate(self.clock.now())?,
        };
        let inner = Arc::new(Inner {
            clock: self.clock,
            max_bytes: self.max_bytes,
            keep_ended: self.keep_ended,
            shards: std::array::from_fn(|_| RwLock::default()),
            users: Mutex::default(),
            any_ending: AtomicBool::new(false),
            endings: RwLock::default(),
            bytes: AtomicUsize::new(0),
            keys: RwLock::new(keys),
            keys_held_by_application,
            timing: RwLock::default(),
            closed: AtomicBool::new(false),
        });
        spawn_sweeper(&inner, self.sweep_interval)?;
        Ok(MemoryStore { inner })
    }
}

/// A thread, not a task: it needs no runtime, and ends by itself once the store is gone.
fn spawn_sweeper(inner: &Arc<Inner>, interval: Duration) -> Result<()> {
    let store = Arc::downgrade(inner);
    let sweeper = move || {
        loop {
            std::thread::sleep(interval);
            let Some(inner) = store.upgrade() else { return };
            let at = inner.clock.now();
            while inner.sweep(Sweep { at, limit: 1000, purge: false }).more {}
        }
    };
    std::thread::Builder::new()
        .name("fastsession-sweep".into())
        .spawn(sweeper)
        .map(drop)
        .map_err(|e| Error::unavailable("the sweeper thread cannot be started").with_source(e))
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
        match self.try_commit(commit) {
            Err(error) if error.is_full() => {
                self.make_room();
                self.try_commit(commit)
            }
            other => other,
        }
    }

    fn try_commit(&self, commit: &Commit) -> Result<Outcome> {
        let several_rows =
            matches!(commit.op, Op::Renew { .. } | Op::Create { login: Some(_), .. });
        let users = several_rows.then(|| self.users.lock());
        let mut view = View { users, ..View::of_one(self, &commit.id) };
        if let Op::Renew { new_id, .. } = &commit.op {
            view.hold(new_id);
        }
        let Applied { outcome, write, more } = apply(commit, &mut view)?;
        self.check_room(write.iter().chain(&more))?;
        for write in write.into_iter().chain(more) {
            view.put(write);
        }
        drop(view);
        if matches!(outcome, Outcome::Committed(_)) {
            self.learn_timing(commit, &outcome);
        }
        Ok(outcome)
    }

    fn check_room<'a>(&self, writes: impl Iterator<Item = &'a Write>) -> Result<()> {
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

    fn learn_timing(&self, commit: &Commit, outcome: &Outcome) {
        let Outcome::Committed(record) = outcome else { return };
        let idle = record.idle_timeout();
        let touch_interval = commit.access.touch_interval;
        let known = *self.timing.read();
        if idle > known.longest_idle || touch_interval > known.touch_interval {
            let mut timing = self.timing.write();
            timing.longest_idle = timing.longest_idle.max(idle);
            timing.touch_interval = timing.touch_interval.max(touch_interval);
        }
    }

    /// Evicts down to fifteen sixteenths of the bound: what is over first, then the least
    /// recently seen anonymous sessions. A scan of all rows, paid once for many newcomers.
    fn make_room(&self) {
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

    /// Whether an operator's purge may remove it.
    fn is_removable(&self, record: &Record, at: Timestamp) -> bool {
        let endings = self.endings_of(record.user());
        record.absence(at, None, &endings).is_some() && !record.is_in_grace(at)
    }

    fn insert(&self, shard: &mut Shard, id: SessionId, after: Record) {
        let key = after.index_key();
        self.bytes.fetch_add(cost(&after), Ordering::Relaxed);
        let before = shard.rows.insert(id, after);
        self.bytes.fetch_sub(before.as_ref().map_or(0, cost), Ordering::Relaxed);
        if before.is_none_or(|before| before.index_key() != key) {
            shard.deadlines.entry(key).or_default().push(id);
        }
    }

    fn remove(&self, shard: &mut Shard, users: &mut Users, id: &SessionId) {
        let Some(record) = shard.rows.remove(id) else { return };
        self.bytes.fetch_sub(cost(&record), Ordering::Relaxed);
        if let Some(user) = record.user() {
            users.remove(user, id);
        }
    }

    fn page(&self, query: &Query) -> Result<Page> {
        self.open()?;
        let touch_interval = self.timing.read().touch_interval;
        let mut page = Page::default();
        match query.filter.wanted_user() {
            Some(user) => {
                // Held throughout, so that none of them is renewed meanwhile.
                let users = self.users.lock();
                let ids = users.sessions.get(user).into_iter().flatten();
                for id in ids.filter(|id| is_wanted(query, id)) {
                    let shard = self.shards[Self::shard_of(id)].read();
                    self.list(&shard, *id, query, touch_interval, &mut page);
                    if page.next.is_some() {
                        break;
                    }
                }
            }
            None => self.page_of_all(query, touch_interval, &mut page),
        }
        Ok(page)
    }

    /// One shard after the other in order of ID. A renewal stays in its shard, so each session is
    /// met once.
    fn page_of_all(&self, query: &Query, touch_interval: Duration, page: &mut Page) {
        let (first, last) = query.filter.id_range();
        let first = query.after.map_or(first, |after| first.max(after));
        for byte in first.as_bytes()[0]..=last.as_bytes()[0] {
            let shard = self.shards[usize::from(byte) % SHARDS].read();
            let mut ids: Vec<_> = shard
                .rows
                .keys()
                .filter(|id| id.as_bytes()[0] == byte && is_wanted(query, id))
                .copied()
                .collect();
            ids.sort_unstable();
            for id in ids {
                self.list(&shard, id, query, touch_interval, page);
                if page.next.is_some() {
                    return;
                }
            }
        }
    }

    /// Adds a row to the page if it matches.
    fn list(
        &self,
        shard: &Shard,
        id: SessionId,
        query: &Query,
        touch_interval: Duration,
        page: &mut Page,
    ) {
        let Some(record) = shard.rows.get(&id) else { return };
        let endings = self.endings_of(record.user());
        if query.filter.matches(&id, record, &endings, query.at, touch_interval) {
            page.sessions.push(Summary::new(id, record, &endings, query.at));
            page.next = (page.sessions.len() >= query.limit.max(1)).then_some(id);
        }
    }

    fn end(&self, end: &End) -> Result<EndReport> {
        self.open()?;
        match &end.target {
            Target::Sessions { ids, filter } => self.end_sessions(end, ids, filter),
            Target::User(user) => self.end_generation(end, Some(user)),
            Target::Everyone => self.end_generation(end, None),
        }
    }

    fn end_sessions(
        &self,
        end: &End,
        ids: &[SessionId],
        filter: &super::Filter,
    ) -> Result<EndReport> {
        let touch_interval = self.timing.read().touch_interval;
        let mut report = EndReport::default();
        for id in ids.iter().filter(|id| Some(**id) != end.except) {
            let mut view = View::of_one(self, id);
            let Some(record) = view.get(id)? else { continue };
            let endings = self.endings_of(record.user());
            match end_record(&record, &endings, end.at, end.by, self.keep_ended)? {
                None => report.already_over += 1,
                Some(after) if filter.matches(id, &record, &endings, end.at, touch_interval) => {
                    view.put(Write { id: *id, before: Some(record), after });
                    report.ended += 1;
                }
                Some(_) => {}
            }
        }
        Ok(report)
    }

    fn end_generation(&self, end: &End, user: Option<&str>) -> Result<EndReport> {
        // Held throughout, so that the spared session is renewed into the generation in one step
        // with its beginning: no load comes between, since it needs the shard.
        let _users = self.users.lock();
        let mut spared = end.except.map(|id| (id, self.shards[Self::shard_of(&id)].write()));
        let mut endings = self.endings.write();
        let spared = spared.as_mut().and_then(|(id, shard)| shard.rows.get_mut(id)).filter(|row| {
            let of_user = row.user().and_then(|user| endings.users.get(user).copied());
            let before = Endings { everyone: endings.everyone, user: of_user };
            row.absence(end.at, None, &before).is_none()
        });
        endings.generation += 1;
        let generation = endings.generation;
        let ending = Ending { generation, at: end.at, by: end.by };
        match user {
            Some(user) => drop(endings.users.insert(user.into(), ending)),
            None => endings.everyone = Some(ending),
        }
        endings.pending.push(PendingEnding { generation, user: user.map(Into::into) });
        self.any_ending.store(true, Ordering::Release);
        if let Some(row) = spared {
            let mut header = row.header();
            header.generation = generation;
            *row = Record::new(&header, row.data())?;
        }
        Ok(EndReport::default())
    }

    fn sweep(&self, sweep: Sweep) -> Swept {
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
                for id in shard.deadlines.remove(&key).unwrap_or_default() {
                    let fate = if changed < sweep.limit {
                        self.sweep_row(&mut shard, &mut users, key, id, &sweep)
                    } else {
                        swept.more = true;
                        Fate::Filed(key)
                    };
                    changed += usize::from(fate != Fate::Filed(key));
                    swept.removed += u64::from(fate == Fate::Removed);
                    if let Fate::Filed(key) = fate {
                        shard.deadlines.entry(key).or_default().push(id);
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
        id: SessionId,
        sweep: &Sweep,
    ) -> Fate {
        let Some(record) = shard.rows.get(&id) else { return Fate::Forgotten };
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

    /// Takes the data from what an ending of many ended.
    fn finish_ending(&self, pending: &PendingEnding) {
        let ids: Vec<_> = match &pending.user {
            Some(user) => {
                let users = self.users.lock();
                users.sessions.get(user).map_or_else(Vec::new, |ids| ids.iter().copied().collect())
            }
            None => self
                .shards
                .iter()
                .flat_map(|shard| shard.read().rows.keys().copied().collect::<Vec<_>>())
                .collect(),
        };
        for id in ids {
            let mut view = View::of_one(self, &id);
            let Ok(Some(record)) = view.get(&id) else { continue };
            let ending = self.endings_of(record.user()).ending(record.generation());
            if record.mark() == Mark::None
                && let Some(ending) = ending
                && let Ok(after) =
                    record.ended(ending.at, ending.by, self.keep_ended, Duration::ZERO)
            {
                view.put(Write { id, before: Some(record), after });
            }
        }
        self.endings.write().finished(pending);
    }
}

impl AllEndings {
    /// What to finish next: the last ending of everyone's finishes all before it.
    fn next_pending(&self) -> Option<PendingEnding> {
        let of_everyone = self.pending.iter().rev().find(|pending| pending.user.is_none());
        of_everyone.or(self.pending.first()).cloned()
    }

    /// No row that `done` ended is left, and none can be written. A later ending has rows of its
    /// own to finish.
    fn finished(&mut self, done: &PendingEnding) {
        let is_covered = |generation: u64, user: &str| match &done.user {
            None => generation <= done.generation,
            Some(finished) => **finished == *user && generation <= done.generation,
        };
        self.users.retain(|user, ending| !is_covered(ending.generation, user));
        self.pending.retain(|pending| match &pending.user {
            Some(user) => !is_covered(pending.generation, user),
            None => done.user.is_some() || pending.generation > done.generation,
        });
    }
}

/// Whether it lies behind the last page and in the filter's range.
fn is_wanted(query: &Query, id: &SessionId) -> bool {
    let (first, last) = query.filter.id_range();
    (first..=last).contains(id) && query.after.is_none_or(|after| *id > after)
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

fn cost(record: &Record) -> usize {
    record.size_bytes() + ROW_OVERHEAD
}

impl Users {
    fn remove(&mut self, user: &str, id: &SessionId) {
        if let Some(ids) = self.sessions.get_mut(user) {
            ids.remove(id);
            if ids.is_empty() {
                self.sessions.remove(user);
            }
        }
    }
}

/// The rows as one commit sees them: its own shard locked, and that of the new ID of a renewal,
/// the others one at a time.
struct View<'a> {
    inner: &'a Inner,
    held: [Option<(usize, RwLockWriteGuard<'a, Shard>)>; 2],
    users: Option<MutexGuard<'a, Users>>,
}

impl<'a> View<'a> {
    fn of_one(inner: &'a Inner, id: &SessionId) -> Self {
        let number = Inner::shard_of(id);
        Self { inner, held: [Some((number, inner.shards[number].write())), None], users: None }
    }

    fn hold(&mut self, id: &SessionId) {
        let number = Inner::shard_of(id);
        if self.held(number).is_none() {
            self.held[1] = Some((number, self.inner.shards[number].write()));
        }
    }

    fn held(&mut self, number: usize) -> Option<&mut Shard> {
        let mut held = self.held.iter_mut().flatten();
        held.find(|(held, _)| *held == number).map(|(_, shard)| &mut **shard)
    }

    fn put(&mut self, write: Write) {
        let Write { id, before, after } = write;
        let user_before = before.as_ref().and_then(Record::user);
        if let Some(users) = self.users.as_mut().filter(|_| user_before != after.user()) {
            if let Some(user) = user_before {
                users.remove(user, &id);
            }
            if let Some(user) = after.user() {
                users.sessions.entry(user.into()).or_default().insert(id);
            }
        }
        let (inner, number) = (self.inner, Inner::shard_of(&id));
        if let Some(shard) = self.held(number) {
            return inner.insert(shard, id, after);
        }
        // One that the cap ends. It was read under an earlier hold of this lock: if it has ended
        // since, that mark stays.
        let mut shard = inner.shards[number].write();
        if shard.rows.get(&id).is_some_and(|row| row.mark() == Mark::None) {
            inner.insert(&mut shard, id, after);
        }
    }
}

impl Rows for View<'_> {
    fn get(&mut self, id: &SessionId) -> Result<Option<Record>> {
        let number = Inner::shard_of(id);
        Ok(match self.held(number) {
            Some(shard) => shard.rows.get(id).cloned(),
            None => self.inner.shards[number].read().rows.get(id).cloned(),
        })
    }

    fn endings(&mut self, user: Option<&str>) -> Result<Endings> {
        Ok(self.inner.endings_of(user))
    }

    fn generation(&mut self) -> Result<u64> {
        Ok(self.inner.endings.read().generation)
    }

    fn sessions_of(&mut self, user: &str) -> Result<Vec<SessionId>> {
        let ids = self.users.as_ref().and_then(|users| users.sessions.get(user));
        Ok(ids.map_or_else(Vec::new, |ids| ids.iter().copied().collect()))
    }

    fn keep_ended(&self) -> Duration {
        self.inner.keep_ended
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
        Answer::ready(self.inner.open().map(|()| *self.inner.timing.read()))
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
            let longest_idle = self.inner.timing.read().longest_idle;
            *keys = change.apply(&keys, longest_idle)?;
            Ok(keys.clone())
        };
        Answer::ready(changed())
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
