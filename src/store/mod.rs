//! The store trait and its contract.
//!
//! A store keeps [`Record`]s under [`SessionId`]s. Everything that crosses the trait is plain
//! data, no closure and no generic: an engine in another process or on another machine can
//! implement it, and it can be used as `dyn SessionStore`.
//!
//! # The contract
//!
//! 1. **Atomic.** A [`Commit`] is read, decided and written as one step; so is one [`End`]. Two
//!    commits of one session never interleave. What to decide is not the store's to invent: it is
//!    [`apply`], the same pure function for every store.
//! 2. **Durable before it is answered.** `Ok` means that the change survives what the store
//!    promises to survive (for a file: the power cut). What is not durable is an error:
//!    `is_unavailable()` if nothing was changed, `is_unknown_outcome()` if that cannot be said.
//! 3. **Absent is an answer, not an error.** No record, expired, ended, superseded, undecodable:
//!    each is an [`Absence`]. An error means that the store could not find out.
//! 4. **Never revive.** No commit, touch or renewal brings back what was ended, expired or
//!    purged. Only [`Op::Create`] and [`SessionStore::import`] make a record, and only where there
//!    is none.
//! 5. **Reads may lag, conclusions may not.** [`SessionStore::load`] may answer a live record from
//!    a state up to a few milliseconds old, provided that the store's own answered commits are
//!    seen. An [`Absence`] is concluded from a state no older than the call.
//! 6. **Time comes in.** Deadlines are compared with the instant in the request; `now == deadline`
//!    is over. A store reads its [`Clock`] only for its own sweeping.
//! 7. **Bounded.** A call waits for at most the store's own deadline (5 s) and queue.
//! 8. **Never block the caller's thread.** What may wait for a disk lock, another process or a
//!    network happens elsewhere. An answer that is in memory is [`Answer::ready`].
//!
//! [`testing`](crate::testing) has the suite that checks all of it.

use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::expiry::{Clock, Timeouts, Timestamp};
use crate::id::SessionId;
use crate::keyring::{Key, KeyId, KeyRing};
use crate::record::{Absence, Changes, EndedBy, Endings, Record};

mod answer;
mod apply;
#[cfg(any(feature = "redb", feature = "redis"))]
mod codec;
mod debug;
mod events;
mod filter;
mod log;
mod memory;
mod operations;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "redb", feature = "redis"))]
mod stored;
mod transfer;

#[cfg(all(feature = "redb", any(test, fuzzing)))]
pub(crate) use self::redb::read_values;
#[cfg(feature = "redb")]
pub use self::redb::{
    BackedUp, CheckReport, Compacted, Damage, Durability, Finding, Migrated, Progress, RedbStore,
    RedbStoreBuilder, Repaired, Restored, Step,
};
#[cfg(feature = "redis")]
pub use self::redis::{RedisStore, RedisStoreBuilder};
pub use answer::Answer;
pub use apply::{Applied, Rows, Write, apply, end_record};
pub use events::{Event, EventKind, Events};
pub use filter::{Filter, Summary};
pub use log::{LOG_ENTRIES, LogEntry, MAX_NOTE_BYTES, Note, Tally};
pub use memory::{MemoryStore, MemoryStoreBuilder};
pub use operations::{Expired, Purged, Selector};
#[cfg(feature = "cli")]
pub(crate) use operations::{FEWER, end_ids, purge_step};
pub(crate) use operations::{expire, health, purge, sessions_of};
pub use transfer::{Admission, Import, Imported, Records, Remove, admit, settled};

/// How long a header is kept after its session ended, unless configured: 24 hours.
pub const DEFAULT_KEEP_ENDED: Duration = Duration::from_secs(24 * 3600);

/// How long after its deadline a record is swept: 1 hour, so that a clock that is stepped forward
/// and back again erases nothing.
pub const SWEEP_DELAY: Duration = Duration::from_secs(3600);

/// Most bytes of data a session may have, unless configured: 64 KiB.
pub const DEFAULT_MAX_DATA_BYTES: usize = 64 * 1024;

