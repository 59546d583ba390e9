//! Opening and creating the file, and refusing what is not ours.
//!
//! The file is looked at through one descriptor, the one redb then works with, so that what was
//! checked is what is used. Nothing is written before every check has passed. A new file is made
//! complete under another name and then linked to its own, which fails if somebody else was
//! first: no process ever meets half a file.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{ConcurrencyMode, Database, DatabaseError, StorageBackend};

use super::failure;
use super::migrate::migrate;
use super::shield::caught;
use super::space::{self, Grown, Growth};
use super::tables;
use super::upkeep::{Progress, verify};
use crate::error::{Error, Kind, Result};
use crate::expiry::Timestamp;

mod checks;
mod making;

pub(super) use making::Draft;

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
            Missing::MustCreate if exists => return Err(self.exists()),
            Missing::Create | Missing::MustCreate if !exists => {
                // Somebody else may have been first.
                let is_own = self.create(at)?;
                if !is_own && self.missing == Missing::MustCreate {
                    return Err(self.exists());
                }
            }
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

    fn exists(&self) -> Error {
        Error::new(Kind::Invalid, format!("{} exists already", self.shown()))
    }

    fn io(&self, what: &str, source: std::io::Error) -> Error {
        Error::unavailable(format!("{} cannot be {what}", self.shown())).with_source(source)
    }

    fn shown(&self) -> std::path::Display<'_> {
        self.path.display()
    }
}
