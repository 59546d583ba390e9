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
//! see [`batch`]. Values are packed and sealed: [`Record`](crate::Record), [`codec`].

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use redb::Database;
use tokio::sync::oneshot;

use self::file::{Missing, Opener, Storage};
use self::queue::{Job, Queue, Reply, Waiter};
use self::snapshot::{Snapshot, Snapshots};
use super::{
    Access, Answer, Commit, DEFAULT_KEEP_ENDED, End, EndReport, Freshness, Inspected, KeyChange,
    Loaded, Outcome, Page, Query, SessionStore, Stats, Sweep, Swept, Timing,
};
use crate::error::{Error, Kind, Result};
use crate::expiry::Clock;
use crate::id::SessionId;
use crate::keyring::KeyRing;

mod batch;
mod codec;
mod failure;
mod file;
mod queue;
mod scan;
mod snapshot;
mod tables;
mod verify;
mod writer;

const DEFAULT_CACHE_BYTES: usize = 64 * 1024 * 1024;
const DEFAULT_MAX_FILE_BYTES: u64 = 8 * 1024 * 1024 * 1024;
const DEFAULT_WAIT: Duration = Duration::from_secs(5);
const QUEUE_LENGTH: usize = 16 * 1024;
/// How long a thread that reads waits for a handle to be replaced.
const SOON: Duration = Duration::from_millis(100);

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
}

struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.queue.close(None);
        self.0.scans.lock().take();
    }
}

type Scan = Box<dyn FnOnce(&Arc<Shared>) + Send>;

/// What the store's handles and threads share.
struct Shared {
    opener: Opener,
    clock: Clock,
    wait: Duration,
    keep_ended: Duration,
    max_file_bytes: u64,
    durability: Durability,
    sweep_interval: Option<Duration>,
    own_keys: Option<KeyRing>,
    /// `None` while it is being reopened, and once it is closed.
    file: RwLock<Option<Arc<OpenFile>>>,
    /// The first opening that is not known to be of no more use.
    usable_from: AtomicU64,
    /// Whether opening the file again has failed at least once.
    retrying: AtomicBool,
    snapshots: Snapshots,
    queue: Queue,
    scans: Mutex<Option<mpsc::Sender<Scan>>>,
    /// The ring read last; decoding one prepares its keys.
    ring: Mutex<Option<KeyRing>>,
}

/// The file as it was opened once.
struct OpenFile {
    /// Which opening this is, so that what fails on one is not held against the next.
    number: u64,
    database: Database,
}

/// When a commit that was answered is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Before it is answered.
    Immediate,
    /// At most this much later, for changes of data; a power cut loses what is younger. A logout,
    /// login, renewal or change of keys is on disk before it is answered all the same. Only with
    /// [`RedbStoreBuilder::exclusive`].
    Interval(Duration),
}

/// Configures a [`RedbStore`].
#[derive(Clone, Debug)]
#[must_use = "a builder opens nothing until `open` is called"]
pub struct RedbStoreBuilder {
    opener: Opener,
    clock: Clock,
    wait: Duration,
    keep_ended: Duration,
    max_file_bytes: u64,
    durability: Durability,
    sweep_interval: Option<Duration>,
    key_ring: Option<KeyRing>,
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
        RedbStoreBuilder {
            opener: Opener {
                path: path.as_ref().to_path_buf(),
                exclusive: false,
                cache_size: DEFAULT_CACHE_BYTES,
                mode: 0o600,
                missing: Missing::Create,
                allow_network_filesystem: false,
                verify: false,
                storage: None,
            },
            clock: Clock::system(),
            wait: DEFAULT_WAIT,
            keep_ended: DEFAULT_KEEP_ENDED,
            max_file_bytes: DEFAULT_MAX_FILE_BYTES,
            durability: Durability::Immediate,
            sweep_interval: Some(Duration::from_secs(60)),
            key_ring: None,
        }
    }
}

impl RedbStoreBuilder {
    /// Keeps every other process out, the command-line tool too, for more speed.
    pub fn exclusive(mut self) -> Self {
        self.opener.exclusive = true;
        self
    }

    /// Bytes of pages kept in memory. Default: 64 MiB.
    pub fn cache_size(mut self, bytes: usize) -> Self {
        self.opener.cache_size = bytes;
        self
    }

