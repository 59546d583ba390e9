//! A file that is made complete under another name, and then put in its place.
//!
//! Whenever the process is killed, the place holds one whole file: the former, or the new one. All
//! that may be left over is a draft, `.NAME.….new`, which nothing reads.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{BackendError, Database, StorageBackend};
use std::ops::Bound;

use super::super::file::{Draft, OpenedBy, Opener};
use super::super::shield::caught;
use super::super::{failure, regions};
use super::view::View;
use crate::error::{Error, Kind, Result};
use crate::expiry::Timestamp;

const CHUNK: usize = 1 << 20;

/// A draft of the file that `opener` names.
pub(super) struct NewFile {
    draft: Draft,
    target: Opener,
    /// Also once it is under another name.
    file: File,
}

impl NewFile {
    pub(super) fn new(target: &Opener) -> Result<Self> {
        let draft = Draft::new(&target.path)?;
        let mut options = File::options();
        // Nobody else's from the beginning on.
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(draft.path()).map_err(|error| target.cannot_create(&error))?;
        file.set_permissions(fs::Permissions::from_mode(target.mode))
            .map_err(|error| target.cannot_create(&error))?;
        Ok(Self { draft, target: target.clone(), file })
    }

    /// Gives it the owner and mode of `former`, whose place it is to take.
    pub(super) fn like(self, former: &File) -> Result<Self> {
        let alike = || -> io::Result<()> {
            let (old, new) = (former.metadata()?, self.file.metadata()?);
            if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
                fchown(&self.file, Some(old.uid()), Some(old.gid()))?;
            }
            self.file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o770))
        };
        alike().map_err(|error| self.target.cannot_create(&error))?;
        Ok(self)
    }

    /// Copies every byte of `view`.
    pub(super) fn copy(&mut self, view: &View) -> Result<()> {
        let len = view.len().map_err(|error| self.target.cannot_create(&error))?;
        let mut chunk = vec![0; CHUNK];
        let mut at = 0;
        while at < len {
            let part = usize::try_from(len - at).map_or(CHUNK, |left| left.min(CHUNK));
            view.read(at, &mut chunk[..part])
                .and_then(|()| self.file.write_all(&chunk[..part]))
                .map_err(|error| self.target.cannot_create(&error))?;
            at += part as u64;
        }
        Ok(())
    }

    /// An empty database in it.
    pub(super) fn make(&self) -> Result<Database> {
        let backend = || {
            let own = self.file.try_clone().map_err(|error| self.target.cannot_create(&error))?;
            FileBackend::new(own).map_err(failure::before_commit)
        };
        // The header is made by one opening, and says to the next how the file grows.
        let header = regions::NewFile(backend()?);
        let make = || Database::builder().create_with_backend(header)?.close();
        caught(make)?.map_err(failure::before_commit)?;
        let backend = backend()?;
        let open = || Database::builder().create_with_backend(backend);
        caught(open)?.map_err(failure::before_commit)
    }

    /// The database that was copied into it, each page and row of which is looked at.
    pub(super) fn open(&self) -> Result<Database> {
        let path = self.draft.path().to_path_buf();
        self.target.opening(path, OpenedBy::Verifying).open_existing()
    }

    pub(super) fn len(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.len())
    }

    /// Links it to its name, where there must be nothing.
    pub(super) fn link(self) -> Result<()> {
        self.sync()?;
        fs::hard_link(self.draft.path(), &self.target.path).map_err(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists {
                exists(&self.target.path)
            } else {
                self.target.cannot_create(&error)
            }
        })?;
        self.target.sync_directory()
    }

    /// Takes the place of what has its name.
    pub(super) fn replace(self) -> Result<()> {
        self.sync()?;
        fs::rename(self.draft.path(), &self.target.path)
            .map_err(|error| self.target.cannot_create(&error))?;
        self.target.sync_directory()
    }

    /// The same, and keeps the former file as `NAME.WHY-TIME`, whose path it answers.
    pub(super) fn replace_and_keep(self, why: &str, at: Timestamp) -> Result<PathBuf> {
        let kept = self.keep(why, at)?;
        self.replace()?;
        Ok(kept)
    }

    fn keep(&self, why: &str, at: Timestamp) -> Result<PathBuf> {
        let name = self.target.path.file_name().unwrap_or_default().to_string_lossy();
        for number in 1.. {
            let again = if number == 1 { String::new() } else { format!("-{number}") };
            let kept = format!("{name}.{why}-{}{again}", compact_time(at));
            let kept = self.target.path.with_file_name(kept);
            match fs::hard_link(&self.target.path, &kept) {
                Ok(()) => return Ok(kept),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(self.target.cannot_create(&error)),
            }
        }
        unreachable!("there is no end of numbers")
    }

    fn sync(&self) -> Result<()> {
        self.target.growth.keep_room(&self.file);
        self.file.sync_all().map_err(|error| self.target.cannot_create(&error))
    }
}

pub(super) fn exists(path: &Path) -> Error {
    Error::new(Kind::Invalid, format!("{} exists already", path.display()))
}

/// `20260131T080000Z`
fn compact_time(at: Timestamp) -> String {
    let seconds = at.as_secs();
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // The civil calendar, counted from 1 March of the year 0.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Keeps every other process out of a file, whatever is in it.
pub(super) struct Alone {
    pub(super) file: Arc<File>,
    _locks: Database,
}

impl Alone {
    /// Fails with `is_in_use()` if another process has the file open.
    pub(super) fn with(opener: &Opener) -> Result<Self> {
        let file = opener.checked_file()?;
        let own = file.try_clone().map_err(|error| opener.cannot_create(&error))?;
        let locks = FileBackend::new(own).map_err(failure::before_commit)?;
        let backend = LocksOf { locks, bytes: InMemoryBackend::new() };
        let locked = caught(|| Database::builder().create_with_backend(backend))?;
        let opener = Opener { exclusive: true, ..opener.clone() };
        let locks = locked.map_err(|error| opener.refused(error))?;
        Ok(Self { file: Arc::new(file), _locks: locks })
    }
}

/// The locks of a file, and the bytes of none: what redb locks to have a file alone is redb's to
/// say, and the file may be too broken for it to open.
#[derive(Debug)]
struct LocksOf {
    locks: FileBackend,
    bytes: InMemoryBackend,
}

impl StorageBackend for LocksOf {
    fn len(&self) -> io::Result<u64> {
        self.bytes.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.bytes.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.bytes.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.locks.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.locks.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.locks.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.locks.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.locks.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.locks.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.locks.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_names_are_dates() {
        let text = |seconds: i64| compact_time(Timestamp::from_millis(seconds * 1000));
        assert_eq!(text(0), "19700101T000000Z");
        assert_eq!(text(1_700_000_000), "20231114T221320Z");
        assert_eq!(text(1_709_164_799), "20240228T235959Z");
        assert_eq!(text(1_709_164_800), "20240229T000000Z");
        assert_eq!(text(-1), "19691231T235959Z");
    }
}
