//! Reading: a leased snapshot for requests, a fresh one for every conclusion.
//!
//! In shared mode a redb read transaction costs microseconds and, while another process is stopped
//! with the header lock in its hands, waits without limit. So one transaction is kept and lent to
//! every request for [`LEASE`], after which it is replaced; a request that comes to a conclusion a
//! lease must not come to (absent, ended, unknown key) waits, with a deadline, for one begun after
//! it asked. Only the reading thread and the writer begin transactions. A snapshot pins the pages
//! it sees, so that it is dropped once nobody has used it for [`IDLE`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};
use redb::{ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTableMetadata};
use tokio::sync::oneshot;

use super::shared::OpenFile;
use super::shield::shielded;
use super::tables::{self, Bytes, FileState, StoredEnding};
use super::{codec, failure};
use crate::error::{Error, Kind, Result};
use crate::id::SessionId;
use crate::keyring::KeyRing;
use crate::record::{Absence, Endings, Record};
use crate::store::{Access, Loaded};

/// How long a snapshot serves before it is replaced.
pub(super) const LEASE: Duration = Duration::from_millis(5);
/// How long an unused snapshot is kept.
const IDLE: Duration = Duration::from_millis(50);
/// After so many commits that nobody read from, those that follow publish no snapshot.
const UNREAD_COMMITS: u32 = 8;
/// Most readers that wait for a fresh snapshot at a time.
const MAX_WAITING: usize = 16 * 1024;

/// The file at one moment.
pub(super) struct Snapshot {
    begun: Instant,
    /// Of the opening it was begun on.
    pub(super) file_number: u64,
    pub(super) txn: ReadTransaction,
    pub(super) sessions: ReadOnlyTable<Bytes<32>, &'static [u8]>,
    endings: ReadOnlyTable<Bytes<16>, &'static [u8]>,
    pub(super) state: FileState,
}

impl Snapshot {
    fn begin(file: &OpenFile) -> Result<Self> {
        let begun = Instant::now();
        let txn = file.database.begin_read().map_err(failure::before_commit)?;
        let sessions = txn.open_table(tables::SESSIONS).map_err(failure::before_commit)?;
        let endings = txn.open_table(tables::ENDINGS).map_err(failure::before_commit)?;
        let meta = txn.open_table(tables::META).map_err(failure::before_commit)?;
        let state = meta.get(tables::STATE).map_err(failure::before_commit)?;
        let state = state.ok_or_else(|| Error::new(Kind::Corrupt, "the file has no state"))?;
        let state = FileState::open(state.value())?;
        drop(meta);
        Ok(Self { begun, file_number: file.number, txn, sessions, endings, state })
    }

    /// The record of `id`, whatever its state.
    pub(super) fn record(&self, id: &SessionId) -> Result<Option<Record>> {
        shielded(|| {
            let Some(value) = self.sessions.get(id.as_bytes()).map_err(failure::before_commit)?
            else {
                return Ok(None);
            };
            read_record(id, value.value()).map(Some)
        })
    }

    /// The endings that concern a record.
    pub(super) fn endings(&self, record: &Record) -> Result<Endings> {
        let everyone = self.state.everyone;
        if self.state.user_endings == 0 {
            return Ok(Endings { everyone, user: None });
        }
        let Some(user) = record.user() else { return Ok(Endings { everyone, user: None }) };
        shielded(|| {
            let key = tables::user_hash(user);
            let stored = self.endings.get(&key).map_err(failure::before_commit)?;
            let stored = stored.map(|value| StoredEnding::open(&key, value.value())).transpose()?;
            Ok(Endings { everyone, user: stored.map(|stored| stored.ending) })
        })
    }

    pub(super) fn load(&self, id: &SessionId, access: &Access) -> Result<Loaded> {
        let record = match self.record(id) {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(Loaded::Absent(Absence::NotFound)),
            Err(error) if error.is_corrupt() => return Ok(Loaded::Absent(Absence::Corrupt)),
            Err(error) => return Err(error),
        };
        let endings = self.endings(&record)?;
        Ok(match record.absence(access.at, access.timeouts.as_ref(), &endings) {
            None => Loaded::Live(record),
            Some(absence) => Loaded::Absent(absence),
        })
    }

