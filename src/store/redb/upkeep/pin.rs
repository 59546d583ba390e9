//! Holding on to one moment of a file that others write to, without holding them up.
//!
//! A read transaction keeps the pages of its commit, and the header, read before and after it was
//! begun, says which commit that is. The transaction is begun on a handle that only reads, so that
//! not a byte of the file is changed, and no writer waits.
//!
//! What is kept cannot be used again, so that the file grows meanwhile, as fast as it is written
//! to. That has a bound, a quarter of the file or 64 MiB: past it, the [`Brake`] takes the lock of
//! writers for a fifth of a second at a time, lets go of it for as long as the file grows by a
//! sixteenth of the bound, and so on. Writers then wait, for less than they are willing to, and
//! what is done here gets by far the larger part of the disk.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redb::backends::FileBackend;
use redb::{Database, DatabaseError, ReadTransaction, ReadableDatabase, WriteTransaction};

use super::super::file::{OpenedBy, Opener};
use super::super::{failure, space};
use super::progress::Progress;
use super::view::{Head, View};
use crate::error::{Error, Kind, Result};

const LEAST_BOUND: u64 = 64 * 1024 * 1024;
/// How often the file's size is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// How long writers are held up at a time.
const SLICE: Duration = Duration::from_millis(200);
/// How long a lock is tried for before reading goes on.
const TRY: Duration = Duration::from_millis(20);

/// A file at one moment.
pub(super) struct Pinned {
    file: Arc<File>,
    head: Head,
    len: u64,
    brake: Arc<Mutex<Option<Brake>>>,
    progress: Progress,
    /// Keeps the pages of that moment; `None` if no process can have the file open, since it
    /// needs a repair first.
    kept: Option<(ReadTransaction, redb::ReadOnlyDatabase)>,
}

impl Pinned {
    /// Pins the last commit, within `wait`.
    pub(super) fn new(opener: &Opener, wait: Duration) -> Result<Self> {
        let file = opener.checked_file()?;
        let mut builder = Database::builder();
        builder.set_cache_size(0).set_concurrency_mode(redb::ConcurrencyMode::MultiWriter);
        let own = file.try_clone().map_err(|error| unreadable(opener, error))?;
        let backend = FileBackend::new(own).map_err(failure::before_commit)?;
        let opened = super::super::shield::caught(|| builder.open_read_only_with_backend(backend));
        match opened {
            Ok(Ok(database)) => Self::attached(opener, file, database, wait),
            Ok(Err(
                error @ (DatabaseError::DatabaseAlreadyOpen
                | DatabaseError::LockProtocolMismatch
                | DatabaseError::UpgradeRequired(_)),
            )) => Err(opener.refused(error)),
            // Whoever opens it next has to repair it first.
            Ok(Err(_)) | Err(_) => Self::held(opener, Arc::new(file)),
        }
    }

