//! Looking after a file as a whole: [`check`](RedbStoreBuilder::check) and what is done about it.
//!
//! These calls block, and need no store to be open; most work beside processes that have one. Each
//! opens the file on its own, as another process would.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::Duration;

use super::builder::RedbStoreBuilder;
use super::failure;
use super::file::Opener;
use super::shared::spawn;
use crate::error::{Error, Kind, Result};

mod check;
mod pin;
mod report;
mod view;
mod walk;

pub use self::report::{CheckReport, Damage, Finding};
pub(super) use self::walk::verify;

impl RedbStoreBuilder {
    /// Walks the whole file as it is at one moment: its pages, every record, the indexes against
    /// the records and the records against the indexes, keys, endings, state and log.
    ///
    /// Changes no byte, and works beside processes that use the file; they are not held up unless
    /// the file grows by more than a quarter, or 64 MiB, while it is read. Takes seconds for a
    /// million sessions. Fails if the file cannot be looked at at all: `is_not_found()`,
    /// `is_in_use()` (held exclusively), `is_invalid()` (no session file), `is_forbidden()`,
    /// `is_version_mismatch()`.
    ///
    /// ```no_run
    /// let report = fastsession::RedbStore::builder("sessions.redb").check()?;
    /// for finding in &report.findings {
    ///     eprintln!("{}: {}", finding.damage.as_str(), finding.detail);
    /// }
    /// # Ok::<(), fastsession::Error>(())
    /// ```
    pub fn check(&self) -> Result<CheckReport> {
        check::check(&self.config.opener, self.config.wait)
    }
}

/// Runs `call`, in which redb may panic where a broken page makes no sense to it.
fn caught<T>(call: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| failure::panicked())
}

/// Runs `call`, which another process may keep waiting, on a thread of its own, for at most `wait`.
fn within<T: Send + 'static>(
    wait: Duration,
    opener: &Opener,
    call: impl FnOnce(&Opener) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let own = opener.clone();
    spawn("fastsession-open", move || {
        let _ = sender.send(call(&own));
    })?;
    match receiver.recv_timeout(wait) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            let path = opener.path.display();
            let message =
                format!("{path} is locked by another process, which did not let go for {wait:?}");
            Err(Error::new(Kind::InUse, message))
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(failure::panicked()),
    }
}
