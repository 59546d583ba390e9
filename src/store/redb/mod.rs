//! Sessions in one file, shared by processes.
//!
//! # Threads
//!
//! Everything of redb that can wait — opening the file, beginning a transaction, committing —
//! happens on three threads of the store's own, never on a caller's: the [`writer`] commits in
//! batches, the reading thread ([`snapshot`]) keeps a snapshot for requests to read from, and the
//! scanning thread ([`scan`]) makes pages and statistics. A caller reads rows from a published
//! snapshot, or waits for an answer with a deadline.
//!
//! # Several processes
//!
//! The file is shared unless opened with [`exclusive`](RedbStoreBuilder::exclusive): workers, a
//! new release beside the old one, the command-line tool. What another process ended is seen by
//! reads within the lease of a snapshot (5 ms), by commits at once.
//!
//! # What a write costs
//!
//! A commit is bound by the 4 KiB pages it rewrites and by its syncs. An update touches one table;
//! see [`batch`]. Values are packed and sealed: [`Record`](crate::Record), [`codec`](super::codec).
//!
//! A lone update in shared mode writes ten pages (two of the sessions' table, the others redb's
//! roots and lists of free pages) and its header three times, and syncs twice; in exclusive mode
//! it writes twelve times in all. A bare loop on redb, traced beside it, does the same in both
//! modes. Of the small calls redb makes fourteen for locks that other processes respect, two for
//! the file's length and one to read the header; three are this store's, for the room on the disk
//! and the limit of the file. What is left of the difference is two threads that wake each other
//! and the packing of a row. With many clients each random row costs a leaf of its own, which redb
//! copies, sums and writes. Of 19 µs of processor time an update takes with 1,024 clients, 14 are
//! what the bare loop takes for overwriting a row; the others are for finding and checking the row
//! there was, merging into it, and for the threads of whoever asks. Fewer pages would take a log of
//! changes in sequence, which redb does not have.
//!
//! In a large file the record of what is free adds to that with each region of it: [`regions`].
//!
//! # What a purge costs
//!
//! Pages as well. Rows are removed in order of ID, part by part of the index by deadline, so that
//! each page is rewritten once for all that is due on it, and the index by user follows in its own
//! order: `batch::sweep`, `batch::departed`. 82,000 rows among 182,000, each with a user, took
//! 34,000 page writes and 0.7 s of processor time; one by one in order of deadline a row took
//! three pages.
//!
//! # What a read costs
//!
//! On a published snapshot, a walk down the tree through redb's cache, one checksum and one copy
//! of the row into a [`Record`](crate::Record): no call to the system and no other thread. While
//! nobody reads, none is published ([`snapshot`]), and the first reader waits for one thread to
//! wake.
//!
//! # Size
//!
//! The file grows by 240 MiB at a time, as a hole that gets its blocks shortly before its pages are
//! written: [`regions`], [`space`]. IDs are random, so that pages are about two
//! thirds full after arrivals, and 60 % where sessions also leave: each byte of a row costs 1.6 in
//! the file. A purge that packed pages full would not help, since the next arrival in a full page
//! splits it: in a model of such a tree they are 62 % full as they are, and 61 % if each purge
//! packed them. Pages left a fifth free would be 70 % full; redb has no way to fill one to a part.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::oneshot;

use self::log::Noting;
use self::queue::{Job, Reply, Waiter};
use self::shared::{Shared, keys_held_by_application};
use self::snapshot::Snapshot;
use super::codec;
use super::{
    Access, Answer, Commit, End, EndReport, Events, Freshness, Import, Imported, Inspected,
    KeyChange, Loaded, LogEntry, Note, Outcome, Page, Query, Records, Remove, SessionStore, Stats,
    Sweep, Swept, Tally, Timing,
};
use crate::error::{Error, Result};
use crate::expiry::Clock;
use crate::id::SessionId;
use crate::keyring::KeyRing;

mod answers;
mod batch;
mod builder;
mod failure;
mod file;
mod log;
mod migrate;
mod queue;
mod regions;
mod scan;
mod shared;
mod shield;
mod snapshot;
mod space;
mod tables;
mod upkeep;
mod writer;

pub use self::builder::{Durability, RedbStoreBuilder};
pub use self::migrate::Migrated;
#[cfg(feature = "cli")]
pub(crate) use self::shield::is_up as is_shielded;
#[cfg(any(test, fuzzing))]
pub(crate) use self::tables::read_values;
pub use self::upkeep::{
    BackedUp, CheckReport, Compacted, Damage, Finding, Progress, Repaired, Restored, Step,
};

