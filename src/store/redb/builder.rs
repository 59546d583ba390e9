//! How a store is configured, and opened.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::file::{Missing, OlderSchema, Opener, Storage};
use super::shared::{Shared, spawn};
use super::space::Growth;
use super::upkeep::Progress;
use super::{Handle, RedbStore, failure, writer};
use crate::error::{Error, Kind, Result};
use crate::expiry::Clock;
use crate::keyring::KeyRing;
use crate::store::DEFAULT_KEEP_ENDED;

const DEFAULT_CACHE_BYTES: usize = 64 * 1024 * 1024;
const DEFAULT_MAX_FILE_BYTES: u64 = 8 * 1024 * 1024 * 1024;
const DEFAULT_WAIT: Duration = Duration::from_secs(5);

/// When a commit that was answered is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Before it is answered.
    Immediate,
    /// At most this much later, for changes of data; a power cut, or an error of the disk's, loses
    /// what is younger. A logout,
    /// login, renewal or change of keys is on disk before it is answered all the same. Only with
    /// [`RedbStoreBuilder::exclusive`].
    Interval(Duration),
}

/// Configures a [`RedbStore`].
#[derive(Clone, Debug)]
#[must_use = "a builder opens nothing until `open` is called"]
pub struct RedbStoreBuilder {
    pub(super) config: Config,
}

/// What a builder was told.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) opener: Opener,
    pub(super) clock: Clock,
    pub(super) wait: Duration,
    pub(super) keep_ended: Duration,
    pub(super) max_file_bytes: u64,
    pub(super) durability: Durability,
    /// `None` leaves sweeping to others.
    pub(super) sweep_interval: Option<Duration>,
    /// The application's own keys.
    pub(super) key_ring: Option<KeyRing>,
}

impl RedbStoreBuilder {
    pub(super) fn new(path: &Path) -> Self {
        let opener = Opener {
            path: path.to_path_buf(),
            exclusive: false,
            cache_size: DEFAULT_CACHE_BYTES,
            mode: 0o600,
            missing: Missing::Create,
            allow_network_filesystem: false,
            verify: false,
            older_schema: OlderSchema::Migrate,
            storage: None,
            growth: Growth::default(),
            progress: Progress::default(),
        };
        let config = Config {
            opener,
            clock: Clock::system(),
            wait: DEFAULT_WAIT,
            keep_ended: DEFAULT_KEEP_ENDED,
            max_file_bytes: DEFAULT_MAX_FILE_BYTES,
            durability: Durability::Immediate,
            sweep_interval: Some(Duration::from_secs(60)),
            key_ring: None,
        };
        Self { config }
    }

    /// Keeps every other process out, the command-line tool too, for more speed.
    pub fn exclusive(mut self) -> Self {
        self.config.opener.exclusive = true;
        self
    }

    /// Bytes of pages kept in memory. Default: 64 MiB.
    pub fn cache_size(mut self, bytes: usize) -> Self {
        self.config.opener.cache_size = bytes;
        self
    }

