//! A disk in memory that counts calls, fails them on demand, and remembers what was not synced.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::ops::{Bound, Range};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use redb::{BackendError, StorageBackend};

use crate::random::Random;

/// What a disk may tear a write into.
const SECTOR: usize = 512;

/// What a filesystem allocates at a time.
const BLOCK: u64 = 4096;

fn blocks(offset: u64, len: usize) -> Range<u64> {
    offset / BLOCK..(offset + len as u64).div_ceil(BLOCK)
}

/// What a panic of the disk's says.
pub(crate) const PANIC: &str = "the disk panics";

/// One of the calls that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Read,
    Write,
    Sync,
    SetLen,
}

/// Which calls fail, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Every call.
    Io,
    /// Writes where nothing was written before: the file is sparse, and the disk is full.
    NoSpace,
    /// Making the file larger: it has no holes, and the disk is full.
    NoGrowth,
    /// Calls that read.
    Read,
    /// Calls that write: redb meets something it did not expect.
    Panic,
    /// Syncs, after which a part of what was to be synced is lost from the page cache too.
    Sync,
}

impl Fault {
    fn error(self, call: Call, grows: bool) -> Option<io::Error> {
        let errno = match (self, call) {
            (Self::NoSpace, Call::Write) | (Self::NoGrowth, Call::SetLen) if grows => ENOSPC,
            (Self::Io, _)
            | (Self::Read, Call::Read)
            | (Self::Sync, Call::Sync)
            | (Self::Panic, Call::Write | Call::SetLen | Call::Sync) => EIO,
            _ => return None,
        };
        Some(io::Error::from_raw_os_error(errno))
    }
}

const EIO: i32 = rustix::io::Errno::IO.raw_os_error();
const ENOSPC: i32 = rustix::io::Errno::NOSPC.raw_os_error();

/// From which call on a fault is there, and for how many calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) from: u64,
    pub(crate) fault: Fault,
    /// Until [`Disk::heal`], rather than for one call.
    pub(crate) lasting: bool,
}

/// A change that has not been synced.
#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, data) => write_at(bytes, *offset, data),
            Self::SetLen(len) => bytes.resize(*len as usize, 0),
        }
    }
}

fn write_at(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let (start, end) = (offset as usize, offset as usize + data.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(data);
}

/// A disk. Clones are the same disk.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    unlocked: Condvar,
}

#[derive(Default)]
struct State {
    /// What the processes see.
    bytes: Vec<u8>,
    /// What a power cut leaves for certain.
    synced: Vec<u8>,
    pending: Vec<Change>,
    /// Blocks that were written to.
    allocated: HashSet<u64>,
    locks: Vec<Lock>,
    /// Handles that were closed, which lets go of all they held.
    closed: HashSet<u64>,
    calls: u64,
    /// Calls that the plan let fail.
    failed: u64,
    plan: Option<Plan>,
    open: u64,
    /// Most handles that were open at a time.
    most_open: u64,
    opened: u64,
    /// How long a shared lock of the header is waited for.
    slowness: Duration,
    /// Shown every call, before it is carried out.
    watcher: Option<Watcher>,
}

type Watcher = Box<dyn FnMut(Call, &Moment<'_>) + Send>;

/// The disk at one moment, as [`Disk::watch`] shows it.
pub(crate) struct Moment<'a> {
    synced: &'a [u8],
    pending: &'a [Change],
}

impl Moment<'_> {
    pub(crate) fn unsynced(&self) -> usize {
        self.pending.len()
    }

    /// What may be left after a power cut now: of the writes since the last sync some are kept,
    /// some are lost, some are torn, in any order.
    pub(crate) fn after_power_cut(&self, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.synced.to_vec();
        let mut order: Vec<_> = (0..self.pending.len()).collect();
        // Most disks keep the order, most of the time; then everything up to a point is kept.
        match random.below(3) {
            0 => order.truncate(random.below(order.len() as u64 + 1) as usize),
            1 => random.shuffle(&mut order),
            _ => {}
        }
        let kept_share = [50, 90, 10][random.below(3) as usize];
        for index in order {
            match &self.pending[index] {
                Change::Write(offset, data) if random.below(4) == 0 => {
                    for (sector, part) in data.chunks(SECTOR).enumerate() {
                        if random.below(2) == 0 {
                            write_at(&mut bytes, offset + (sector * SECTOR) as u64, part);
                        }
                    }
                }
                change if random.below(100) < kept_share => change.apply(&mut bytes),
                _ => {}
            }
        }
        bytes
    }
}

