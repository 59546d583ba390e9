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
//! next commit, once nobody reads an older state: a step of sweeping leaves enough for that commit,
//! and after a refusal one that changes nothing comes first. If the disk was filled so quickly, or
//! while nothing was written, that the file did not get all its blocks, only they are carried out,
//! with what is left of the last step.
//!
//! redb copies each page it changes, so that ending a session needs free pages too, and a file that
//! was closed has none: redb cuts it off at its last page in use. So it is closed with blocks beyond
//! its end, for the next leap ([`Growth::keep_room`]): what else fills the disk does not get them.
//!
//! This does not help on filesystems that copy what is written over (btrfs, ZFS), nor where there
//! is no `fallocate`: there a full disk is met in the commit, as an unknown outcome.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::regions::{PAGE_BYTES, region_bytes};

mod grown;

pub(super) use grown::Grown;

/// Free pages of the file that only what makes room may use.
pub(super) const RESERVE_PAGES: u64 = 128;
/// What a leap of redb's is at most, in a file of whatever layout.
const LONGEST_LEAP: u64 = 4 << 30;
/// For what the filesystem itself writes down.
const MARGIN: u64 = 1 << 20;

/// The least that a file has beyond its end, where the disk has room.
const LEAST_ROOM: u64 = 1 << 20;
/// Where more than this would be needed, which only files of another layout do, there is none.
const MOST_ROOM: u64 = 256 << 20;
/// How far ahead of the page that is written the file has blocks.
const STEP: u64 = 32 << 20;
/// Phases of a commit: before it writes, once its new state is named in the header, once its pages
/// are synced, once the header says that it holds.
const BEGUN: u8 = 0;
const NAMED: u8 = 1;
const SYNCED: u8 = 2;
const PUBLISHED: u8 = 3;
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
    /// How far the commit has got that was begun then.
    phase: AtomicU8,
    frozen: AtomicBool,
    /// Whether the file is not to grow.
    held: AtomicBool,
    /// Whether the disk was found to be nearly full: the file gets all blocks of a leap at once,
    /// and does not give back any.
    doubtful: AtomicBool,
    /// Whether it is being closed, which cuts it off.
    closing: AtomicBool,
    /// Whether the disk had no room for all the blocks of the file.
    has_holes: AtomicBool,
    /// Up to where the file was given blocks since it was opened.
    given: AtomicU64,
    /// Open as long as the database is: its locks are those of the file, too. Gone before and after
    /// that, and where the bytes are in no file.
    file: Mutex<Weak<File>>,
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
    pub(super) fn attach(&self, file: &Arc<File>) {
        self.0.region.store(region_bytes(file).unwrap_or_default(), Ordering::Release);
        self.0.given.store(0, Ordering::Release);
        self.0.closing.store(false, Ordering::Release);
        *self.0.file.lock() = Arc::downgrade(file);
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
        let file = self.0.file.lock().upgrade();
        let is_doubtful = failed || !has_room(file.as_deref(), path, leap);
        self.0.doubtful.store(is_doubtful, Ordering::Release);
        if is_doubtful && !self.0.is_copy {
            self.fill_holes();
        }
        is_doubtful
    }

    /// Whether the file would have more than `limit` bytes once it grew again. For the writer, which
    /// closes the file: another thread that had it in hand just then would keep its locks a moment
    /// longer.
    pub(super) fn would_exceed(&self, limit: u64) -> bool {
        let region = self.0.region.load(Ordering::Acquire);
        let file = self.0.file.lock().upgrade();
        let Some(file) = file.filter(|_| region > 0) else { return false };
        file.metadata().is_ok_and(|meta| leap(meta.len(), region) > limit)
    }

    /// Whether the file is not to grow until this is called again.
    pub(super) fn hold(&self, held: bool) {
        self.0.held.store(held, Ordering::Release);
    }

    fn fill_holes(&self) {
        let Some(file) = self.0.file.lock().upgrade() else { return };
        let Ok(meta) = file.metadata() else { return };
        // Another process may have cut it off, and let it grow again.
        let is_whole = meta.blocks() * 512 >= meta.len();
        let is_known = self.0.given.load(Ordering::Acquire) == ALL;
        let filled = if is_whole && is_known { Ok(()) } else { allocate(&file, 0, meta.len()) };
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
            && let Err(error) = extend(file, len, end)
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
        self.0.phase.store(BEGUN, Ordering::Release);
    }

    /// Takes the commit to the phase `to` if it is in the one before.
    fn enter(&self, to: u8) {
        let _ = self.0.phase.compare_exchange(to - 1, to, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Whether a commit failed since [`watch`](Self::watch) for want of room, and before it could
    /// be seen. redb's commits, which are in two phases here, write a header that names the new
    /// state beside the one that holds, all their pages, and a header by which it holds.
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
        if taken.is_err() && self.0.phase.load(Ordering::Acquire) < PUBLISHED {
            self.0.refused.store(true, Ordering::Release);
        }
        taken
    }
}

/// Whether the disk has room for the next leap of the file at `path`, which may be open: before each
/// commit that is asked, and a path costs several times as much. True if that is not known.
fn has_room(file: Option<&File>, path: &Path, leap: u64) -> bool {
    let (meta, disk) = match file {
        Some(file) => (file.metadata(), rustix::fs::fstatvfs(file)),
        None => (std::fs::metadata(path), rustix::fs::statvfs(path)),
    };
    let (Ok(meta), Ok(disk)) = (meta, disk) else { return true };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    free >= meta.len().min(leap) + MARGIN
}

/// Gives `file` blocks beyond its end at `len`, up to `to`: all or none. A filesystem that has not
/// as many may keep what it got before it failed (ext4 does), so that the file would take all that
/// is left of the disk, and have no use for it.
fn extend(file: &File, len: u64, to: u64) -> io::Result<()> {
    let disk = rustix::fs::fstatvfs(file)?;
    let beyond = (file.metadata()?.blocks() * 512).saturating_sub(len);
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free.saturating_add(beyond) < to - len {
        return Err(io::ErrorKind::StorageFull.into());
    }
    allocate(file, len, to)
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
    std::fs::metadata(path).ok().map(|meta| taken(&meta))
}

fn taken(meta: &std::fs::Metadata) -> u64 {
    meta.len().min(meta.blocks() * 512)
}

/// Up to where blocks are wanted: as far as redb grows a file of `len` bytes until it has
/// [`LEAST_ROOM`].
fn room_end(len: u64, region: u64) -> u64 {
    let mut end = len.max(PAGE_BYTES as u64);
    while end < len.saturating_add(LEAST_ROOM) {
        end = leap(end, region);
    }
    end
}

/// How long redb makes a file of `len` bytes: it doubles the first region, then adds what is left of
/// one, or one.
fn leap(len: u64, region: u64) -> u64 {
    if len < region {
        return len * 2;
    }
    // The header's page is in none.
    let into = (len - PAGE_BYTES as u64) % region;
    len.saturating_add(region - into)
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
    #[cfg(target_os = "linux")]
    #[test]
    fn rule_19_a_leap_that_is_refused_takes_nothing_of_the_disk() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(PAGE).unwrap();
        let disk = rustix::fs::fstatvfs(&file).unwrap();
        let free = disk.f_bavail * disk.f_frsize;
        let before = file.metadata().unwrap().blocks();
        let error = extend(&file, PAGE, 2 * PAGE + free + (64 << 20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.metadata().unwrap().blocks(), before);
        // What it has beyond its end is its own.
        extend(&file, PAGE, 2 * PAGE).unwrap();
        assert!(file.metadata().unwrap().blocks() > before);
    }
}