    /// When an answered commit is on disk. Default: before it is answered.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.config.durability = durability;
        self
    }

    /// Permission bits of a new file; bits for others are refused. Default: `0o600`.
    pub fn mode(mut self, mode: u32) -> Self {
        self.config.opener.mode = mode;
        self
    }

    /// Fails with `is_not_found()` if there is no file, instead of creating one.
    pub fn must_exist(mut self) -> Self {
        self.config.opener.missing = Missing::Refuse;
        self
    }

    /// Fails with `is_invalid()` if there is a file already.
    pub fn create_new(mut self) -> Self {
        self.config.opener.missing = Missing::MustCreate;
        self
    }

    /// Uses a file on a network or FUSE filesystem, whose locks may not keep two writers apart.
    pub fn allow_network_filesystem(mut self) -> Self {
        self.config.opener.allow_network_filesystem = true;
        self
    }

    /// Walks the whole file before it is used, every page and record and the tables against each
    /// other, and fails with `is_corrupt()` if anything is damaged or has gone missing. Takes
    /// seconds for a million sessions, during which no other process writes; allow for it with
    /// [`wait`](Self::wait).
    pub fn verify_on_open(mut self) -> Self {
        self.config.opener.verify = true;
        self
    }

    /// Takes a file of an older schema as it is, as a tool does that only looks at it. By default
    /// what the schema lacks is added.
    pub fn without_migrating(mut self) -> Self {
        self.config.opener.older_schema = OlderSchema::Keep;
        self
    }

    /// Reads the time from `clock`. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.config.clock = clock;
        self
    }

    /// How long a call waits for the file, a lock or a commit. Default: 5 seconds.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.config.wait = wait;
        self
    }

    /// Keeps the header of an ended session for `keep`. Default: 24 hours.
    pub fn keep_ended(mut self, keep: Duration) -> Self {
        self.config.keep_ended = keep;
        self
    }

    /// The most bytes the file may have. Once it has no free pages and would have more if it grew,
    /// by up to 240 MiB at a time, new and growing sessions are refused with `is_full()`. The others
    /// are served, endings are carried out, and what a purge frees is for newcomers again. Default:
    /// 8 GiB.
    ///
    /// For endings, and changes that leave a session as large as it is, the file may grow once more
    /// if it has to.
    pub fn max_file_bytes(mut self, bytes: u64) -> Self {
        self.config.max_file_bytes = bytes;
        self
    }

    /// Sweeps what is over this often. Default: every minute.
    pub fn sweep_interval(mut self, interval: Duration) -> Self {
        self.config.sweep_interval = Some(interval);
        self
    }

    /// Leaves sweeping to other processes on the same file, as a tool does.
    pub fn without_sweeping(mut self) -> Self {
        self.config.sweep_interval = None;
        self
    }

    /// Signs with the application's own keys instead of the file's. The file then says so, and
    /// the command-line tool leaves keys alone.
    ///
    /// From then on every process that serves from this file has to bring them: one that does not
    /// answers whoever has a cookie, or is to get one, with an error
    /// (`is_keys_held_by_application()`). The way back is a new file, by the tool's `export` and
    /// `import`, and its `key import`.
    pub fn key_ring(mut self, ring: KeyRing) -> Self {
        self.config.key_ring = Some(ring);
        self
    }

    /// Keeps the bytes of a session file on what `backend` returns, at the first opening and at
    /// every further one, instead of in the file at the path. For tests that inject faults.
    #[doc(hidden)]
    pub fn storage<B: redb::StorageBackend>(
        mut self,
        backend: impl Fn() -> std::io::Result<B> + Send + Sync + 'static,
    ) -> Self {
        self.config.opener.storage = Some(Storage::new(backend));
        self
    }

    /// Opens the file and starts the store's threads.
    pub fn open(mut self) -> Result<RedbStore> {
        self.check_options()?;
        self.config.opener.growth = self.config.opener.growth.anew();
        let wait = self.config.wait;
        let (opened, opening) = mpsc::sync_channel(1);
        let shared = Arc::new(Shared::new(self.config));
        let writer = {
            let shared = shared.clone();
            move || {
                let result = shared.config.opener.open(shared.config.clock.now());
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
            Err(RecvTimeoutError::Timeout) => {
                shared.queue.close(None);
                let path = shared.config.opener.path.display();
                // Nothing else takes as long, but for a walk through the whole file.
                let message = if shared.config.opener.verify {
                    format!("{path} was not verified within {wait:?}, or another process locks it")
                } else {
                    format!(
                        "{path} is locked by another process, which did not let go for {wait:?}"
                    )
                };
                return Err(Error::new(Kind::InUse, message));
            }
            Err(RecvTimeoutError::Disconnected) => return Err(failure::panicked()),
        }
        // Closes the file again, whatever fails from here on.
        let store = RedbStore { _handle: Arc::new(Handle(shared.clone())), shared, noting: None };
        store.shared.start_readers()?;
        store.shared.settle_keys()?;
        Ok(store)
    }

    fn check_options(&self) -> Result<()> {
        let invalid = |why| Err(Error::new(Kind::Invalid, why));
        if self.config.opener.mode & !0o770 != 0 {
            return invalid("a session file's mode has bits for its owner and group only");
        }
        if matches!(self.config.durability, Durability::Interval(_))
            && !self.config.opener.exclusive
        {
            return invalid("`Durability::Interval` needs `exclusive()`");
        }
        Ok(())
    }
}