/// A store in a redb file. Cheap to clone; clones share the file and its threads.
///
/// The answers wait with timers of tokio, so that its methods are to be awaited in a tokio
/// runtime with time enabled. Dropping the last clone flushes touches and closes the file on the
/// store's own thread; [`close`](SessionStore::close) waits for it.
///
/// ```no_run
/// use fastsession::RedbStore;
/// let store = RedbStore::open("sessions.redb")?;
/// # let _ = store;
/// # Ok::<(), fastsession::Error>(())
/// ```
#[derive(Clone)]
pub struct RedbStore {
    shared: Arc<Shared>,
    /// Ends the threads when the last clone is dropped; they hold `shared` themselves.
    _handle: Arc<Handle>,
    /// Counts what is changed through this handle.
    noting: Option<Arc<Noting>>,
}

struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.queue.close(None);
        self.0.scans.lock().take();
    }
}

impl RedbStore {
    /// Opens the file at `path`, or creates it with a fresh key, with the defaults.
    ///
    /// Waits for at most 5 seconds if a stopped process holds its lock. Fails with
    /// `is_in_use()` if a process holds it exclusively, `is_forbidden()`, `is_invalid()` (a
    /// directory, symbolic link or other format), `is_corrupt()`, `is_version_mismatch()`; the
    /// file is then untouched.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).open()
    }

    /// Configures how to open the file at `path`.
    pub fn builder(path: impl AsRef<Path>) -> RedbStoreBuilder {
        RedbStoreBuilder::new(path.as_ref())
    }
}

impl RedbStore {
    fn ask<T: Send + 'static>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Answer<T> {
        let (reply, waiter) = queue::reply();
        self.shared.queue.push(job(reply));
        let wait = self.shared.config.wait;
        Answer::pending(Waiter::answer(waiter, wait))
    }

    /// The same for what this handle's note counts. Where the log cannot be written, `repeat` does
    /// it without a note; where that may have been done, only if it `may_repeat`.
    fn ask_noted<T: Send + 'static>(
        &self,
        may_repeat: bool,
        job: impl FnOnce(Reply<T>) -> Job,
        repeat: impl FnOnce(Self) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let Some(noting) = self.noting.clone() else { return self.ask(job) };
        let first = self.ask(|reply| Job::Noted(noting, Box::new(job(reply))));
        let without = Self { noting: None, ..self.clone() };
        Answer::pending(async move {
            match first.await {
                Err(error)
                    if failure::is_of_the_file(&error)
                        && (may_repeat || !error.is_unknown_outcome()) =>
                {
                    tracing::warn!(%error, "it is tried again without an entry in the log");
                    repeat(without).await
                }
                answer => answer,
            }
        })
    }

    /// An answer from a snapshot begun after this call.
    fn read_fresh<T: 'static>(
        &self,
        read: impl Fn(&Shared, &Snapshot) -> Result<T> + Send + 'static,
    ) -> Answer<T> {
        let shared = self.shared.clone();
        Answer::pending(async move {
            let until = tokio::time::Instant::now() + shared.config.wait;
            loop {
                let snapshot = shared.fresh(until).await;
                let result = snapshot.and_then(|snapshot| {
                    read(&shared, &snapshot)
                        .inspect_err(|error| shared.reading_failed(error, snapshot.file_number))
                });
                match result {
                    // Something else failed on that handle: this has a right to the next one.
                    Err(error)
                        if failure::is_collateral(&error)
                            && tokio::time::Instant::now() < until => {}
                    result => return result,
                }
            }
        })
    }
}

impl SessionStore for RedbStore {
    fn clock(&self) -> Clock {
        self.shared.config.clock.clone()
    }

    fn load(&self, id: &SessionId, access: &Access) -> Answer<Loaded> {
        if let Some(snapshot) = self.shared.leased() {
            match snapshot.load(id, access) {
                Ok(live @ Loaded::Live(_)) => return Answer::ready(Ok(live)),
                // A lease can only confirm.
                Ok(Loaded::Absent(_)) => {}
                Err(error) => self.shared.reading_failed(&error, snapshot.file_number),
            }
        }
        let (id, access) = (*id, *access);
        self.read_fresh(move |_, snapshot| snapshot.load(&id, &access))
    }

    fn commit(&self, commit: Commit) -> Answer<Outcome> {
        self.ask(|reply| Job::Commit(commit, reply))
    }

    fn touch(&self, id: &SessionId, access: &Access) {
        self.shared.queue.touch(id, access);
    }