/// Where sessions are kept. See the [module](self) for the contract.
pub trait SessionStore: Send + Sync + 'static {
    /// Where this store, and everything above it, reads the time.
    fn clock(&self) -> Clock;

    /// The record of `id`, if it is a live session.
    fn load(&self, id: &SessionId, access: &Access) -> Answer<Loaded>;

    /// Carries out one [`Op`] on one session, atomically.
    fn commit(&self, commit: Commit) -> Answer<Outcome>;

    /// Records activity: a live session was last seen at `access.at`. Never rewrites data, never
    /// waits; may be batched, and lost if the process dies. Changes nothing that is over when it is
    /// carried out. `id` is that of a session that has begun: an ID is used once.
    fn touch(&self, id: &SessionId, access: &Access);

    /// The record of `id` whatever its state, from a state no older than the call.
    ///
    /// `is_corrupt()` if it cannot be decoded.
    fn inspect(&self, id: &SessionId) -> Answer<Option<Inspected>>;

    /// Some summaries in order of ID. One page is one consistent, short read; it may be empty
    /// and still have a successor, since a store looks at a bounded number of records for each.
    fn page(&self, query: &Query) -> Answer<Page>;

    /// Ends sessions, atomically.
    fn end(&self, end: End) -> Answer<EndReport>;

    /// Removes some of what is over, and carries on with what an [`End`] of many left to do.
    fn sweep(&self, sweep: Sweep) -> Answer<Swept>;

    /// Removes records of sessions that are over, by their IDs, as an operator's purge does.
    fn remove(&self, remove: Remove) -> Answer<Swept>;

    /// Some records in full and in order of ID, whatever their state, as [`settled`]. Each is whole,
    /// as it stood at one moment of the call; the answer may be empty and still have a successor.
    fn records(&self, query: &Query) -> Answer<Records>;

    /// Takes in records, each as [`admit`] decides, in one step. What is there is never changed.
    fn import(&self, import: Import) -> Answer<Imported>;

    /// Sizes and counts.
    fn stats(&self) -> Answer<Stats>;

    /// The number of records and the size of the file, if it is one; the rest as far as it is known
    /// without looking at everything, else zero. By default the same as [`stats`](Self::stats).
    fn quick_stats(&self) -> Answer<Stats> {
        self.stats()
    }

    /// The timeouts in use, as far as the records tell.
    fn timing(&self) -> Answer<Timing>;

    /// The key ring. `is_keys_held_by_application()` if the store has none.
    fn keys(&self, freshness: Freshness) -> Answer<KeyRing>;

    /// Changes the key ring and answers the new one.
    fn change_keys(&self, change: KeyChange) -> Answer<KeyRing>;

    /// This store for one command: what is ended, swept or changed of its keys through the one
    /// that is returned is entered in the store's log, in the same transaction. `None`, by
    /// default, if this store keeps no log.
    ///
    /// Where the entry cannot be written (the disk is full), the change is made without.
    fn noting(&self, note: &Note) -> Option<Arc<dyn SessionStore>> {
        let _ = note;
        None
    }

    /// Adds to the entry of the note this store was made with ([`noting`](Self::noting)), for what
    /// is changed otherwise. Does nothing without a note.
    fn noted(&self, tally: Tally) -> Answer<()> {
        let _ = tally;
        Answer::ready(Ok(()))
    }

    /// The last `limit` entries of the log, newest first; none if this store keeps no log.
    fn log(&self, limit: usize) -> Answer<Vec<LogEntry>> {
        let _ = limit;
        Answer::ready(Ok(Vec::new()))
    }

    /// What becomes of sessions from now on; `None`, by default, if this store tells nothing.
    ///
    /// What this store does is told once it is durable, whoever asks for it: the application, its
    /// sweeping, the cap. What other processes do to the same sessions is told by a `RedisStore`,
    /// as far as they can be heard: over a channel of the server, from a moment after the call on,
    /// and with [`EventKind::Missed`] in place of what a broken connection kept back. Other stores
    /// do not tell it, except for what was left to do: rows that this store sweeps, or that it
    /// finds ended together with many others. To hear of everything, listen in every process; the
    /// command-line tool's changes of a file are in its [`log`](Self::log). What is imported, or
    /// what a full [`MemoryStore`] lets go, is never told.
    /// [`Session::ended`](crate::Session::ended) tells the end of one session, whoever ends it.
    fn events(&self) -> Option<Events> {
        None
    }

    /// Makes every touch durable and lets go of files and connections. Later calls fail with
    /// `is_unavailable()`; closing twice is no error.
    fn close(&self) -> Answer<()>;

    /// Live sessions of `user`.
    ///
    /// ```
    /// # async fn demo(store: fastsession::MemoryStore) -> fastsession::Result<()> {
    /// use fastsession::SessionStore;
    /// for session in store.sessions_of("alice").await? {
    ///     println!("{:.8} {:?}", session.id, session.label);
    /// }
    /// # Ok(()) }
    /// ```
    fn sessions_of(&self, user: &str) -> impl Future<Output = Result<Vec<Summary>>> + Send
    where
        Self: Sized,
    {
        sessions_of(self, user)
    }

    /// Ends the selected sessions now, in the name of the application.
    ///
    /// All sessions of a user, or everyone's, are ended by one small commit however many there
    /// are; a login committed afterwards is a new session.
    ///
    /// ```
    /// # async fn demo(store: fastsession::MemoryStore) -> fastsession::Result<()> {
    /// use fastsession::{Selector, SessionStore};
    /// store.expire(Selector::user("alice")).await?;
    /// # Ok(()) }
    /// ```
    fn expire(&self, selector: Selector) -> impl Future<Output = Result<Expired>> + Send
    where
        Self: Sized,
    {
        expire(self, selector, EndedBy::Application)
    }

    /// Whether sessions can be read and changed: for a health check. Reads a state no older than
    /// the call and goes the way of a commit that changes nothing, both within the store's own
    /// deadline (5 s); the error says what is wrong.
    ///
    /// Writes nothing, and so does not see that the disk is full.
    ///
    /// ```
    /// # async fn demo(store: fastsession::MemoryStore) -> fastsession::Result<()> {
    /// use fastsession::SessionStore;
    /// store.health().await?;
    /// # Ok(()) }
    /// ```
    fn health(&self) -> impl Future<Output = Result<()>> + Send
    where
        Self: Sized,
    {
        health(self)
    }

    /// Removes everything that is over, in bounded batches. Never ends a live session.
    fn purge(&self) -> impl Future<Output = Result<Purged>> + Send
    where
        Self: Sized,
    {
        purge(self)
    }
}

