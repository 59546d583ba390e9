//! Opening and creating the file, and refusing what is not ours.
//!
//! The file is looked at through one descriptor, the one redb then works with, so that what was
//! checked is what is used. Nothing is written before every check has passed. A new file is made
//! complete under another name and then linked to its own, which fails if somebody else was
//! first: no process ever meets half a file.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{ConcurrencyMode, Database, DatabaseError, ReadableDatabase, StorageBackend};
use rustix::fs::{Mode, OFlags};

use super::migrate::migrate;
use super::regions::NewFile;
use super::shield::{caught, shielded};
use super::space::{self, Grown, Growth};
use super::tables::{self, FileState};
use super::upkeep::{Progress, verify};
use super::{codec, failure};
use crate::error::{Error, Kind, Result};
use crate::expiry::Timestamp;
use crate::keyring::KeyRing;

const REDB_MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// How to open the file; kept, since it is opened again after an I/O error.
#[derive(Clone, Debug)]
pub(super) struct Opener {
    pub(super) path: PathBuf,
    pub(super) exclusive: bool,
    pub(super) cache_size: usize,
    pub(super) mode: u32,
    pub(super) missing: Missing,
    pub(super) allow_network_filesystem: bool,
    pub(super) verify: bool,
    pub(super) older_schema: OlderSchema,
    /// Where the bytes are, if not in the file at `path`.
    pub(super) storage: Option<Storage>,
    pub(super) growth: Growth,
    /// Of a call on the whole file.
    pub(super) progress: Progress,
}

/// Makes a database on something other than a file: how faults are injected.
#[derive(Clone)]
pub(super) struct Storage(Arc<Opening>);

type Opening = dyn Fn(&redb::Builder, Growth) -> Opened + Send + Sync;

type Opened = Result<Database, DatabaseError>;

impl Storage {
    /// On what `backend` returns, at the first opening and at every further one.
    pub(super) fn new<B: StorageBackend>(
        backend: impl Fn() -> std::io::Result<B> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(move |builder, growth| {
            builder.create_with_backend(Grown::new(backend()?, None, growth))
        }))
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Storage(..)")
    }
}

/// What to do about a file that is, or is not, there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Create,
    Refuse,
    MustCreate,
}

/// What to do about a file of an older schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OlderSchema {
    Migrate,
    Keep,
}

fn inode(meta: std::io::Result<fs::Metadata>) -> Option<(u64, u64)> {
    meta.ok().map(|meta| (meta.dev(), meta.ino()))
}

/// Why a file is opened beside the one in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpenedBy {
    /// As another process would.
    Neighbour,
    /// Alone, with a look at all of it.
    Verifying,
    /// As a copy of the one in hand, to be made or read.
    Backup,
}

impl Opener {
    /// Opens the file, or creates it first, as configured.
    pub(super) fn open(&self, at: Timestamp) -> Result<Database> {
        let exists = self.storage.is_some() || fs::symlink_metadata(&self.path).is_ok();
        match self.missing {
            Missing::MustCreate if exists => {
                let message = format!("{} exists already", self.shown());
                return Err(Error::new(Kind::Invalid, message));
            }
            Missing::Create | Missing::MustCreate if !exists => self.create(at)?,
            _ => {}
        }
        self.open_existing()
    }

    /// Opens the file after an I/O error.
    pub(super) fn open_again(&self) -> Result<Database> {
        if self.storage.is_none() {
            space::forget_pages(&self.path);
        }
        self.open_existing()
    }

    /// Opens the file as it is, for the first time or again.
    pub(super) fn open_existing(&self) -> Result<Database> {
        let database = match &self.storage {
            Some(storage) => self.database(|builder| storage.0(builder, self.growth.clone()))?,
            None => self.open_file()?,
        };
        let state = self.read_state(&database)?;
        if self.older_schema == OlderSchema::Migrate && state.schema < tables::SCHEMA {
            migrate(&database, None)?;
        }
        if self.verify {
            verify(&database, &self.progress)?;
        }
        Ok(database)
    }

    fn open_file(&self) -> Result<Database> {
        loop {
            let file = self.checked_file()?;
            let looked_at = inode(file.metadata());
            let backend = self.backend(file)?;
            let database = self.database(|builder| builder.create_with_backend(backend))?;
            // Its place may have been taken while another process kept this one waiting.
            if inode(fs::metadata(&self.path)) == looked_at {
                return Ok(database);
            }
        }
    }

    fn backend(&self, file: File) -> Result<Grown<FileBackend>> {
        let own = file.try_clone().map_err(|error| self.io("opened", error))?;
        let own = Arc::new(own);
        self.growth.attach(&own);
        self.growth.is_doubtful(&self.path);
        let backend = FileBackend::new(file).map_err(failure::before_commit)?;
        let grown = Grown::new(backend, Some(own), self.growth.clone());
        Ok(if self.verify { grown.telling(&self.progress) } else { grown })
    }