    /// The key ring in the file.
    pub(super) fn ring(&self) -> Result<KeyRing> {
        shielded(|| {
            let keys = self.txn.open_table(tables::KEYS).map_err(failure::before_commit)?;
            let sealed = keys.get(tables::RING).map_err(failure::before_commit)?;
            let sealed = sealed.ok_or_else(|| Error::new(Kind::Corrupt, "the file has no keys"))?;
            KeyRing::decode(codec::open(tables::RING.as_bytes(), sealed.value())?)
        })
    }

    /// Number of records and the bytes they occupy.
    pub(super) fn size(&self) -> Result<(u64, u64)> {
        shielded(|| {
            let stats = self.sessions.stats().map_err(failure::before_commit)?;
            let records = self.sessions.len().map_err(failure::before_commit)?;
            Ok((records, stats.stored_bytes()))
        })
    }
}

/// Unseals and decodes a stored record.
pub(super) fn read_record(id: &SessionId, value: &[u8]) -> Result<Record> {
    Record::from_bytes(codec::open(id.as_bytes(), value)?)
}

/// The same without the data.
pub(super) fn read_metadata(id: &SessionId, value: &[u8]) -> Result<Record> {
    Record::metadata_from_bytes(codec::open(id.as_bytes(), value)?).map(|(record, _)| record)
}

/// The published snapshot, and those who wait for a fresh one.
pub(super) struct Snapshots {
    published: RwLock<Option<Arc<Snapshot>>>,
    /// Held while a transaction is begun and published, so that an older one never replaces a
    /// newer one.
    beginning: Mutex<()>,
    used: AtomicBool,
    /// Commits since somebody read.
    unread: AtomicU32,
    renewal_wanted: AtomicBool,
    desk: Mutex<Desk>,
    bell: Condvar,
}

#[derive(Default)]
struct Desk {
    waiting: Vec<oneshot::Sender<Result<Arc<Snapshot>>>>,
    renew: bool,
    asleep: bool,
    closed: bool,
}

impl Snapshots {
    pub(super) fn new() -> Self {
        Self {
            published: RwLock::new(None),
            beginning: Mutex::new(()),
            used: AtomicBool::new(false),
            unread: AtomicU32::new(0),
            renewal_wanted: AtomicBool::new(false),
            desk: Mutex::default(),
            bell: Condvar::new(),
        }
    }

    /// The published snapshot, if its lease is not over.
    pub(super) fn leased(&self) -> Option<Arc<Snapshot>> {
        let snapshot = self.published.read().clone()?;
        let age = snapshot.begun.elapsed();
        if age > LEASE / 2 {
            self.want_renewal();
        }
        self.note_reader();
        (age <= LEASE).then_some(snapshot)
    }

    /// How old the published snapshot is, and how many records it has.
    #[cfg(feature = "metrics")]
    pub(super) fn standing(&self) -> Option<(Duration, Option<u64>)> {
        let snapshot = self.published.read().clone()?;
        let records = shielded(|| snapshot.sessions.len().map_err(failure::before_commit)).ok();
        Some((snapshot.begun.elapsed(), records))
    }

    /// A snapshot begun after this call.
    pub(super) fn fresh(&self) -> oneshot::Receiver<Result<Arc<Snapshot>>> {
        let (sender, receiver) = oneshot::channel();
        self.note_reader();
        let mut desk = self.desk.lock();
        if desk.waiting.len() >= MAX_WAITING {
            // While a stopped process keeps the reading thread, those who gave up pile up.
            desk.waiting.retain(|waiting| !waiting.is_closed());
        }
        if desk.closed {
            let _ = sender.send(Err(closed()));
        } else if desk.waiting.len() >= MAX_WAITING {
            let _ = sender.send(Err(Error::unavailable("the store has too much to do")));
        } else {
            desk.waiting.push(sender);
            self.bell.notify_one();
        }
        receiver
    }

    /// Writes only what has changed, so that readers do not take a cache line from each other.
    fn note_reader(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        if self.unread.load(Ordering::Relaxed) > 0 {
            self.unread.store(0, Ordering::Relaxed);
        }
    }

