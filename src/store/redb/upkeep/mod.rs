//! Looking after a file as a whole: [`check`](RedbStoreBuilder::check) and what is done about it.
//!
//! These calls block, and need no store to be open; most work beside processes that have one. Each
//! opens the file on its own, as another process would.

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use self::backup::Restore;
use super::builder::{Config, RedbStoreBuilder};
use super::failure;
use super::file::{OpenedBy, Opener};
use super::migrate::{Migrated, migrate};
use super::shared::spawn;
use crate::error::{Error, Kind, Result};
use crate::expiry::Timestamp;
use crate::store::Note;

mod backup;
mod check;
mod draft;
mod pin;
mod progress;
mod rebuild;
mod report;
mod view;
mod walk;

pub use self::backup::{BackedUp, Restored};
pub use self::progress::{Progress, Step};
pub use self::rebuild::{Compacted, Repaired};
pub use self::report::{CheckReport, Damage, Finding};
pub(super) use self::walk::verify;

/// How often whoever waits for a lock looks whether to go on.
const LOOK: Duration = Duration::from_millis(50);

impl RedbStoreBuilder {
    /// Tells `progress` how far the calls on the whole file are, which it can stop.
    pub fn progress(mut self, progress: &Progress) -> Self {
        self.config.opener.progress = progress.clone();
        self
    }

    /// Walks the whole file as it is at one moment: its pages, every record, the indexes against
    /// the records and the records against the indexes, keys, endings, state and log.
    ///
    /// Changes nothing that is stored, and works beside processes that use the file; they are not held
    /// up unless the file grows by more than a quarter, or 64 MiB, while it is read. Takes seconds for a
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

    /// Saves what can be read of a damaged file, keys and log too, into a new one that takes its
    /// place; the broken one is kept beside it as `NAME.broken-TIME`. Does nothing to a sound file.
    ///
    /// Needs the file alone: `is_in_use()` if another process has it open. Where what ended
    /// sessions cannot be read, everyone's are ended, so that none comes back to life.
    pub fn repair(&self, note: Option<&Note>) -> Result<Repaired> {
        rebuild::repair(&self.config.opener, note, self.config.clock.now())
    }

    /// Writes the file anew, as small as what it holds. Needs the file alone (`is_in_use()`), and
    /// room for the new file beside it. `is_corrupt()` if it is damaged; it is then left as it is.
    pub fn compact(&self, note: Option<&Note>) -> Result<Compacted> {
        rebuild::compact(&self.config.opener, note, self.config.clock.now())
    }

    /// Copies the file, as it is at one moment, to `to`, where there must be nothing yet, readable
    /// by its owner only. Works beside processes that use the file, and holds none of them up
    /// unless the file grows by more than a quarter, or 64 MiB, meanwhile.
    ///
    /// The copy is looked at as by [`check`](Self::check) before it gets its name; `is_corrupt()`
    /// if the file is damaged. `is_full()` if there is no room for it; nothing is left then.
    pub fn backup(&self, to: impl AsRef<Path>) -> Result<BackedUp> {
        let now = self.config.clock.now();
        backup::backup(&self.config.opener, self.config.wait, to.as_ref(), now)
    }

    /// When the file was made by [`backup`](Self::backup); `None` if it was not, or has been
    /// restored since.
    pub fn copied_at(&self) -> Result<Option<Timestamp>> {
        backup::copied_at(&self.config.opener, self.config.wait)
    }

    /// Puts a copy of the backup `from` in the place of the file, which need not exist; the former
    /// one is kept beside it as `NAME.replaced-TIME`.
    ///
    /// What ended since the backup was made lives again, and keys are those of that time. With
    /// `end_everyone` all sessions in it are ended before it takes the place. Needs the file alone:
    /// `is_in_use()`. `is_corrupt()` if the backup is damaged; nothing is changed then.
    pub fn restore(
        &self,
        from: impl AsRef<Path>,
        end_everyone: bool,
        note: Option<&Note>,
    ) -> Result<Restored> {
        let Config { opener, clock, wait, keep_ended, .. } = &self.config;
        let (from, at, keep_ended) = (from.as_ref(), clock.now(), *keep_ended);
        let restore = Restore { from, end_everyone, note, at, keep_ended };
        backup::restore(opener, *wait, &restore)
    }

    /// Brings a file of an older version to this version's schema, beside processes that use it.
    ///
    /// `is_version_mismatch()` if it is of a newer version.
    pub fn migrate(&self, note: Option<&Note>) -> Result<Migrated> {
        let opener =
            self.config.opener.opening(self.config.opener.path.clone(), OpenedBy::Neighbour);
        let note = note.cloned();
        within(self.config.wait, &opener, move |opener| {
            let database = opener.open_existing()?;
            let migrated = migrate(&database, note.as_ref())?;
            database.close().map_err(failure::before_commit)?;
            Ok(migrated)
        })
    }
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
    let until = Instant::now() + wait;
    let received = loop {
        let left = until.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(left.min(LOOK)) {
            Err(mpsc::RecvTimeoutError::Timeout) if !left.is_zero() => opener.progress.go_on()?,
            received => break received,
        }
    };
    match received {
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