    /// When an answered commit is on disk. Default: before it is answered.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Permission bits of a new file; bits for others are refused. Default: `0o600`.
    pub fn mode(mut self, mode: u32) -> Self {
        self.opener.mode = mode;
        self
    }

    /// Fails with `is_not_found()` if there is no file, instead of creating one.
    pub fn must_exist(mut self) -> Self {
        self.opener.missing = Missing::Refuse;
        self
    }

    /// Fails with `is_invalid()` if there is a file already.
    pub fn create_new(mut self) -> Self {
        self.opener.missing = Missing::MustCreate;
        self
    }

    /// Uses a file on a network or FUSE filesystem, whose locks may not keep two writers apart.
    pub fn allow_network_filesystem(mut self) -> Self {
        self.opener.allow_network_filesystem = true;
        self
    }

    /// Walks the whole file before it is used, every page and record and the tables against each
    /// other, and fails with `is_corrupt()` if anything is damaged or has gone missing. Takes
    /// seconds for a million sessions, during which no other process writes; allow for it with
    /// [`wait`](Self::wait).
    pub fn verify_on_open(mut self) -> Self {
        self.opener.verify = true;
        self
    }

    /// Reads the time from `clock`. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// How long a call waits for the file, a lock or a commit. Default: 5 seconds.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Keeps the header of an ended session for `keep`. Default: 24 hours.
    pub fn keep_ended(mut self, keep: Duration) -> Self {
        self.keep_ended = keep;
        self
    }

    /// Past this size, new and growing sessions are refused with `is_full()`; others are served.
    /// Default: 8 GiB.
    pub fn max_file_bytes(mut self, bytes: u64) -> Self {
        self.max_file_bytes = bytes;
        self
    }

    /// Sweeps what is over this often. Default: every minute.
    pub fn sweep_interval(mut self, interval: Duration) -> Self {
        self.sweep_interval = Some(interval);
        self
    }

    /// Leaves sweeping to other processes on the same file, as a tool does.
    pub fn without_sweeping(mut self) -> Self {
        self.sweep_interval = None;
        self
    }

    /// Signs with the application's own keys instead of the file's. The file then says so, and
    /// the command-line tool leaves keys alone.
    pub fn key_ring(mut self, ring: KeyRing) -> Self {
        self.key_ring = Some(ring);
        self
    }

    /// Keeps the bytes of a session file on what `backend` returns, at the first opening and at
    /// every further one, instead of in the file at the path. For tests that inject faults.
    #[doc(hidden)]
    pub fn storage<B: redb::StorageBackend>(
        mut self,
        backend: impl Fn() -> std::io::Result<B> + Send + Sync + 'static,
    ) -> Self {
        self.opener.storage = Some(Storage::new(backend));
        self
    }

    /// Opens the file and starts the store's threads.
    pub fn open(self) -> Result<RedbStore> {
        self.check()?;
        let wait = self.wait;
        let (opened, opening) = mpsc::sync_channel(1);
        let shared = Arc::new(Shared::new(self));
        let writer = {
            let shared = shared.clone();
            move || {
                let result = shared.opener.open(shared.clock.now());
                let failed = result.is_err();
                // Nobody waits any more: give the file back.
                if opened.send(result.map(|database| shared.lend_file(0, database))).is_err()
                    || failed
                {
                    return;
                }
                writer::run(&shared);
            }
        };
        spawn("fastsession-write", writer)?;
        match opening.recv_timeout(wait) {
            Ok(result) => result?,
            Err(_) => {
                shared.queue.close(None);
                let path = shared.opener.path.display();
                let message = format!(
                    "{path} is locked by another process, which did not let go for {wait:?}"
                );
                return Err(Error::new(Kind::InUse, message));
            }
        }
        shared.start_readers()?;
        let store = RedbStore { _handle: Arc::new(Handle(shared.clone())), shared };
        store.shared.settle_keys()?;
        Ok(store)
    }