    /// Begins a snapshot and publishes it.
    pub(super) fn renew(&self, file: &OpenFile) -> Result<Arc<Snapshot>> {
        let _turn = self.beginning.lock();
        let snapshot = Arc::new(shielded(|| Snapshot::begin(file))?);
        *self.published.write() = Some(snapshot.clone());
        self.renewal_wanted.store(false, Ordering::Relaxed);
        Ok(snapshot)
    }

    /// The same after a commit: the snapshot counts as used, so that whoever was answered finds
    /// it, and the reading thread sees to its end. While nobody reads, the one from before the
    /// commit is let go of instead: that costs nothing, pins no pages, and the next reader waits
    /// for a fresh one.
    pub(super) fn renew_after_commit(&self, file: &OpenFile) -> Result<()> {
        if self.unread.fetch_add(1, Ordering::Relaxed) >= UNREAD_COMMITS {
            self.withdraw();
            return Ok(());
        }
        self.renew(file)?;
        self.used.store(true, Ordering::Relaxed);
        let mut desk = self.desk.lock();
        if desk.asleep {
            desk.asleep = false;
            self.bell.notify_one();
        }
        Ok(())
    }

    /// Lets go of the published snapshot.
    pub(super) fn withdraw(&self) {
        let _turn = self.beginning.lock();
        *self.published.write() = None;
    }

    /// Ends the reading thread.
    pub(super) fn close(&self) {
        let mut desk = self.desk.lock();
        desk.closed = true;
        for waiting in desk.waiting.drain(..) {
            let _ = waiting.send(Err(closed()));
        }
        self.bell.notify_one();
        drop(desk);
        self.withdraw();
    }

    fn want_renewal(&self) {
        if !self.renewal_wanted.swap(true, Ordering::Relaxed) {
            self.desk.lock().renew = true;
            self.bell.notify_one();
        }
    }

    /// What the reading thread does. `file` lends the open file, or says why there is none;
    /// `failed` is told what went wrong on which opening.
    pub(super) fn serve(
        &self,
        file: impl Fn() -> Result<Arc<OpenFile>>,
        failed: impl Fn(&Error, u64),
    ) {
        while let Some(waiting) = self.next_round() {
            let snapshot = file()
                .and_then(|file| self.renew(&file).inspect_err(|error| failed(error, file.number)));
            if snapshot.is_err() {
                // Asked for again by the next reader.
                self.renewal_wanted.store(false, Ordering::Relaxed);
            }
            for waiter in waiting {
                // Who gave up waiting is not there any more.
                let _ = waiter.send(snapshot.clone());
            }
        }
    }

    /// Waits for somebody who needs a snapshot, and drops the unused one meanwhile.
    fn next_round(&self) -> Option<Vec<oneshot::Sender<Result<Arc<Snapshot>>>>> {
        let mut desk = self.desk.lock();
        loop {
            if desk.closed {
                return None;
            }
            if desk.renew || !desk.waiting.is_empty() {
                desk.renew = false;
                return Some(std::mem::take(&mut desk.waiting));
            }
            if self.published.read().is_none() {
                desk.asleep = true;
                self.bell.wait(&mut desk);
                desk.asleep = false;
            } else if self.bell.wait_for(&mut desk, IDLE).timed_out()
                && !self.used.swap(false, Ordering::Relaxed)
            {
                parking_lot::MutexGuard::unlocked(&mut desk, || self.withdraw());
            }
        }
    }
}

fn closed() -> Error {
    Error::new(Kind::Unavailable, "the store was closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_19_readers_that_wait_are_bounded_and_those_who_gave_up_make_room() {
        let snapshots = Snapshots::new();
        for _ in 0..3 * MAX_WAITING {
            drop(snapshots.fresh());
        }
        assert!(snapshots.desk.lock().waiting.len() <= MAX_WAITING);
        let mut waiting: Vec<_> = (0..=MAX_WAITING).map(|_| snapshots.fresh()).collect();
        let refused = waiting.pop().unwrap().try_recv().unwrap();
        assert!(refused.is_err_and(|error| error.is_unavailable()));
        assert!(waiting.pop().unwrap().try_recv().is_err(), "has no answer yet");
    }
}
