//! Room on the disk: taken ahead of the file's growth, and kept for ending sessions.
//!
//! redb lets a file grow by leaps of up to a [region](super::regions), and a page that is written
//! into a hole of a full disk fails in the middle of a commit, whose outcome is unknown then. So the
//! file is given its blocks ahead of its pages, [`STEP`] at a time ([`Grown`]), and a disk without
//! room refuses them before the commit: nothing was changed, and everybody is told so.
//!
//! Once the disk may have no room for what is left of the leap and another one, all of the file gets
//! its blocks at once ([`Growth::is_doubtful`]), and needs no more whatever else fills the disk. From
//! then on a change that is not an ending is committed only if [`RESERVE_PAGES`] stay free in the
//! file besides it, and closing does not cut the file off ([`Growth::freeze`]). Logging out, ending,
//! purging and changing keys may use those, a few at a time; their pages are free again with the
//! next commit. If the disk was filled so quickly, or while nothing was written, that the file did
//! not get all its blocks, only they are carried out, with what is left of the last step.
//!
//! redb copies each page it changes, so that ending a session needs free pages too, and a file that
//! was closed has none: redb cuts it off at its last page in use. So it is closed with blocks beyond
//! its end, for the next leap ([`Growth::keep_room`]): what else fills the disk does not get them.
//!
//! This does not help on filesystems that copy what is written over (btrfs, ZFS), nor where there
//! is no `fallocate`: there a full disk is met in the commit, as an unknown outcome.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use redb::{BackendError, StorageBackend};

use super::regions::{PAGE_BYTES, region_bytes};
use super::upkeep::Progress;

/// Free pages of the file that only what makes room may use.
pub(super) const RESERVE_PAGES: u64 = 128;
/// What a leap of redb's is at most, in a file of whatever layout.
const LONGEST_LEAP: u64 = 4 << 30;
/// For what the filesystem itself writes down.
const MARGIN: u64 = 1 << 20;

/// The least that a file has beyond its end, where the disk has room.
const LEAST_ROOM: u64 = 1 << 20;
/// Where more than this would be needed, which only files of another layout do, there is none.
const MOST_ROOM: u64 = 160 << 20;
/// How far ahead of the page that is written the file has blocks.
const STEP: u64 = 32 << 20;
/// Beyond any end: all of the file has blocks.
const ALL: u64 = u64::MAX;

/// How a file grows. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Growth(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Whether the file's last attempt to grow failed.
    failed: AtomicBool,
    /// Whether it failed before the header was written, since [`Growth::watch`].
    refused: AtomicBool,
    /// Whether the header was written since then.
    published: AtomicBool,
    frozen: AtomicBool,
    /// Whether the disk was found to be nearly full: the file gets all blocks of a leap at once,
    /// and does not give back any.
    doubtful: AtomicBool,
    /// Whether it is being closed, which cuts it off.
    closing: AtomicBool,
    /// Whether the disk had no room for all the blocks of the file.
    has_holes: AtomicBool,
    /// Up to where the file was given blocks since it was opened.
    given: AtomicU64,
    /// `None` if the bytes are in no file, or not yet.
    file: Mutex<Option<File>>,
    /// What the file grows by once it has one region; 0 if that is not known yet.
    region: AtomicU64,
    /// Whether the file is a copy that nobody writes to.
    is_copy: bool,
}

impl Growth {
    pub(super) fn of_a_copy() -> Self {
        Self(Arc::new(State { is_copy: true, ..State::default() }))
    }

    /// The same for another opening.
    pub(super) fn anew(&self) -> Self {
        if self.0.is_copy { Self::of_a_copy() } else { Self::default() }
    }

    /// The file it is about from now on.
    pub(super) fn of(&self, file: File) {
        self.0.region.store(region_bytes(&file).unwrap_or_default(), Ordering::Release);
        self.0.given.store(0, Ordering::Release);
        self.0.closing.store(false, Ordering::Release);
        *self.0.file.lock() = Some(file);
    }

    /// Whether the file may not be able to grow. If so, it is given all the blocks it has not yet,
    /// as far as they are to be had.
    pub(super) fn is_doubtful(&self, path: &Path) -> bool {
        let leap = match self.0.region.load(Ordering::Acquire) {
            0 => LONGEST_LEAP,
            // What is left of one region, and another.
            region => region.saturating_mul(2).min(LONGEST_LEAP),
        };
        let failed = self.0.failed.load(Ordering::Acquire) || self.has_holes();
        let is_doubtful = failed || !has_room(path, leap);
        self.0.doubtful.store(is_doubtful, Ordering::Release);
        if is_doubtful && !self.0.is_copy {
            self.take_all();
        }
        is_doubtful
    }

