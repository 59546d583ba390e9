//! What redb writes to: a file that gets its blocks ahead of its pages.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use redb::{BackendError, StorageBackend};

use super::super::upkeep::Progress;
use super::{ALL, Growth, LEAST_ROOM, NAMED, PUBLISHED, STEP, SYNCED, allocate, extend};

/// A backend whose file gets its blocks as it grows.
#[derive(Debug)]
pub(in super::super) struct Grown<B> {
    backend: B,
    /// `None` if the bytes are in no file.
    file: Option<Arc<File>>,
    growth: Growth,
    /// Where all of the file is to be read.
    progress: Option<Progress>,
}

impl<B: StorageBackend> Grown<B> {
    pub(in super::super) fn new(backend: B, file: Option<Arc<File>>, growth: Growth) -> Self {
        Self { backend, file, growth, progress: None }
    }

    /// The same, which tells `progress` what is read.
    pub(in super::super) fn telling(self, progress: &Progress) -> Self {
        Self { progress: Some(progress.clone()), ..self }
    }

    fn grow(&self, len: u64, to: u64) -> io::Result<()> {
        let Some(file) = &self.file else { return self.backend.set_len(to) };
        let state = &self.growth.0;
        let at_once = if state.doubtful.load(Ordering::Acquire) { to } else { to.min(len + STEP) };
        extend(file, len, at_once).and_then(|()| self.backend.set_len(to))?;
        if at_once < to {
            state.given.fetch_min(len, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Gives the file blocks for a page that ends there, and for those that follow.
    fn give(&self, end: u64) -> io::Result<()> {
        let state = &self.growth.0;
        let given = state.given.load(Ordering::Acquire);
        let Some(file) = &self.file else { return Ok(()) };
        if end.saturating_add(LEAST_ROOM) <= given {
            return Ok(());
        }
        let (from, len) = (given.min(end), self.backend.len()?.max(end));
        let to = (end + STEP).min(len);
        if allocate(file, from, to).is_ok() {
            state.given.store(if to == len { ALL } else { to }, Ordering::Release);
        } else if end > given {
            // Where there is no room for a step, there may be for the page.
            if let Err(error) = allocate(file, from, end) {
                self.growth.leave_hole(&error);
                return self.growth.refused(Err(error));
            }
            state.given.store(end, Ordering::Release);
        }
        Ok(())
    }

    fn shrink(&self, len: u64, to: u64) -> io::Result<()> {
        self.backend.set_len(to)?;
        let Some(file) = self.file.as_ref().filter(|_| to < len) else { return Ok(()) };
        let closing = self.growth.0.closing.load(Ordering::Acquire);
        if closing || self.growth.0.doubtful.load(Ordering::Acquire) {
            self.growth.keep_former_room(file, len, to);
        }
        if closing {
            self.growth.keep_room(file);
        }
        Ok(())
    }
}

impl<B: StorageBackend> StorageBackend for Grown<B> {
    fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if let Some(progress) = &self.progress {
            progress.read(out.len())?;
        }
        self.backend.read(offset, out)
    }

    fn set_len(&self, to: u64) -> io::Result<()> {
        self.growth.check_frozen()?;
        let len = self.backend.len()?;
        if to <= len {
            return self.shrink(len, to);
        }
        if self.growth.0.held.load(Ordering::Acquire) {
            return self.growth.refused(Err(io::ErrorKind::StorageFull.into()));
        }
        self.growth.noted(self.grow(len, to))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.backend.sync_data()?;
        self.growth.enter(SYNCED);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.growth.check_frozen()?;
        if offset == 0 {
            self.growth.enter(PUBLISHED);
            self.growth.enter(NAMED);
        }
        self.give(offset + data.len() as u64)?;
        self.backend.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.backend.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::super::PAGE_BYTES;
    use super::*;

    const PAGE: u64 = PAGE_BYTES as u64;

    /// A file of this length, on a disk without room for a longer one.
    #[derive(Debug)]
    struct Full(u64);

    impl StorageBackend for Full {
        fn len(&self) -> io::Result<u64> {
            Ok(self.0)
        }

        fn read(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
            Ok(())
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }

        fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn rule_19_a_commit_is_refused_only_if_nobody_can_have_seen_it() {
        let growth = Growth::default();
        let file = Grown::new(Full(PAGE), None, growth.clone());
        growth.watch();
        assert!(!growth.was_refused());
        file.write(PAGE, &[0]).unwrap();
        file.set_len(2 * PAGE).unwrap_err();
        assert!(growth.was_refused());
        // What is named is not there yet, even if a leap was synced before.
        growth.watch();
        file.sync_data().unwrap();
        file.write(0, &[0]).unwrap();
        file.write(PAGE, &[0]).unwrap();
        file.set_len(2 * PAGE).unwrap_err();
        assert!(growth.was_refused());
        // Once the header by which it holds is on its way, it may have landed.
        growth.watch();
        file.write(0, &[0]).unwrap();
        file.sync_data().unwrap();
        file.write(0, &[0]).unwrap();
        file.set_len(2 * PAGE).unwrap_err();
        assert!(!growth.was_refused());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn rule_19_a_page_is_refused_unless_it_has_blocks() {
        // What cannot be written to is given no blocks, as on a full disk.
        let file = Arc::new(File::open("/dev/null").unwrap());
        let growth = Growth::default();
        let grown = Grown::new(Full(1 << 30), Some(file), growth.clone());
        growth.0.given.store(2 * LEAST_ROOM, Ordering::Release);
        growth.watch();
        for place in [PAGE, LEAST_ROOM, 2 * LEAST_ROOM - PAGE] {
            grown.write(place, &[0; PAGE_BYTES]).unwrap();
        }
        assert!(!growth.was_refused() && !growth.has_holes());
        grown.write(2 * LEAST_ROOM, &[0; PAGE_BYTES]).unwrap_err();
        assert!(growth.was_refused() && growth.has_holes());
    }
}
