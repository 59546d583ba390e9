//! Service that goes on after a fault.
//!
//! After an I/O error redb refuses everything on its handle, for ever. The writer then closes it
//! and opens the file again: once right away, for which readers and what is queued wait, then with
//! a growing pause between attempts, in which whoever asks gets an error at once. When the fault is
//! gone service goes on. A panic of redb's is treated the same.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::super::shared::OpenFile;
use super::super::shield::shielded;
use super::Writer;
use crate::error::{Error, Result};
use crate::watch;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a call of another thread's on a handle that failed may go on.
const LONGEST_CALL: Duration = Duration::from_millis(50);

impl Writer<'_> {
    /// Closes the file and opens it again, until that succeeds or the store is closed.
    ///
    /// The first attempt is made at once, and what is queued waits for it: most faults (a disk
    /// that filled up and is read from) leave a file that opens.
    pub(super) fn reopen(&mut self, cause: &Error) {
        let span = watch::reopen();
        let _inside = span.enter();
        tracing::warn!(error = %cause, "the session file is being reopened");
        self.unflushed = None;
        self.shared.give_up(self.openings);
        let mut failed = self.shared.withdraw_file();
        let mut pause = FIRST_PAUSE;
        let mut attempts: u64 = 0;
        loop {
            attempts += 1;
            let opened = shielded(|| self.try_to_reopen(&mut failed));
            self.shared.retrying.store(opened.is_err(), Ordering::Release);
            let error = match opened {
                Ok(()) => {
                    span.record("attempts", attempts);
                    return tracing::info!("the session file is open again");
                }
                Err(error) => {
                    Error::unavailable("the session file cannot be reopened").with_source(error)
                }
            };
            self.shared.queue.pause(pause, &error);
            if self.shared.queue.is_closing() {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Closes `failed`, unless that is done, and opens the file.
    fn try_to_reopen(&mut self, failed: &mut Option<Arc<OpenFile>>) -> Result<()> {
        if let Some(file) = failed.take() {
            match alone_within(LONGEST_CALL, file) {
                Ok(file) => {
                    // Nobody begins another snapshot on that handle; this one keeps it in memory.
                    self.shared.snapshots.withdraw();
                    // All it still does is to let go of its locks.
                    drop(file);
                }
                Err(file) => {
                    *failed = Some(file);
                    return Err(still_read());
                }
            }
        }
        let database = self.shared.config.opener.open_again()?;
        self.openings += 1;
        self.shared.lend_file(self.openings, database);
        Ok(())
    }
}

/// Waits until no other thread is in a call on `file`.
///
/// Until then its locks are held. redb, opening the file beside that, would take it for one that
/// is in use and so consistent, and would not look at what a failed sync has left of it.
pub(super) fn alone_within(wait: Duration, file: Arc<OpenFile>) -> Result<OpenFile, Arc<OpenFile>> {
    let until = Instant::now() + wait;
    let mut tried = Arc::try_unwrap(file);
    loop {
        match tried {
            Err(file) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(1));
                tried = Arc::try_unwrap(file);
            }
            tried => return tried,
        }
    }
}

pub(super) fn still_read() -> Error {
    Error::unavailable("the session file is still being read")
}