    fn inspect(&self, id: &SessionId) -> Answer<Option<Inspected>> {
        let id = *id;
        self.read_fresh(move |_, snapshot| {
            let Some(record) = snapshot.record(&id)? else { return Ok(None) };
            let endings = snapshot.endings(&record)?;
            Ok(Some(Inspected { record, endings }))
        })
    }

    fn page(&self, query: &Query) -> Answer<Page> {
        let query = query.clone();
        let shared = self.shared.clone();
        Answer::pending(shared.scanned(move |_, snapshot| scan::page(snapshot, &query)))
    }

    fn end(&self, end: End) -> Answer<EndReport> {
        let again = end.clone();
        self.ask_noted(true, |reply| Job::End(end, reply), move |store| store.end(again))
    }

    fn sweep(&self, sweep: Sweep) -> Answer<Swept> {
        let swept =
            self.ask_noted(true, |reply| Job::Sweep(sweep, reply), move |store| store.sweep(sweep));
        let shared = self.shared.clone();
        Answer::pending(async move {
            let swept = swept.await?;
            let pause = shared.sweeping_pause();
            if swept.more && !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            Ok(swept)
        })
    }

    fn remove(&self, remove: Remove) -> Answer<Swept> {
        let again = remove.clone();
        self.ask_noted(true, |reply| Job::Remove(remove, reply), move |store| store.remove(again))
    }

    fn records(&self, query: &Query) -> Answer<Records> {
        let query = query.clone();
        let keep = self.shared.config.keep_ended;
        let found = self.shared.clone().scanned(move |_, snapshot| scan::records(snapshot, &query));
        Answer::pending(async move { found.await?.into_records(keep) })
    }

    fn import(&self, import: Import) -> Answer<Imported> {
        self.ask(|reply| Job::Import(import, reply))
    }

    fn stats(&self) -> Answer<Stats> {
        Answer::pending(self.shared.clone().scanned(scan::stats))
    }

    fn quick_stats(&self) -> Answer<Stats> {
        Answer::pending(self.shared.clone().scanned(scan::quick_stats))
    }

    fn timing(&self) -> Answer<Timing> {
        self.read_fresh(|_, snapshot| Ok(snapshot.state.timing))
    }

    fn keys(&self, freshness: Freshness) -> Answer<KeyRing> {
        if let Some(own) = &self.shared.config.key_ring {
            return Answer::ready(Ok(own.clone()));
        }
        if freshness == Freshness::Recent
            && let Some(snapshot) = self.shared.leased()
        {
            return Answer::ready(self.shared.ring_of(&snapshot));
        }
        self.read_fresh(Shared::ring_of)
    }

    fn change_keys(&self, change: KeyChange) -> Answer<KeyRing> {
        if self.shared.config.key_ring.is_some() {
            return Answer::ready(Err(keys_held_by_application()));
        }
        let again = change.clone();
        let repeat = move |store: Self| store.change_keys(again);
        self.ask_noted(false, |reply| Job::ChangeKeys(change, reply), repeat)
    }

    fn noting(&self, note: &Note) -> Option<Arc<dyn SessionStore>> {
        let noting = Noting::new(note.clone()).ok()?;
        Some(Arc::new(Self { noting: Some(Arc::new(noting)), ..self.clone() }))
    }

    fn noted(&self, tally: Tally) -> Answer<()> {
        match self.noting.clone() {
            Some(noting) => self.ask(|reply| Job::Note(noting, tally, reply)),
            None => Answer::ready(Ok(())),
        }
    }

    fn log(&self, limit: usize) -> Answer<Vec<LogEntry>> {
        self.read_fresh(move |_, snapshot| log::last(&snapshot.txn, limit))
    }

    fn events(&self) -> Option<Events> {
        Some(self.shared.events.subscribe(self.clock()))
    }

    async fn health(&self) -> Result<()> {
        // Before it can fail: what stands still is told too.
        self.shared.measure();
        super::health(self).await
    }

    fn close(&self) -> Answer<()> {
        let (sender, receiver) = oneshot::channel();
        self.shared.queue.close(Some(sender));
        self.shared.scans.lock().take();
        let wait = self.shared.config.wait;
        Answer::pending(async move {
            match tokio::time::timeout(wait, receiver).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Ok(()),
                Err(_) => Err(Error::unavailable(format!("the store did not close in {wait:?}"))),
            }
        })
    }
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore")
            .field("path", &self.shared.config.opener.path)
            .field("exclusive", &self.shared.config.opener.exclusive)
            .finish_non_exhaustive()
    }
}
