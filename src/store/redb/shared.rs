//! What the handles and threads of one store share: the open file, the queues, the ring.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use redb::Database;
use tokio::sync::oneshot;

use super::builder::Config;
use super::file::Opener;
use super::queue::{Job, Queue};
use super::snapshot::{Snapshot, Snapshots};
use super::{failure, queue};
use crate::error::{Error, Kind, Result};
use crate::keyring::KeyRing;
use crate::store::events::Hub;

const QUEUE_LENGTH: usize = 16 * 1024;
/// Most scans in line.
const MAX_SCANS: usize = 1024;
/// How long a thread that reads waits for a handle to be replaced.
const SOON: Duration = Duration::from_millis(100);

pub(super) type Scan = Box<dyn FnOnce(&Arc<Shared>) + Send>;

/// What the store's handles and threads share.
pub(super) struct Shared {
    pub(super) config: Config,
    /// `None` while it is being reopened, and once it is closed.
    pub(super) file: RwLock<Option<Arc<OpenFile>>>,
    /// The first opening that is not known to be of no more use.
    pub(super) usable_from: AtomicU64,
    /// Whether opening the file again has failed at least once.
    pub(super) retrying: AtomicBool,
    pub(super) snapshots: Snapshots,
    pub(super) queue: Queue,
    pub(super) scans: Mutex<Option<mpsc::SyncSender<Scan>>>,
    /// The ring read last; decoding one prepares its keys.
    pub(super) ring: Mutex<Option<KeyRing>>,
    pub(super) events: Hub,
    /// How long the last step of sweeping asks to wait before the next, in microseconds.
    sweeping_pause: AtomicU64,
}

/// The file as it was opened once.
pub(super) struct OpenFile {
    /// Which opening this is, so that what fails on one is not held against the next.
    pub(super) number: u64,
    pub(super) database: Database,
}

pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .map(drop)
        .map_err(|error| Error::unavailable("a store thread cannot be started").with_source(error))
}

pub(super) fn keys_held_by_application() -> Error {
    Error::new(
        Kind::KeysHeldByApplication,
        "the application holds the keys: it passes its own key ring, the file's is not used",
    )
}

