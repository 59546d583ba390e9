//! How far a long call on a file is, told to whoever waits for it, who may also stop it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use crate::error::{Error, Result};

/// How far a call on a whole file is, such as [`check`](crate::store::RedbStoreBuilder::check) or
/// [`backup`](crate::store::RedbStoreBuilder::backup), and a way to stop it. Clones are one.
///
/// A call that is stopped fails with `is_unavailable()`, and has changed nothing: what takes the
/// place of a file does so in one step, which is the last.
///
/// ```
/// use fastsession::store::Progress;
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("sessions.redb");
/// # drop(fastsession::RedbStore::open(&path)?);
/// let progress = Progress::default();
/// let builder = fastsession::RedbStore::builder(&path).progress(&progress);
/// let checking = std::thread::spawn(move || builder.check());
/// // What another thread may do meanwhile: look at `progress.now()`, and at last
/// progress.stop();
/// # let _ = checking.join();
/// # Ok::<(), fastsession::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// A [`Step`] by its code; 0 before the first.
    step: AtomicU8,
    done: AtomicU64,
    total: AtomicU64,
    is_stopped: AtomicBool,
}

/// What a call on a whole file is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Copying the file; counted in bytes.
    Copying,
    /// Comparing pages with their checksums; counted in bytes. Less than the whole, where some of
    /// the file is free.
    Verifying,
    /// Comparing records and indexes with each other; counted in rows.
    Comparing,
    /// Writing records to a new file; counted in rows.
    Writing,
}

impl Step {
    const ALL: [Self; 4] = [Self::Copying, Self::Verifying, Self::Comparing, Self::Writing];
}

impl Progress {
    /// Asks the call to stop. Whatever it reads or visits next is its last.
    pub fn stop(&self) {
        self.0.is_stopped.store(true, Ordering::SeqCst);
    }

    /// Whether [`stop`](Self::stop) was called.
    pub fn is_stopped(&self) -> bool {
        self.0.is_stopped.load(Ordering::SeqCst)
    }

    /// What is being done, how much of it is, and how much there is; `None` before it begins.
    pub fn now(&self) -> Option<(Step, u64, u64)> {
        let State { step, done, total, .. } = &*self.0;
        let index = usize::from(step.load(Ordering::Acquire)).checked_sub(1)?;
        let (done, total) = (done.load(Ordering::Relaxed), total.load(Ordering::Relaxed));
        Step::ALL.get(index).map(|step| (*step, done, total))
    }

    /// The next step begins.
    pub(crate) fn begin(&self, next: Step, total: u64) {
        let State { step, done, total: all, .. } = &*self.0;
        done.store(0, Ordering::Relaxed);
        all.store(total, Ordering::Relaxed);
        let index = Step::ALL.iter().position(|known| *known == next).unwrap_or(0);
        step.store(u8::try_from(index + 1).unwrap_or(0), Ordering::Release);
    }

    /// More of the step is done; fails if it is to be the last.
    pub(crate) fn advance(&self, by: u64) -> Result<()> {
        self.0.done.fetch_add(by, Ordering::Relaxed);
        self.go_on()
    }

    /// Fails if the call is to stop. What was read before is to be trusted only if this does not.
    pub(super) fn go_on(&self) -> Result<()> {
        if self.is_stopped() {
            return Err(Error::unavailable("it was stopped; nothing was changed"));
        }
        Ok(())
    }

    /// Bytes are read, which count where bytes are counted; fails if the call is to stop.
    pub(in super::super) fn read(&self, bytes: usize) -> io::Result<()> {
        let counted = matches!(self.now(), Some((Step::Copying | Step::Verifying, ..)));
        self.advance(if counted { bytes as u64 } else { 0 }).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_counted_on_its_own() {
        let progress = Progress::default();
        assert_eq!(progress.now(), None);
        for step in Step::ALL {
            progress.begin(step, 9);
            progress.clone().advance(4).unwrap();
            progress.read(2).unwrap();
            let bytes = matches!(step, Step::Copying | Step::Verifying);
            assert_eq!(progress.now(), Some((step, if bytes { 6 } else { 4 }, 9)));
        }
    }

    #[test]
    fn what_is_stopped_does_not_go_on() {
        let progress = Progress::default();
        progress.clone().stop();
        assert!(progress.advance(1).unwrap_err().is_unavailable());
        assert!(progress.go_on().is_err() && progress.read(1).is_err());
    }
}