    fn check(&self) -> Result<()> {
        let invalid = |why| Err(Error::new(Kind::Invalid, why));
        if self.opener.mode & !0o770 != 0 {
            return invalid("a session file's mode has bits for its owner and group only");
        }
        if matches!(self.durability, Durability::Interval(_)) && !self.opener.exclusive {
            return invalid("`Durability::Interval` needs `exclusive()`");
        }
        Ok(())
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .map(drop)
        .map_err(|error| Error::unavailable("a store thread cannot be started").with_source(error))
}

fn keys_held_by_application() -> Error {
    Error::new(
        Kind::KeysHeldByApplication,
        "the application holds the keys: it passes its own key ring, the file's is not used",
    )
}

impl Shared {
    fn new(builder: RedbStoreBuilder) -> Self {
        Self {
            opener: builder.opener,
            clock: builder.clock,
            wait: builder.wait,
            keep_ended: builder.keep_ended,
            max_file_bytes: builder.max_file_bytes,
            durability: builder.durability,
            sweep_interval: builder.sweep_interval,
            own_keys: builder.key_ring,
            file: RwLock::new(None),
            usable_from: AtomicU64::new(0),
            retrying: AtomicBool::new(false),
            snapshots: Snapshots::new(),
            queue: Queue::new(QUEUE_LENGTH),
            scans: Mutex::new(None),
            ring: Mutex::new(None),
        }
    }

    fn lend_file(&self, number: u64, database: Database) {
        // It may be another file by now.
        *self.ring.lock() = None;
        *self.file.write() = Some(Arc::new(OpenFile { number, database }));
    }

    fn withdraw_file(&self) -> Option<Arc<OpenFile>> {
        self.file.write().take()
    }

    /// The open file, for a store thread.
    fn file(&self) -> Result<Arc<OpenFile>> {
        let file = self.file.read().clone();
        file.ok_or_else(|| {
            let why = if self.queue.is_closing() {
                "the store was closed"
            } else {
                "the session file is being reopened"
            };
            Error::unavailable(why)
        })
    }

    /// The same for a thread that reads: a handle that failed is most often replaced within a
    /// millisecond, which is worth waiting for.
    fn file_soon(&self) -> Result<Arc<OpenFile>> {
        let until = Instant::now() + SOON;
        loop {
            let file = self.file();
            let usable_from = self.usable_from.load(Ordering::Acquire);
            let usable = file.as_ref().is_ok_and(|file| file.number >= usable_from);
            let hopeless = self.retrying.load(Ordering::Acquire) || self.queue.is_closing();
            if usable || hopeless || Instant::now() >= until {
                return file;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn start_readers(self: &Arc<Self>) -> Result<()> {
        let shared = self.clone();
        spawn("fastsession-read", move || {
            let failed = |error: &Error, number| shared.reading_failed(error, number);
            shared.snapshots.serve(|| shared.file_soon(), failed);
        })?;
        let (sender, receiver) = mpsc::channel::<Scan>();
        *self.scans.lock() = Some(sender);
        let shared = self.clone();
        spawn("fastsession-scan", move || {
            for scan in receiver {
                scan(&shared);
            }
        })
    }

    /// A reader's error may mean that the file has to be opened again, if it has not been.
    fn reading_failed(&self, error: &Error, number: u64) {
        if failure::needs_reopening(error) {
            self.usable_from.fetch_max(number + 1, Ordering::AcqRel);
            self.queue.report_broken(number);
        }
    }

    /// The file's bound, if the file has reached it.
    fn file_is_full(&self) -> Option<u64> {
        let len = std::fs::metadata(&self.opener.path).map_or(0, |meta| meta.len());
        (len >= self.max_file_bytes).then_some(self.max_file_bytes)
    }

    /// Makes sure that file and application agree on who holds the keys.
    fn settle_keys(self: &Arc<Self>) -> Result<()> {
        if self.own_keys.is_none() {
            return Ok(());
        }
        let (reply, waiter) = queue::reply();
        self.queue.push(Job::HoldKeys(reply));
        waiter.blocking_answer(self.wait)
    }

    /// The ring of the file as `snapshot` has it.
    fn ring_of(&self, snapshot: &Snapshot) -> Result<KeyRing> {
        if snapshot.state.keys_held_by_application {
            return Err(keys_held_by_application());
        }
        let mut known = self.ring.lock();
        match &*known {
            Some(ring) if ring.version() == snapshot.state.ring_version => Ok(ring.clone()),
            _ => Ok(known.insert(snapshot.ring()?).clone()),
        }
    }

    /// Waits for a snapshot begun after this call.
    async fn fresh(&self, until: tokio::time::Instant) -> Result<Arc<Snapshot>> {
        let waiting = self.snapshots.fresh();
        match tokio::time::timeout_at(until, waiting).await {
            Ok(Ok(snapshot)) => snapshot,
            Ok(Err(_)) => Err(Error::unavailable("the store was closed")),
            Err(_) => {
                let wait = self.wait;
                Err(Error::unavailable(format!("the session file cannot be read within {wait:?}")))
            }
        }
    }

    /// Runs `scan` on the scanning thread.
    async fn scanned<T: Send + 'static>(
        self: Arc<Self>,
        scan: impl Fn(&Arc<Self>, &Snapshot) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = oneshot::channel();
        let job: Scan = Box::new(move |shared| {
            // Nobody waits for it any more.
            if sender.is_closed() {
                return;
            }
            let until = Instant::now() + shared.wait;
            let result = loop {
                let result = shared.file_soon().and_then(|file| {
                    let snapshot = shared.snapshots.renew(&file);
                    let result = snapshot.and_then(|snapshot| scan(shared, &snapshot));
                    result.inspect_err(|error| shared.reading_failed(error, file.number))
                });
                match result {
                    Err(error) if failure::is_collateral(&error) && Instant::now() < until => {}
                    result => break result,
                }
            };
            let _ = sender.send(result);
        });
        let queued = self.scans.lock().as_ref().is_some_and(|scans| scans.send(job).is_ok());
        if !queued {
            return Err(Error::unavailable("the store was closed"));
        }
        match tokio::time::timeout(self.wait, receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::unavailable("the store was closed")),
            Err(_) => {
                let wait = self.wait;
                Err(Error::unavailable(format!("the session file cannot be read within {wait:?}")))
            }
        }
    }
}

impl RedbStore {
    fn ask<T: Send + 'static>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Answer<T> {
        let (reply, waiter) = queue::reply();
        self.shared.queue.push(job(reply));
        let wait = self.shared.wait;
        Answer::pending(Waiter::answer(waiter, wait))
    }

