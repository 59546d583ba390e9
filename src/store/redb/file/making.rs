//! Making a file: complete under another name, then linked to its own.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use redb::Database;
use rustix::fs::{Mode, OFlags};

use super::super::failure;
use super::super::regions::NewFile;
use super::super::tables::{self, FileState};
use super::Opener;
use crate::error::{Error, Kind, Result};
use crate::expiry::Timestamp;
use crate::keyring::KeyRing;
use crate::store::codec;

impl Opener {
    /// Makes a complete file and links it to its name; whether nobody was first.
    pub(super) fn create(&self, at: Timestamp) -> Result<bool> {
        let draft = Draft::new(&self.path)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::open(&draft.0, flags, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .map_err(|errno| self.cannot_create(&errno.into()))?;
        // Whatever the umask says.
        file.set_permissions(fs::Permissions::from_mode(self.mode))
            .map_err(|error| self.cannot_create(&error))?;
        let backend = NewFile(self.backend(file)?);
        let database =
            Database::builder().create_with_backend(backend).map_err(failure::before_commit)?;
        initialise(&database, &KeyRing::generate(at)?)?;
        database.close().map_err(failure::before_commit)?;
        match fs::hard_link(&draft.0, &self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(self.cannot_create(&error)),
            Ok(()) => self.sync_directory().map(|()| true),
        }
    }

    pub(in super::super) fn cannot_create(&self, error: &std::io::Error) -> Error {
        use std::io::ErrorKind as E;
        let path = self.shown();
        let kind = match error.kind() {
            E::NotFound => Kind::NotFound,
            E::PermissionDenied | E::ReadOnlyFilesystem => Kind::Forbidden,
            E::StorageFull | E::QuotaExceeded => Kind::Full,
            _ => Kind::Unavailable,
        };
        Error::new(kind, format!("{path} cannot be created: {error}"))
    }

    pub(in super::super) fn sync_directory(&self) -> Result<()> {
        File::open(directory_of(&self.path))
            .and_then(|directory| directory.sync_all())
            .map_err(|error| self.io("created", error))
    }
}

/// A file that is being made, removed again however that ends.
pub(in super::super) struct Draft(PathBuf);

impl Draft {
    pub(in super::super) fn path(&self) -> &Path {
        &self.0
    }

    pub(in super::super) fn new(path: &Path) -> Result<Self> {
        let mut random = [0; 8];
        crate::random::fill_random(&mut random)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let draft = format!(".{name}.{:016x}.new", u64::from_le_bytes(random));
        Ok(Self(directory_of(path).join(draft)))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // It was linked to its own name, or is of no use.
        let _ = fs::remove_file(&self.0);
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes every table, the key ring and the state, in one transaction.
fn initialise(database: &Database, ring: &KeyRing) -> Result<()> {
    let txn = database.begin_write().map_err(failure::before_commit)?;
    {
        txn.open_table(tables::SESSIONS).map_err(failure::before_commit)?;
        txn.open_table(tables::DEADLINES).map_err(failure::before_commit)?;
        txn.open_table(tables::USERS).map_err(failure::before_commit)?;
        txn.open_table(tables::ENDINGS).map_err(failure::before_commit)?;
        txn.open_table(tables::LOG).map_err(failure::before_commit)?;
        let mut keys = txn.open_table(tables::KEYS).map_err(failure::before_commit)?;
        let sealed = codec::seal(tables::RING.as_bytes(), &ring.encode());
        keys.insert(tables::RING, sealed.as_slice()).map_err(failure::before_commit)?;
        let mut meta = txn.open_table(tables::META).map_err(failure::before_commit)?;
        let state = FileState { ring_version: ring.version(), ..FileState::new() };
        meta.insert(tables::STATE, state.seal().as_slice()).map_err(failure::before_commit)?;
    }
    txn.commit().map_err(failure::in_commit)
}