    pub(super) fn checked_file(&self) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::open(&self.path, flags, Mode::empty())
            .map(File::from)
            .map_err(|errno| self.cannot_open(errno))?;
        self.check(&file)?;
        self.look_inside(&file)?;
        Ok(file)
    }

    /// Refuses another program's database, or that of a newer version, before redb writes to it,
    /// which it does on any opening but this. A file that needs a repair cannot be looked into.
    fn look_inside(&self, file: &File) -> Result<()> {
        let mut builder = Database::builder();
        builder.set_cache_size(0).set_concurrency_mode(self.mode());
        let look = || -> Option<Result<FileState>> {
            let backend = FileBackend::new(file.try_clone().ok()?).ok()?;
            Some(self.read_state(&builder.open_read_only_with_backend(backend).ok()?))
        };
        match caught(look) {
            Ok(Some(Err(error))) if error.is_invalid() || error.is_version_mismatch() => Err(error),
            // What else may be wrong shows when it is opened.
            _ => Ok(()),
        }
    }

    /// Whether the file is a session file of a version that can be used.
    fn read_state(&self, database: &impl ReadableDatabase) -> Result<FileState> {
        let path = self.shown();
        let read = || -> Result<FileState> {
            let txn = database.begin_read().map_err(failure::before_commit)?;
            let meta = txn.open_table(tables::META).map_err(|error| match error {
                redb::TableError::Storage(error) => failure::before_commit(error),
                other => {
                    let message = format!("{path} is a redb database, but not a session file");
                    Error::new(Kind::Invalid, message).with_source(other)
                }
            })?;
            let state = meta.get(tables::STATE).map_err(failure::before_commit)?;
            let state = state.ok_or_else(|| Error::new(Kind::Corrupt, "the file has no state"))?;
            let state = FileState::open(state.value())?;
            tables::all_there(&txn)?;
            Ok(state)
        };
        shielded(read)
    }

    /// How the file at `path` is opened in the course of work on this one.
    pub(super) fn opening(&self, path: PathBuf, by: OpenedBy) -> Self {
        Self {
            path,
            exclusive: by == OpenedBy::Verifying,
            verify: by == OpenedBy::Verifying,
            older_schema: OlderSchema::Keep,
            missing: Missing::Refuse,
            mode: if by == OpenedBy::Backup { 0o600 } else { self.mode },
            growth: match by {
                OpenedBy::Backup => Growth::of_a_copy(),
                _ => self.growth.anew(),
            },
            storage: None,
            ..self.clone()
        }
    }

    fn mode(&self) -> ConcurrencyMode {
        if self.exclusive { ConcurrencyMode::ExclusiveWriter } else { ConcurrencyMode::MultiWriter }
    }

    fn cannot_open(&self, errno: rustix::io::Errno) -> Error {
        use rustix::io::Errno;
        let path = self.shown();
        let (kind, why) = match errno {
            Errno::NOENT => (Kind::NotFound, format!("{path} does not exist")),
            Errno::LOOP => (Kind::Invalid, format!("{path} is a symbolic link; name its target")),
            Errno::ISDIR => (Kind::Invalid, format!("{path} is a directory, not a session file")),
            Errno::ACCESS | Errno::PERM => {
                (Kind::Forbidden, format!("no permission to read and write {path}"))
            }
            Errno::ROFS => (Kind::Forbidden, format!("{path} is on a read-only filesystem")),
            _ => (Kind::Unavailable, format!("{path} cannot be opened")),
        };
        Error::new(kind, why).with_source(std::io::Error::from(errno))
    }

    fn check(&self, file: &File) -> Result<()> {
        let path = self.shown();
        let invalid = |why: String| Err(Error::new(Kind::Invalid, why));
        let meta = file.metadata().map_err(|error| self.io("examined", error))?;
        if meta.is_dir() {
            return invalid(format!("{path} is a directory, not a session file"));
        }
        if !meta.is_file() {
            return invalid(format!("{path} is not a regular file"));
        }
        let mut head = Vec::new();
        file.take(16).read_to_end(&mut head).map_err(|error| self.io("read", error))?;
        if head.is_empty() {
            return invalid(format!("{path} is empty, not a session file"));
        }
        if head.starts_with(SQLITE_MAGIC) {
            return invalid(format!("{path} is an SQLite database, not a session file"));
        }
        if !head.starts_with(REDB_MAGIC) {
            return invalid(format!("{path} is not a session file"));
        }
        // Only now: whoever names another program's file is not told to change its mode.
        self.check_owner(&meta)?;
        self.check_filesystem(file)
    }

    fn check_owner(&self, meta: &fs::Metadata) -> Result<()> {
        let path = self.shown();
        let me = rustix::process::geteuid();
        if !me.is_root() && meta.uid() != me.as_raw() {
            let message = format!(
                "{path} belongs to user {}, this process runs as {}; run it as the file's owner",
                meta.uid(),
                me.as_raw()
            );
            return Err(Error::new(Kind::Forbidden, message));
        }
        let bits = meta.mode() & 0o777;
        if bits & 0o007 != 0 {
            let message = format!(
                "{path} is open to every user of this machine (mode {bits:03o}); \
                 `chmod o= {path}` closes it"
            );
            return Err(Error::new(Kind::Forbidden, message));
        }
        if bits & 0o070 & !self.mode != 0 {
            tracing::warn!(path = %path, mode = %format_args!("{bits:03o}"),
                "the session file is open to its group");
        }
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn check_filesystem(&self, file: &File) -> Result<()> {
        // NFS, SMB, SMB2, CIFS, 9P, Ceph, AFS, Coda, FUSE.
        const UNTRUSTED: [u32; 9] = [
            0x6969,
            0x517b,
            0xfe53_4d42,
            0xff53_4d42,
            0x0102_1997,
            0x00c3_6400,
            0x5346_414f,
            0x7375_7245,
            0x6573_5546,
        ];
        let kind = rustix::fs::fstatfs(file).map_err(|errno| self.io("examined", errno.into()))?;
        // The field's type differs between platforms; the magic numbers are 32 bits wide.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let magic = kind.f_type as u32;
        if self.allow_network_filesystem || !UNTRUSTED.contains(&magic) {
            return Ok(());
        }
        let message = format!(
            "{} is on a network or FUSE filesystem, whose locks cannot be relied on; keep it on \
             a local disk, or allow it by name with `allow_network_filesystem()`",
            self.shown()
        );
        Err(Error::new(Kind::Invalid, message))
    }

    #[cfg(not(target_os = "linux"))]
    fn check_filesystem(&self, _: &File) -> Result<()> {
        Ok(())
    }

    fn database(&self, open: impl FnOnce(&redb::Builder) -> Opened) -> Result<Database> {
        let mut builder = Database::builder();
        builder.set_cache_size(self.cache_size).set_concurrency_mode(self.mode());
        builder.set_check_integrity_on_open(self.verify);
        match caught(|| open(&builder)) {
            Ok(Ok(database)) => Ok(database),
            Ok(Err(error)) => Err(self.refused(error)),
            Err(_) => {
                Err(Error::new(Kind::Corrupt, format!("{} is damaged or truncated", self.shown())))
            }
        }
    }

    pub(super) fn refused(&self, error: redb::DatabaseError) -> Error {
        use redb::{DatabaseError as E, StorageError as S};
        let path = self.shown();
        let (kind, message) = match &error {
            E::DatabaseAlreadyOpen => {
                let how = if self.exclusive { "" } else { "exclusively " };
                (Kind::InUse, format!("{path} is held {how}by another process"))
            }
            E::LockProtocolMismatch => {
                (Kind::Version, format!("{path} is held by a process of an incompatible version"))
            }
            E::UpgradeRequired(version) => (
                Kind::Version,
                format!("{path} has file format {version}, which this version does not read"),
            ),
            E::Storage(S::Corrupted(_)) => {
                (Kind::Corrupt, format!("{path} is damaged or truncated"))
            }
            E::Storage(S::Io(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                (Kind::Corrupt, format!("{path} is truncated"))
            }
            E::Storage(S::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                (Kind::Corrupt, format!("{path} is damaged or truncated"))
            }
            _ => (Kind::Unavailable, format!("{path} cannot be opened")),
        };
        Error::new(kind, message).with_source(redb::Error::from(error))
    }

    /// Makes a complete file and links it to its name. Somebody else's being first is no error.
    fn create(&self, at: Timestamp) -> Result<()> {
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
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(self.cannot_create(&error)),
            Ok(()) => self.sync_directory(),
        }
    }

    pub(super) fn cannot_create(&self, error: &std::io::Error) -> Error {
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

    pub(super) fn sync_directory(&self) -> Result<()> {
        File::open(directory_of(&self.path))
            .and_then(|directory| directory.sync_all())
            .map_err(|error| self.io("created", error))
    }

    fn io(&self, what: &str, source: std::io::Error) -> Error {
        Error::unavailable(format!("{} cannot be {what}", self.shown())).with_source(source)
    }

    fn shown(&self) -> std::path::Display<'_> {
        self.path.display()
    }
}

/// A file that is being made, removed again however that ends.
pub(super) struct Draft(PathBuf);

impl Draft {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn new(path: &Path) -> Result<Self> {
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
