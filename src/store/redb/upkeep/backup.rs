//! Copying a file that is in use, and putting a copy in the place of a file.
//!
//! A backup is the bytes of the file as they are at one moment ([`Pinned`]), read from beginning to
//! end as fast as the disk gives them: no writer waits, and the file grows by what is written in
//! that time, within a bound (see [`pin`](super::pin)). Copying rows instead would keep the moment
//! ten times as long; copying bytes under the lock of writers would stop them for as long as it
//! takes; copying bytes without either gives a file that never was. The copy is then opened, every
//! page and row of it is looked at, and only then it gets its name.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};

use super::super::batch::{Batch, Sweeping};
use super::super::file::{OpenedBy, Opener};
use super::super::log::Noting;
use super::super::shield::caught;
use super::super::{codec, failure, tables};
use super::check::open_as_it_is;
use super::draft::{Alone, NewFile, exists};
use super::pin::Pinned;
use super::progress::Step;
use super::within;
use crate::error::{Error, Kind, Result};
use crate::expiry::Timestamp;
use crate::record::EndedBy;
use crate::store::events::Notes;
use crate::store::{End, Note, Tally, Target};

/// When a backup was made, in the table of the file's state.
const COPIED: &str = "copied";
const ATTEMPTS: usize = 3;

/// What [`backup`](crate::store::RedbStoreBuilder::backup) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackedUp {
    /// Size of the copy.
    pub bytes: u64,
    /// Records in it.
    pub records: u64,
}

/// What [`restore`](crate::store::RedbStoreBuilder::restore) did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// When the backup was made; `None` if the file does not say.
    pub copied_at: Option<Timestamp>,
    /// Records in it.
    pub records: u64,
    /// Whether everyone's sessions were ended in it.
    pub everyone_ended: bool,
    /// Where the former file is now, if there was one.
    pub kept: Option<PathBuf>,
}

pub(super) fn backup(
    opener: &Opener,
    wait: Duration,
    to: &Path,
    at: Timestamp,
) -> Result<BackedUp> {
    if fs::symlink_metadata(to).is_ok() {
        return Err(exists(to));
    }
    let target = opener.opening(to.to_path_buf(), OpenedBy::Backup);
    let (new, database) = copied(opener, wait, &target)?;
    let records = changed(&database, |txn| {
        let mut meta = txn.open_table(tables::META).map_err(failure::before_commit)?;
        let value = codec::seal(COPIED.as_bytes(), &at.as_millis().to_le_bytes());
        meta.insert(COPIED, value.as_slice()).map(drop).map_err(failure::before_commit)
    })?;
    database.close().map_err(failure::before_commit)?;
    opener.progress.go_on()?;
    let bytes = new.len();
    new.link()?;
    Ok(BackedUp { bytes, records })
}

/// A draft of `target` with what `source` holds at one moment, found sound, and open.
fn copied(source: &Opener, wait: Duration, target: &Opener) -> Result<(NewFile, Database)> {
    for _ in 0..ATTEMPTS {
        let mut new = NewFile::new(target)?;
        let pinned = within(wait, source, move |source| Pinned::new(source, wait))?;
        source.progress.begin(Step::Copying, pinned.len());
        let copied = new.copy(&pinned.to_recover());
        source.progress.go_on()?;
        copied?;
        source.progress.begin(Step::Verifying, pinned.len());
        if !pinned.is_valid() {
            continue;
        }
        drop(pinned);
        let opened = new.open();
        source.progress.go_on()?;
        let database = opened.map_err(|error| {
            if !error.is_corrupt() {
                return error;
            }
            let path = source.path.display();
            let message = format!("{path} is damaged, so that no copy of it would be sound");
            Error::new(Kind::Corrupt, message).with_source(error)
        })?;
        return Ok((new, database));
    }
    let path = source.path.display();
    Err(Error::unavailable(format!("{path} was opened and repaired while it was copied")))
}

/// Carries out `change` in one transaction, and counts the records.
fn changed(
    database: &Database,
    change: impl FnOnce(&WriteTransaction) -> Result<()>,
) -> Result<u64> {
    let mut txn = database.begin_write().map_err(failure::before_commit)?;
    txn.set_quick_repair(true);
    change(&txn)?;
    let records = {
        let sessions = txn.open_table(tables::SESSIONS).map_err(failure::before_commit)?;
        redb::ReadableTableMetadata::len(&sessions).map_err(failure::before_commit)?
    };
    txn.commit().map_err(failure::in_commit)?;
    Ok(records)
}

/// When the file was made by a backup, if it was.
pub(super) fn copied_at(opener: &Opener, wait: Duration) -> Result<Option<Timestamp>> {
    let pinned = within(wait, opener, move |opener| Pinned::new(opener, wait))?;
    let database = open_as_it_is(&pinned)?;
    caught(|| read_copied_at(&database.begin_read().map_err(failure::before_commit)?))?
}

fn read_copied_at(txn: &ReadTransaction) -> Result<Option<Timestamp>> {
    let meta = txn.open_table(tables::META).map_err(failure::before_commit)?;
    let Some(value) = meta.get(COPIED).map_err(failure::before_commit)? else { return Ok(None) };
    let millis = codec::open(COPIED.as_bytes(), value.value())?;
    Ok(millis.try_into().ok().map(|millis| Timestamp::from_millis(i64::from_le_bytes(millis))))
}

/// What [`restore`] is told.
pub(super) struct Restore<'a> {
    pub(super) from: &'a Path,
    pub(super) end_everyone: bool,
    pub(super) note: Option<&'a Note>,
    pub(super) at: Timestamp,
    pub(super) keep_ended: Duration,
}

pub(super) fn restore(target: &Opener, wait: Duration, restore: &Restore<'_>) -> Result<Restored> {
    let exists = fs::symlink_metadata(&target.path).is_ok();
    let alone = if exists { Some(Alone::with(target)?) } else { None };
    let source = target.opening(restore.from.to_path_buf(), OpenedBy::Backup);
    let copied_at = copied_at(&source, wait)?;
    let (new, database) = copied(&source, wait, target)?;
    let new = match &alone {
        Some(alone) => new.like(&alone.file)?,
        None => new,
    };
    let records = changed(&database, |txn| {
        {
            // It is no backup any more.
            let mut meta = txn.open_table(tables::META).map_err(failure::before_commit)?;
            meta.remove(COPIED).map_err(failure::before_commit)?;
        }
        let mut batch =
            Batch::begin(txn, restore.keep_ended, None, Notes::default(), Sweeping::default())?;
        if restore.end_everyone {
            let (target, by, at) = (Target::Everyone, EndedBy::Cli, restore.at);
            batch.end(&End { target, except: None, by, at })?;
        }
        if let Some(note) = restore.note {
            batch.note(&Noting::new(note.clone())?, Tally::default())?;
        }
        batch.finish().map(drop)
    })?;
    database.close().map_err(failure::before_commit)?;
    target.progress.go_on()?;
    let kept = if exists {
        Some(new.replace_and_keep("replaced", restore.at)?)
    } else {
        new.link()?;
        None
    };
    drop(alone);
    Ok(Restored { copied_at, records, everyone_ended: restore.end_everyone, kept })
}