/// When, and under which rules, a session is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The time it is.
    pub at: Timestamp,
    /// The timeouts of the layer that asks; the earlier of these and the record's own wins. An
    /// operator's tool has none.
    pub timeouts: Option<Timeouts>,
    /// How long that layer may leave activity unrecorded.
    pub touch_interval: Duration,
}

impl Access {
    /// At `at`, under the record's own timeouts.
    pub fn at(at: Timestamp) -> Self {
        Self { at, timeouts: None, touch_interval: Duration::ZERO }
    }
}

/// What [`SessionStore::load`] found.
#[derive(Clone, Debug)]
pub enum Loaded {
    /// A live session.
    Live(Record),
    /// None, and why.
    Absent(Absence),
}

/// One change of one session.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The session: the one the request carried, or the new one's ID.
    pub id: SessionId,
    /// When, and under which rules.
    pub access: Access,
    /// Most bytes of data it may have afterwards; beyond, `is_too_large()` and nothing changed.
    pub max_data_bytes: usize,
    /// What to do.
    pub op: Op,
}

/// What a [`Commit`] does.
#[derive(Clone)]
pub enum Op {
    /// Insert a session where there is no record: [`Outcome::Exists`] if there is one.
    Create {
        /// Which layer it belongs to.
        realm: Option<Box<str>>,
        /// What it holds.
        draft: Draft,
        /// Who signs in with it.
        login: Option<Login>,
    },
    /// Merge changes into a live session, key by key.
    Merge(Draft),
    /// Set one key if its value is still `expected`; else [`Outcome::Changed`].
    CompareAndSet {
        /// The key.
        key: Box<str>,
        /// Its encoded value as last seen, `None` if it had none.
        expected: Option<Box<[u8]>>,
        /// Its new encoded value, `None` to remove it.
        value: Option<Box<[u8]>>,
    },
    /// Move a live session to a new ID, with changes. Until `grace` has passed the old record
    /// says so; after that its token is as good as unknown.
    Renew {
        /// Where there must be no record: else [`Outcome::Exists`]. It has the same shard bytes, as
        /// that of every [renewed](crate::SessionToken::renewed) token.
        new_id: SessionId,
        /// Changes merged on the way.
        draft: Draft,
        /// Who signs in: binds the user, starts a fresh absolute deadline, and first drops
        /// another user's data and label.
        login: Option<Login>,
        /// How long a request with the old token is taken for one running beside this.
        grace: Duration,
    },
    /// End a live session: its data is gone at once, its header is kept for a while.
    End {
        /// In whose name.
        by: EndedBy,
        /// How long a request with its token is taken for one running beside this.
        grace: Duration,
    },
}