    fn take_all(&self) {
        let file = self.0.file.lock();
        let Some((file, meta)) = file.as_ref().and_then(|file| Some((file, file.metadata().ok()?)))
        else {
            return;
        };
        // Another process may have cut it off, and let it grow again.
        let is_whole = meta.blocks() * 512 >= meta.len();
        let is_known = self.0.given.load(Ordering::Acquire) == ALL;
        let filled = if is_whole && is_known { Ok(()) } else { allocate(file, 0, meta.len()) };
        match filled {
            Ok(()) => {
                self.0.given.store(ALL, Ordering::Release);
                self.0.has_holes.store(false, Ordering::Release);
            }
            Err(error) => self.leave_hole(&error),
        }
    }

    fn leave_hole(&self, error: &io::Error) {
        if !self.0.has_holes.swap(true, Ordering::AcqRel) {
            tracing::warn!(%error, "the session file has holes, and the disk no room to fill them");
        }
    }

    /// Whether a disk that is nearly full has no room for pages that redb takes to be the file's.
    pub(super) fn has_holes(&self) -> bool {
        self.0.has_holes.load(Ordering::Acquire)
    }

    /// To be called before the file is closed, which cuts it off.
    pub(super) fn close(&self) {
        self.0.closing.store(true, Ordering::Release);
    }

    /// Takes `file` its room beyond the end, unless nobody will write to it.
    pub(super) fn keep_room(&self, file: &File) {
        let Some(region) = region_bytes(file).filter(|_| !self.0.is_copy) else { return };
        let Ok(len) = file.metadata().map(|meta| meta.len()) else { return };
        let end = room_end(len, region);
        if end - len <= MOST_ROOM
            && let Err(error) = allocate(file, len, end)
        {
            tracing::debug!(%error, "the disk has no room for the session file to grow into");
        }
    }

    /// Takes back the blocks of a file that was cut off, but for what is not wanted.
    fn keep_former_room(&self, file: &File, former: u64, len: u64) {
        if let Some(region) = region_bytes(file).filter(|_| !self.0.is_copy) {
            // If another has them already, a leap is refused before a commit.
            let _ = allocate(file, len, former.min(room_end(len, region)));
        }
    }

    /// To be called before a commit.
    pub(super) fn watch(&self) {
        self.0.refused.store(false, Ordering::Release);
        self.0.published.store(false, Ordering::Release);
    }

    /// Whether a commit failed since [`watch`](Self::watch) for want of room, and before it could
    /// be seen: it takes all its pages before it writes the header.
    pub(super) fn was_refused(&self) -> bool {
        self.0.refused.load(Ordering::Acquire)
    }

    /// Lets nothing more be written. Closing a file writes one commit more, which cuts it off and
    /// so gives its free pages to a full disk. Without that it is as after a power cut.
    pub(super) fn freeze(&self) {
        self.0.frozen.store(true, Ordering::Release);
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.0.frozen.load(Ordering::Acquire)
    }

    fn check_frozen(&self) -> io::Result<()> {
        if self.is_frozen() { Err(io::Error::other("the file is left as it is")) } else { Ok(()) }
    }

    fn noted<T>(&self, grown: io::Result<T>) -> io::Result<T> {
        self.0.failed.store(grown.is_err(), Ordering::Release);
        self.refused(grown)
    }

    /// Notes a failure for want of room.
    fn refused<T>(&self, taken: io::Result<T>) -> io::Result<T> {
        if taken.is_err() && !self.0.published.load(Ordering::Acquire) {
            self.0.refused.store(true, Ordering::Release);
        }
        taken
    }
}

/// Whether the disk has room for the next leap of the file at `path`. True if that is not known.
fn has_room(path: &Path, leap: u64) -> bool {
    let Ok(meta) = std::fs::metadata(path) else { return true };
    let Ok(disk) = rustix::fs::statvfs(path) else { return true };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    free >= meta.len().min(leap) + MARGIN
}

/// Gives `file` blocks from `from` to `to`, beyond its end if need be. Where the filesystem
/// cannot, the file has holes.
#[cfg(target_os = "linux")]
fn allocate(file: &File, from: u64, to: u64) -> io::Result<()> {
    use rustix::fs::FallocateFlags;
    use rustix::io::Errno;
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, from, to - from) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        result => Ok(result?),
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(_: &File, _: u64, _: u64) -> io::Result<()> {
    Ok(())
}

