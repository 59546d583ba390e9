//! Checking a file as it is at one moment.

use std::error::Error as _;
use std::time::Duration;

use redb::{Database, ReadTransaction, ReadableDatabase};

use super::super::failure;
use super::super::file::Opener;
use super::super::shield::caught;
use super::pin::Pinned;
use super::progress::{Progress, Step};
use super::report::{CheckReport, Damage};
use super::walk::walk;
use super::within;
use crate::error::{Error, Result};

const CACHE_BYTES: usize = 32 * 1024 * 1024;
/// How often a file that needs a repair is looked at again, if it was changed meanwhile.
const ATTEMPTS: usize = 3;

pub(super) fn check(opener: &Opener, wait: Duration) -> Result<CheckReport> {
    for _ in 0..ATTEMPTS {
        let pinned = within(wait, opener, move |opener| Pinned::new(opener, wait))?;
        let report = examine(&pinned);
        opener.progress.go_on()?;
        if pinned.is_valid() {
            return Ok(report);
        }
    }
    let path = opener.path.display();
    Err(Error::unavailable(format!("{path} was opened and repaired while it was checked")))
}

/// What is damaged at that moment, unless it is stopped.
pub(super) fn examine(pinned: &Pinned) -> CheckReport {
    let mut report = CheckReport::default();
    let progress = pinned.progress();
    match open_verified(pinned) {
        Ok(database) => look_around(&database, &mut report, progress),
        Err(error) => {
            let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            report.find(Damage::Pages, None, format!("pages are damaged: {why}"));
            look_at_what_is_left(pinned, &mut report);
        }
    }
    report
}

/// Opens the file after a look at every page of it.
pub(super) fn open_verified(pinned: &Pinned) -> Result<Database> {
    let mut builder = builder();
    builder.set_check_integrity_on_open(true);
    pinned.progress().begin(Step::Verifying, pinned.len());
    let view = pinned.to_recover();
    opened(|| builder.create_with_backend(view))
}

/// Reads the file without looking at the checksums of pages.
pub(super) fn open_as_it_is(pinned: &Pinned) -> Result<redb::ReadOnlyDatabase> {
    let mut builder = builder();
    builder.set_concurrency_mode(redb::ConcurrencyMode::MultiWriter);
    let view = pinned.as_it_is();
    opened(|| builder.open_read_only_with_backend(view))
}

fn look_at_what_is_left(pinned: &Pinned, report: &mut CheckReport) {
    match open_as_it_is(pinned) {
        Ok(database) => look_around(&database, report, pinned.progress()),
        Err(error) => {
            report.find(Damage::Pages, None, format!("nothing can be read: {error}"));
        }
    }
}

fn look_around(database: &impl ReadableDatabase, report: &mut CheckReport, progress: &Progress) {
    match begin(database) {
        Ok(txn) => walk(&txn, report, progress),
        Err(error) => report.find(Damage::Pages, None, format!("nothing can be read: {error}")),
    }
}

fn begin(database: &impl ReadableDatabase) -> Result<ReadTransaction> {
    caught(|| database.begin_read())?.map_err(failure::before_commit)
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn opened<T>(open: impl FnOnce() -> Result<T, redb::DatabaseError>) -> Result<T> {
    caught(open)?.map_err(failure::before_commit)
}
