//! The store trait and its contract.
//!
//! A store keeps [`Record`](crate::Record)s under [`SessionId`]s. Everything that crosses the trait
//! is plain data, no closure and no generic: an engine in another process or on another machine can
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
//!    each is an [`Absence`](crate::record::Absence). An error means that the store could not find out.
//! 4. **Never revive.** No commit, touch or renewal brings back what was ended, expired or
//!    purged. Only [`Op::Create`] and [`SessionStore::import`] make a record, and only where there
//!    is none.
//! 5. **Reads may lag, conclusions may not.** [`SessionStore::load`] may answer a live record from
//!    a state up to a few milliseconds old, provided that the store's own answered commits are
//!    seen. An [`Absence`](crate::record::Absence) is concluded from a state no older than the call.
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
use crate::expiry::Clock;
use crate::id::SessionId;
use crate::keyring::KeyRing;
use crate::record::EndedBy;

mod answer;
mod apply;
#[cfg(any(feature = "redb", feature = "redis"))]
mod codec;
mod debug;
mod events;
mod filter;
mod log;
mod memory;
mod messages;
mod operations;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "redb", feature = "redis"))]
mod stored;
mod transfer;

#[cfg(feature = "cli")]
pub(crate) use self::redb::is_shielded;
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
pub use messages::{
    Access, Commit, Draft, End, EndReport, Freshness, Inspected, KeyChange, Loaded, Login, Op,
    Outcome, Page, Query, SessionCap, Stats, Sweep, Swept, Target, Timing,
};
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
    /// Where this store, and everything above it, reads the time: the same clock at every call.
    fn clock(&self) -> Clock;

    /// The record of `id`, if it is a live session.
    fn load(&self, id: &SessionId, access: &Access) -> Answer<Loaded>;

    /// Carries out one [`Op`] on one session, atomically. What a layer merges into it is activity at
    /// `access.at`; without one ([`Access::timeouts`]) it moves no deadline.
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