    /// An answer from a snapshot begun after this call.
    fn read_fresh<T: 'static>(
        &self,
        read: impl Fn(&Shared, &Snapshot) -> Result<T> + Send + 'static,
    ) -> Answer<T> {
        let shared = self.shared.clone();
        Answer::pending(async move {
            let until = tokio::time::Instant::now() + shared.wait;
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
        self.shared.clock.clone()
    }

    fn load(&self, id: &SessionId, access: &Access) -> Answer<Loaded> {
        if let Some(snapshot) = self.shared.snapshots.leased() {
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
            let endings = snapshot.endings(record.user())?;
            Ok(Some(Inspected { record, endings }))
        })
    }

    fn page(&self, query: &Query) -> Answer<Page> {
        let query = query.clone();
        Answer::pending(
            self.shared.clone().scanned(move |_, snapshot| scan::page(snapshot, &query)),
        )
    }

    fn end(&self, end: End) -> Answer<EndReport> {
        self.ask(|reply| Job::End(end, reply))
    }

    fn sweep(&self, sweep: Sweep) -> Answer<Swept> {
        self.ask(|reply| Job::Sweep(sweep, reply))
    }

    fn stats(&self) -> Answer<Stats> {
        Answer::pending(self.shared.clone().scanned(scan::stats))
    }

    fn timing(&self) -> Answer<Timing> {
        self.read_fresh(|_, snapshot| Ok(snapshot.state.timing))
    }

    fn keys(&self, freshness: Freshness) -> Answer<KeyRing> {
        if let Some(own) = &self.shared.own_keys {
            return Answer::ready(Ok(own.clone()));
        }
        if freshness == Freshness::Recent
            && let Some(snapshot) = self.shared.snapshots.leased()
        {
            return Answer::ready(self.shared.ring_of(&snapshot));
        }
        self.read_fresh(Shared::ring_of)
    }

    fn change_keys(&self, change: KeyChange) -> Answer<KeyRing> {
        if self.shared.own_keys.is_some() {
            return Answer::ready(Err(keys_held_by_application()));
        }
        self.ask(|reply| Job::ChangeKeys(change, reply))
    }

    fn close(&self) -> Answer<()> {
        let (sender, receiver) = oneshot::channel();
        self.shared.queue.close(Some(sender));
        self.shared.scans.lock().take();
        let wait = self.shared.wait;
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
            .field("path", &self.shared.opener.path)
            .field("exclusive", &self.shared.opener.exclusive)
            .finish_non_exhaustive()
    }
}