    fn attached(
        opener: &Opener,
        file: File,
        database: redb::ReadOnlyDatabase,
        wait: Duration,
    ) -> Result<Self> {
        let until = Instant::now() + wait;
        let read = || Head::read(&file).map_err(|error| unreadable(opener, error));
        loop {
            let head = read()?;
            let txn = database.begin_read().map_err(failure::before_commit)?;
            if !head.is_unflushed() && read()? == head {
                let len = len_of(opener, &file)?;
                let brake = Brake::new(opener, len);
                let brake = Arc::new(Mutex::new(Some(brake)));
                let kept = Some((txn, database));
                let (file, progress) = (Arc::new(file), opener.progress.clone());
                return Ok(Self { file, head, len, brake, progress, kept });
            }
            if Instant::now() >= until {
                let message = format!("no moment between two commits was met within {wait:?}");
                return Err(Error::new(Kind::InUse, message));
            }
            drop(txn);
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// The file of which the caller keeps every other process out.
    pub(super) fn held(opener: &Opener, file: Arc<File>) -> Result<Self> {
        let head = Head::read(&file).map_err(|error| unreadable(opener, error))?;
        let len = len_of(opener, &file)?;
        let progress = opener.progress.clone();
        Ok(Self { file, head, len, brake: Arc::default(), progress, kept: None })
    }

    /// Size of the file at that moment.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// How far the call is that holds on to the file.
    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Whether the file can still be the one of that moment.
    pub(super) fn is_valid(&self) -> bool {
        self.kept.is_some() || Head::read(&self.file).is_ok_and(|head| head == self.head)
    }

    /// The file, to be repaired by whoever opens it.
    pub(super) fn to_recover(&self) -> View {
        self.view(self.head.to_recover())
    }

    /// The file, to be read as it is, as far as it can be.
    pub(super) fn as_it_is(&self) -> View {
        self.view(self.head.as_closed()).leniently()
    }

    fn view(&self, head: Head) -> View {
        View::new(self.file.clone(), head, self.len, self.brake.clone(), self.progress.clone())
    }
}

fn len_of(opener: &Opener, file: &File) -> Result<u64> {
    file.metadata().map(|meta| meta.size()).map_err(|error| unreadable(opener, error))
}

fn unreadable(opener: &Opener, error: std::io::Error) -> Error {
    let path = opener.path.display();
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        return Error::new(Kind::Corrupt, format!("{path} is truncated")).with_source(error);
    }
    Error::unavailable(format!("{path} cannot be read")).with_source(error)
}

/// Bounds the growth of a file while a moment of it is kept.
pub(super) struct Brake {
    opener: Opener,
    looked: Instant,
    /// The size from which on writers are held up.
    limit: u64,
    /// What the limit grows by each time they are let go.
    step: u64,
    /// Opened when it is first needed.
    writer: Option<Database>,
    held: Option<(WriteTransaction, Instant)>,
}

impl std::fmt::Debug for Brake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Brake").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Brake {
    fn new(opener: &Opener, len: u64) -> Self {
        let bound = LEAST_BOUND.max(len / 4);
        let (limit, step) = (len + bound, bound / 16);
        let opener = opener.clone();
        Self { opener, looked: Instant::now(), limit, step, writer: None, held: None }
    }

    /// Holds writers up if the file has grown beyond its bound, and lets them go after a while.
    pub(super) fn look(&mut self) {
        if self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        if self.held.as_ref().is_some_and(|(_, since)| since.elapsed() >= SLICE) {
            self.held = None;
            self.limit = self.len().max(self.limit) + self.step;
        } else if self.held.is_none() && self.len() > self.limit {
            self.hold();
        }
    }

    fn len(&self) -> u64 {
        space::size_of(&self.opener.path).unwrap_or_default()
    }

    /// Failing to is no reason to stop reading.
    fn hold(&mut self) {
        if self.writer.is_none() {
            let path = self.opener.path.clone();
            let opener = self.opener.opening(path, OpenedBy::Neighbour);
            self.writer = opener.open_existing().ok();
        }
        let Some(database) = &self.writer else { return };
        let until = Instant::now() + TRY;
        while Instant::now() < until {
            if let Ok(txn) = database.try_begin_write() {
                self.held = Some((txn, Instant::now()));
                return;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RedbStore;

    #[test]
    fn rule_19_a_file_that_grows_too_much_holds_its_writers_up_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions.redb");
        let store = RedbStore::builder(&path).without_sweeping().open().unwrap();
        let builder = RedbStore::builder(&path);
        let opener = &builder.config.opener;
        let neighbour = opener.opening(path.clone(), OpenedBy::Neighbour).open_existing().unwrap();
        let mut brake = Brake::new(opener, std::fs::metadata(&path).unwrap().size());
        brake.looked -= LOOK;
        brake.look();
        assert!(neighbour.try_begin_write().is_ok(), "it has not grown");
        brake.limit = 1;
        brake.looked -= LOOK;
        brake.look();
        assert!(neighbour.try_begin_write().is_err(), "its writers wait");
        if let Some((_, since)) = &mut brake.held {
            *since -= SLICE;
        }
        brake.looked -= LOOK;
        brake.look();
        assert!(neighbour.try_begin_write().is_ok(), "it is their turn again");
        assert!(brake.limit > brake.len());
        drop(store);
    }
}