struct Lock {
    handle: u64,
    start: u64,
    end: u64,
    exclusive: bool,
}

impl Disk {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let written = |block: &u64| {
            let start = (block * BLOCK) as usize;
            bytes[start..bytes.len().min(start + BLOCK as usize)].iter().any(|byte| *byte != 0)
        };
        let allocated = blocks(0, bytes.len()).filter(written).collect();
        let state = State { synced: bytes.clone(), bytes, allocated, ..State::default() };
        let shared = Shared { state: Mutex::new(state), unlocked: Condvar::new() };
        Self(Arc::new(shared))
    }

    /// What one opening of the file works on.
    pub(crate) fn handle(&self) -> Handle {
        let mut state = self.state();
        state.opened += 1;
        state.open += 1;
        state.most_open = state.most_open.max(state.open);
        Handle { disk: self.clone(), id: state.opened }
    }

    /// How often the file was opened.
    pub(crate) fn opened(&self) -> u64 {
        self.state().opened
    }

    /// How many openings are not closed.
    pub(crate) fn open(&self) -> u64 {
        self.state().open
    }

    /// The most that were open at a time.
    pub(crate) fn most_open(&self) -> u64 {
        self.state().most_open
    }

    /// Another file takes the place of this one.
    pub(crate) fn replace(&self, bytes: Vec<u8>) {
        let mut state = self.state();
        state.synced.clone_from(&bytes);
        state.bytes = bytes;
        state.pending.clear();
    }

    /// Lets shared locks take `slowness`.
    pub(crate) fn slow_down(&self, slowness: Duration) {
        self.state().slowness = slowness;
    }

    pub(crate) fn plan(&self, plan: Plan) {
        self.state().plan = Some(plan);
    }

    /// Ends a lasting fault. A fault still to come is forgotten too.
    pub(crate) fn heal(&self) {
        self.state().plan = None;
    }

    pub(crate) fn calls(&self) -> u64 {
        self.state().calls
    }

    /// How many calls a plan let fail.
    pub(crate) fn failed(&self) -> u64 {
        self.state().failed
    }

    /// What may be left after a power cut now.
    pub(crate) fn after_power_cut(&self, random: &mut Random) -> Vec<u8> {
        let state = self.state();
        let (synced, pending) = (&state.synced, &state.pending);
        Moment { synced, pending }.after_power_cut(random)
    }

    pub(crate) fn watch(&self, watcher: impl FnMut(Call, &Moment<'_>) + Send + 'static) {
        self.state().watcher = Some(Box::new(watcher));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    fn call(&self, call: Call) -> io::Result<MutexGuard<'_, State>> {
        self.call_at(call, None)
    }

    fn call_at(&self, call: Call, at: Option<(u64, usize)>) -> io::Result<MutexGuard<'_, State>> {
        let mut guard = self.state();
        let state = &mut *guard;
        state.calls += 1;
        let blocks = at.map_or(0..0, |(offset, len)| blocks(offset, len));
        let grows = match call {
            Call::SetLen => at.is_some_and(|(_, len)| len > state.bytes.len()),
            _ => blocks.clone().any(|block| !state.allocated.contains(&block)),
        };
        let plan = state.plan.filter(|plan| plan.from <= state.calls);
        let error = plan.and_then(|plan| plan.fault.error(call, grows));
        if let Some(watcher) = &mut state.watcher {
            watcher(call, &Moment { synced: &state.synced, pending: &state.pending });
        }
        let Some(error) = error else {
            if call == Call::Write {
                state.allocated.extend(blocks);
            }
            return Ok(guard);
        };
        state.failed += 1;
        if plan.is_some_and(|plan| !plan.lasting) {
            state.plan = None;
        }
        if plan.is_some_and(|plan| plan.fault == Fault::Panic) {
            drop(guard);
            panic!("{PANIC}");
        }
        if call == Call::Sync {
            // The kernel drops dirty pages it could not write: they read as they were before.
            let half = state.pending.len() / 2;
            let mut lost = state.synced.clone();
            for change in &state.pending[..half] {
                change.apply(&mut lost);
            }
            lost.resize(state.bytes.len(), 0);
            state.bytes = lost;
            state.pending.truncate(half);
        }
        Err(error)
    }
}