/// What the file at `path` takes of the disk: its length, or less where it has holes. `None` if it
/// cannot be looked at.
pub(super) fn size_of(path: &Path) -> Option<u64> {
    let meta = std::fs::metadata(path).ok()?;
    Some(meta.len().min(meta.blocks() * 512))
}

/// Up to where blocks are wanted: as far as redb grows a file of `len` bytes until it has
/// [`LEAST_ROOM`].
fn room_end(len: u64, region: u64) -> u64 {
    let mut end = len.max(PAGE_BYTES as u64);
    while end < len.saturating_add(LEAST_ROOM) {
        // It doubles the first region, then adds what is left of one, or one.
        let into = (end - PAGE_BYTES as u64) % region;
        end = if end < region { end * 2 } else { end.saturating_add(region - into) };
    }
    end
}

/// Lets the kernel forget what it has of the file: pages that a failed sync could not write are
/// kept in memory as if they had been, and would be read, and built upon, until the power goes.
#[cfg(target_os = "linux")]
pub(super) fn forget_pages(path: &Path) {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    // If it cannot be opened, opening it for good says so.
    if let Ok(file) = rustix::fs::open(path, flags, Mode::empty()) {
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn forget_pages(_: &Path) {}

/// A backend whose file gets its blocks as it grows.
#[derive(Debug)]
pub(super) struct Grown<B> {
    backend: B,
    /// `None` if the bytes are in no file.
    file: Option<File>,
    growth: Growth,
    /// Where all of the file is to be read.
    progress: Option<Progress>,
}

impl<B: StorageBackend> Grown<B> {
    pub(super) fn new(backend: B, file: Option<File>, growth: Growth) -> Self {
        Self { backend, file, growth, progress: None }
    }

    /// The same, which tells `progress` what is read.
    pub(super) fn telling(self, progress: &Progress) -> Self {
        Self { progress: Some(progress.clone()), ..self }
    }

    fn grow(&self, len: u64, to: u64) -> io::Result<()> {
        let Some(file) = &self.file else { return self.backend.set_len(to) };
        let state = &self.growth.0;
        let at_once = if state.doubtful.load(Ordering::Acquire) { to } else { to.min(len + STEP) };
        allocate(file, len, at_once).and_then(|()| self.backend.set_len(to))?;
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
        // Where there is no room for a step, there may be for the page.
        if let Err(error) = allocate(file, from, to).or_else(|_| allocate(file, from, end)) {
            self.growth.leave_hole(&error);
            return self.growth.refused(Err(error));
        }
        state.given.store(if to == len { ALL } else { to }, Ordering::Release);
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
        if to > len { self.growth.noted(self.grow(len, to)) } else { self.shrink(len, to) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.backend.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.growth.check_frozen()?;
        if offset == 0 {
            self.growth.0.published.store(true, Ordering::Release);
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
    use super::*;

    const REGION: u64 = 8 << 20;
    const PAGE: u64 = PAGE_BYTES as u64;

    #[test]
    fn room_is_kept_for_the_next_leap() {
        assert_eq!(room_end(3 << 20, REGION), 6 << 20);
        assert_eq!(room_end(PAGE + REGION, REGION), PAGE + 2 * REGION);
        assert_eq!(room_end(PAGE + REGION + REGION / 2, REGION), PAGE + 2 * REGION);
        // What is left of a region may not be enough for an ending.
        assert_eq!(room_end(2 * REGION, REGION), PAGE + 3 * REGION);
        assert!(room_end(PAGE, REGION) > LEAST_ROOM);
    }

    /// A disk without room for a longer file.
    #[derive(Debug)]
    struct Full;

    impl StorageBackend for Full {
        fn len(&self) -> io::Result<u64> {
            Ok(PAGE)
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
        let file = Grown::new(Full, None, growth.clone());
        growth.watch();
        assert!(!growth.was_refused());
        file.write(PAGE, &[0]).unwrap();
        file.set_len(2 * PAGE).unwrap_err();
        assert!(growth.was_refused());
        // Once the header is on its way, it may have landed.
        growth.watch();
        file.write(0, &[0]).unwrap();
        file.set_len(2 * PAGE).unwrap_err();
        assert!(!growth.was_refused());
    }
}