/// Changes of a session's data and of what the application may set of its metadata.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// Of its data.
    pub changes: Changes,
    /// A new label, or `Some(None)` for none.
    pub label: Option<Option<Box<str>>>,
    /// Timeouts of its own (`remember`). The absolute one counts from login or creation.
    pub remember: Option<Timeouts>,
}

/// A user signing in.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user.
    pub user: Box<str>,
    /// The most sessions the user may have.
    pub cap: Option<SessionCap>,
}

/// The most sessions one user may have at a time in one realm.
///
/// What a login costs is bounded, however many sessions its user has: it looks at 1,024 of them, or
/// at twice `max` if that is more. Sessions that were ended are not among these; those that expired
/// are until they are swept, and so are those of other realms. A user who has more, from before the
/// cap was there, is refused as any other, or has fewer after each login: it ends what is too many
/// among those it looked at.
///
/// Beyond that bound the count is one of a part. It can be too low only where a user has more
/// records than that which count for nothing: expired, ended together with
/// [`Selector::user`] a moment ago, or of other realms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionCap {
    max: usize,
    refuse: bool,
}

impl SessionCap {
    /// At most `max` sessions (at least 1): a further login fails with `is_too_many_sessions()`.
    pub const fn refuse_new(max: usize) -> Self {
        Self { max, refuse: true }
    }

    /// At most `max` sessions (at least 1): a further login ends the one that logged in first.
    pub const fn end_oldest(max: usize) -> Self {
        Self { max, refuse: false }
    }

    /// How many records of a user a login looks at: each is read, and may be written, in one
    /// transaction that others wait for. Twice `max`, so that expired ones may be among them.
    pub(crate) const fn most_looked_at(&self) -> usize {
        let twice = self.max.saturating_mul(2);
        if twice > Self::LOOKED_AT { twice } else { Self::LOOKED_AT }
    }

    pub(crate) const LOOKED_AT: usize = 1024;
}

/// What became of a [`Commit`].
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is durable. The record as it is now; for [`Op::Renew`] the new session's.
    Committed(Record),
    /// [`Op::CompareAndSet`] only: another value was found. The record as it is now.
    Changed(Record),
    /// [`Op::Create`] and [`Op::Renew`] only: the new ID has a record already.
    Exists,
    /// There is no live session of that ID; nothing was changed.
    Absent(Absence),
}

/// A record whatever its state, with the endings that concern it.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// The record.
    pub record: Record,
    /// What [`Record::state`] needs to know besides.
    pub endings: Endings,
}

/// A request for one page of summaries.
#[derive(Clone, Debug)]
pub struct Query {
    /// Which sessions.
    pub filter: Filter,
    /// Continue after this ID ([`Page::next`]).
    pub after: Option<SessionId>,
    /// At most this many.
    pub limit: usize,
    /// The time it is.
    pub at: Timestamp,
}

/// One page of summaries.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// In order of ID.
    pub sessions: Vec<Summary>,
    /// Where the next page continues; `None` if there is none.
    pub next: Option<SessionId>,
    /// IDs of records met that cannot be decoded.
    pub corrupt: Vec<SessionId>,
}

/// A request to end sessions.
#[derive(Clone, Debug)]
pub struct End {
    /// Whose.
    pub target: Target,
    /// The one to spare.
    pub except: Option<SessionId>,
    /// In whose name.
    pub by: EndedBy,
    /// The time it is.
    pub at: Timestamp,
}

/// Which sessions an [`End`] is about.
#[derive(Clone, Debug)]
pub enum Target {
    /// These, as far as they are live and the filter still matches them.
    Sessions {
        /// Their IDs.
        ids: Vec<SessionId>,
        /// Checked again in the transaction that ends them.
        filter: Filter,
    },
    /// All of one user. One small commit, however many there are: a new generation.
    User(Box<str>),
    /// Everyone's. One small commit, however many there are: a new generation.
    Everyone,
}

/// What an [`End`] did. All zero where a generation did it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndReport {
    /// Were live and matched, and are over now.
    pub ended: u64,
    /// Had a record, but were over before.
    pub already_over: u64,
}

/// A request to remove some of what is over.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// The time it is.
    pub at: Timestamp,
    /// Look at most at about this many records.
    pub limit: usize,
    /// `true`: an operator's purge, which removes everything that is over, kept headers too, but
    /// for marks that requests running now may depend on. `false`: the store's own sweeping, an
    /// hour after the deadline, which leaves headers for as long as they are to be kept.
    pub purge: bool,
}

