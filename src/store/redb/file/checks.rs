//! Refusing what is not ours, and saying why.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase};
use rustix::fs::{Mode, OFlags};

use super::super::failure;
use super::super::shield::{caught, shielded};
use super::super::tables::{self, FileState};
use super::Opener;
use crate::error::{Error, Kind, Result};

const REDB_MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

impl Opener {
    pub(in super::super) fn checked_file(&self) -> Result<File> {
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
    pub(super) fn read_state(&self, database: &impl ReadableDatabase) -> Result<FileState> {
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

    pub(in super::super) fn refused(&self, error: redb::DatabaseError) -> Error {
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
}