impl Shared {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            file: RwLock::new(None),
            usable_from: AtomicU64::new(0),
            retrying: AtomicBool::new(false),
            snapshots: Snapshots::new(),
            queue: Queue::new(QUEUE_LENGTH),
            scans: Mutex::new(None),
            ring: Mutex::new(None),
            events: Hub::default(),
            sweeping_pause: AtomicU64::new(0),
        }
    }

    pub(super) fn lend_file(&self, number: u64, database: Database) {
        // It may be another file by now.
        *self.ring.lock() = None;
        *self.file.write() = Some(Arc::new(OpenFile { number, database }));
    }

    pub(super) fn pause_sweeping(&self, pause: Duration) {
        let micros = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        self.sweeping_pause.store(micros, Ordering::Release);
    }

    pub(super) fn sweeping_pause(&self) -> Duration {
        Duration::from_micros(self.sweeping_pause.load(Ordering::Acquire))
    }

    pub(super) fn withdraw_file(&self) -> Option<Arc<OpenFile>> {
        self.file.write().take()
    }

    /// The open file, for a store thread.
    pub(super) fn file(&self) -> Result<Arc<OpenFile>> {
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
    pub(super) fn file_soon(&self) -> Result<Arc<OpenFile>> {
        let until = Instant::now() + SOON;
        loop {
            let file = self.file();
            if file.as_ref().is_ok_and(|file| self.is_usable(file.number)) {
                return file;
            }
            let hopeless = self.retrying.load(Ordering::Acquire) || self.queue.is_closing();
            if hopeless || Instant::now() >= until {
                return file.and_then(|_| Err(Error::unavailable("the session file failed")));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(super) fn is_usable(&self, number: u64) -> bool {
        number >= self.usable_from.load(Ordering::Acquire)
    }

    /// Lets nobody read through that opening any more, who would see a state that a commit without
    /// an answer may have changed on the disk.
    pub(super) fn give_up(&self, number: u64) {
        self.usable_from.fetch_max(number + 1, Ordering::AcqRel);
    }

    pub(super) fn leased(&self) -> Option<Arc<Snapshot>> {
        self.snapshots.leased().filter(|snapshot| self.is_usable(snapshot.file_number))
    }

    /// Tells `metrics` how things stand.
    #[cfg_attr(not(feature = "metrics"), allow(clippy::unused_self, reason = "nobody measures"))]
    pub(super) fn measure(&self) {
        #[cfg(feature = "metrics")]
        {
            let snapshot = self.snapshots.standing();
            crate::meter::standing(&crate::meter::Standing {
                queued: self.queue.len(),
                snapshot_age: snapshot.map(|(age, _)| age),
                file_bytes: super::space::size_of(&self.config.opener.path),
                records: snapshot.and_then(|(_, records)| records),
            });
        }
    }

    pub(super) fn start_readers(self: &Arc<Self>) -> Result<()> {
        let shared = self.clone();
        spawn("fastsession-read", move || {
            let failed = |error: &Error, number| shared.reading_failed(error, number);
            shared.snapshots.serve(|| shared.file_soon(), failed);
        })?;
        let (sender, receiver) = mpsc::sync_channel::<Scan>(MAX_SCANS);
        *self.scans.lock() = Some(sender);
        let shared = self.clone();
        spawn("fastsession-scan", move || {
            for scan in receiver {
                scan(&shared);
            }
        })
    }

    /// A reader's error may mean that the file has to be opened again, if it has not been.
    pub(super) fn reading_failed(&self, error: &Error, number: u64) {
        if failure::needs_reopening(error) {
            self.give_up(number);
            self.queue.report_broken(number);
        }
    }

    /// Whether the disk may have no room for a larger file.
    pub(super) fn growth_is_doubtful(&self) -> bool {
        let Opener { growth, path, .. } = &self.config.opener;
        growth.is_doubtful(path)
    }

    /// Makes sure that file and application agree on who holds the keys.
    pub(super) fn settle_keys(self: &Arc<Self>) -> Result<()> {
        if self.config.key_ring.is_none() {
            return Ok(());
        }
        let (reply, waiter) = queue::reply();
        self.queue.push(Job::HoldKeys(reply));
        waiter.blocking_answer(self.config.wait)
    }

    /// The ring of the file as `snapshot` has it.
    pub(super) fn ring_of(&self, snapshot: &Snapshot) -> Result<KeyRing> {
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
    pub(super) async fn fresh(&self, until: tokio::time::Instant) -> Result<Arc<Snapshot>> {
        let waiting = self.snapshots.fresh();
        match tokio::time::timeout_at(until, waiting).await {
            Ok(Ok(snapshot)) => snapshot,
            Ok(Err(_)) => Err(Error::unavailable("the store was closed")),
            Err(_) => {
                let wait = self.config.wait;
                Err(Error::unavailable(format!("the session file cannot be read within {wait:?}")))
            }
        }
    }

    /// Runs `scan` on the scanning thread.
    pub(super) async fn scanned<T: Send + 'static>(
        self: Arc<Self>,
        scan: impl Fn(&Arc<Self>, &Snapshot) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = oneshot::channel();
        let job: Scan = Box::new(move |shared| {
            // Nobody waits for it any more.
            if sender.is_closed() {
                return;
            }
            let until = Instant::now() + shared.config.wait;
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
        match self.scans.lock().as_ref().map(|scans| scans.try_send(job)) {
            Some(Ok(())) => {}
            Some(Err(mpsc::TrySendError::Full(_))) => {
                return Err(Error::unavailable("the store has too much to do"));
            }
            _ => return Err(Error::unavailable("the store was closed")),
        }
        match tokio::time::timeout(self.config.wait, receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::unavailable("the store was closed")),
            Err(_) => {
                let wait = self.config.wait;
                Err(Error::unavailable(format!("the session file cannot be read within {wait:?}")))
            }
        }
    }
}