/// What a [`Sweep`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Records removed.
    pub removed: u64,
    /// Whether there is more to do at once.
    pub more: bool,
}

/// Sizes and counts of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Records, whatever their state.
    pub records: u64,
    /// Bytes of these records.
    pub stored_bytes: u64,
    /// Size of the file, if it is one.
    pub file_bytes: Option<u64>,
    /// Bytes of the file that are free for reuse.
    pub free_bytes: Option<u64>,
}

/// The timeouts in use, as far as the records tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// The longest idle timeout any session was created with.
    pub longest_idle: Duration,
    /// How long activity may go unrecorded.
    pub touch_interval: Duration,
}

/// How recent an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// At most a second old.
    Recent,
    /// From a state no older than the call.
    Current,
}

/// A change of the key ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyChange {
    /// A new key signs; the one that did verifies for `retire_after` more, by default for the
    /// longest idle timeout in use.
    Rotate {
        /// The time it is.
        at: Timestamp,
        /// How long the old key verifies.
        retire_after: Option<Duration>,
    },
    /// The same with a key brought from elsewhere.
    RotateTo {
        /// The key.
        key: Key,
        /// The time it is.
        at: Timestamp,
        /// How long the old key verifies.
        retire_after: Option<Duration>,
    },
    /// A retiring key no longer verifies.
    Retire {
        /// Which.
        key: KeyId,
    },
    /// What the keys of another ring signed is verified, too: for as long as that ring did, and by
    /// its active key for the longest idle timeout in use.
    Merge {
        /// The other ring.
        ring: KeyRing,
        /// The time it is.
        at: Timestamp,
    },
}

impl KeyChange {
    /// The ring after this change of `ring`, where the longest idle timeout in use is known.
    pub fn apply(self, ring: &KeyRing, longest_idle: Duration) -> Result<KeyRing> {
        match self {
            Self::Rotate { at, retire_after } => {
                ring.rotated(at, retire_after.unwrap_or(longest_idle))
            }
            Self::RotateTo { key, at, retire_after } => {
                ring.rotated_to(key, at, retire_after.unwrap_or(longest_idle))
            }
            Self::Retire { key } => ring.retired(key),
            Self::Merge { ring: other, at } => ring.merged(&other, at, longest_idle),
        }
    }
}

impl<S: SessionStore + ?Sized> SessionStore for Arc<S> {
    fn clock(&self) -> Clock {
        (**self).clock()
    }
    fn load(&self, id: &SessionId, access: &Access) -> Answer<Loaded> {
        (**self).load(id, access)
    }
    fn commit(&self, commit: Commit) -> Answer<Outcome> {
        (**self).commit(commit)
    }
    fn touch(&self, id: &SessionId, access: &Access) {
        (**self).touch(id, access);
    }
    fn inspect(&self, id: &SessionId) -> Answer<Option<Inspected>> {
        (**self).inspect(id)
    }
    fn page(&self, query: &Query) -> Answer<Page> {
        (**self).page(query)
    }
    fn end(&self, end: End) -> Answer<EndReport> {
        (**self).end(end)
    }
    fn sweep(&self, sweep: Sweep) -> Answer<Swept> {
        (**self).sweep(sweep)
    }
    fn remove(&self, remove: Remove) -> Answer<Swept> {
        (**self).remove(remove)
    }
    fn records(&self, query: &Query) -> Answer<Records> {
        (**self).records(query)
    }
    fn import(&self, import: Import) -> Answer<Imported> {
        (**self).import(import)
    }
    fn stats(&self) -> Answer<Stats> {
        (**self).stats()
    }
    fn quick_stats(&self) -> Answer<Stats> {
        (**self).quick_stats()
    }
    fn timing(&self) -> Answer<Timing> {
        (**self).timing()
    }
    fn keys(&self, freshness: Freshness) -> Answer<KeyRing> {
        (**self).keys(freshness)
    }
    fn change_keys(&self, change: KeyChange) -> Answer<KeyRing> {
        (**self).change_keys(change)
    }
    fn noting(&self, note: &Note) -> Option<Arc<dyn SessionStore>> {
        (**self).noting(note)
    }
    fn noted(&self, tally: Tally) -> Answer<()> {
        (**self).noted(tally)
    }
    fn log(&self, limit: usize) -> Answer<Vec<LogEntry>> {
        (**self).log(limit)
    }
    fn events(&self) -> Option<Events> {
        (**self).events()
    }
    fn close(&self) -> Answer<()> {
        (**self).close()
    }
}