/// One opening of the file, with the locks it holds.
pub(crate) struct Handle {
    disk: Disk,
    id: u64,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.id)
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.call(Call::Read)?.bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.disk.call(Call::Read)?;
        let start = offset as usize;
        let part = state.bytes.get(start..start + out.len());
        out.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.call_at(Call::SetLen, Some((0, len as usize)))?;
        state.allocated.retain(|block| block * BLOCK < len);
        state.change(Change::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut guard = self.disk.call(Call::Sync)?;
        let state = &mut *guard;
        for change in state.pending.drain(..) {
            change.apply(&mut state.synced);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = Some((offset, data.len()));
        self.disk.call_at(Call::Write, at)?.change(Change::Write(offset, data.to_vec()));
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.locks.retain(|lock| lock.handle != self.id);
        state.closed.insert(self.id);
        state.open -= 1;
        drop(state);
        self.disk.0.unlocked.notify_all();
        Ok(())
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        Ok(self.disk.state().lock(self.wanted(start, end, true)))
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        Ok(self.disk.state().lock(self.wanted(start, end, false)))
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.wait_for(start, end, true);
        Ok(())
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        let slowness = self.disk.state().slowness;
        std::thread::sleep(slowness);
        self.wait_for(start, end, false);
        Ok(())
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        let range = self.wanted(start, end, false);
        let mut state = self.disk.state();
        let held = state.locks.iter().position(|lock| {
            lock.handle == self.id && (lock.start, lock.end) == (range.start, range.end)
        });
        // Whoever lets go of a reader while the file is being closed may come after its end.
        let may_be_gone = state.closed.contains(&self.id);
        if let Some(held) = held {
            state.locks.swap_remove(held);
        }
        drop(state);
        assert!(held.is_some() || may_be_gone, "it unlocks what it does not hold");
        self.disk.0.unlocked.notify_all();
        Ok(())
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        Ok(self.disk.state().is_held_against(&self.wanted(start, end, true)))
    }
}

impl Handle {
    fn wanted(&self, start: Bound<u64>, end: Bound<u64>, exclusive: bool) -> Lock {
        let start = match start {
            Bound::Included(start) => start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match end {
            Bound::Included(end) => end + 1,
            Bound::Excluded(end) => end,
            Bound::Unbounded => u64::MAX,
        };
        Lock { handle: self.id, start, end, exclusive }
    }

    fn wait_for(&self, start: Bound<u64>, end: Bound<u64>, exclusive: bool) {
        let mut state = self.disk.state();
        while !state.lock(self.wanted(start, end, exclusive)) {
            state = self.disk.0.unlocked.wait(state).unwrap();
        }
    }
}

impl State {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.bytes);
        self.pending.push(change);
    }

    fn is_held_against(&self, wanted: &Lock) -> bool {
        self.locks.iter().any(|lock| {
            lock.handle != wanted.handle
                && (lock.exclusive || wanted.exclusive)
                && lock.start < wanted.end
                && wanted.start < lock.end
        })
    }

    fn lock(&mut self, wanted: Lock) -> bool {
        let free = !self.is_held_against(&wanted);
        if free && !self.closed.contains(&wanted.handle) {
            self.locks.push(wanted);
        }
        free
    }
}
