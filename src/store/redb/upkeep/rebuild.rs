//! Writing a file anew: without its holes, or without what is damaged in it.
//!
//! Both copy row by row into a new file, which then takes the place of the former: killed at any
//! moment, either leaves a whole file. Records are found in line, and those that damage hides there,
//! by the ID that an index has of them. Pages that no table leads to are not searched: what lies
//! there are states of sessions from before, and some of these have ended since.
//!
//! What cannot be read must not revive a session. Where the state or an ending cannot, nobody knows
//! any more which sessions were ended, and all are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use redb::{
    ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    WriteTransaction,
};

use super::super::file::Opener;
use super::super::log::{self, Noting};
use super::super::shield::{caught, shielded};
use super::super::snapshot::read_record;
use super::super::tables::{self, Bytes, FileState, StoredEnding};
use super::super::{codec, failure};
use super::check::{examine, open_as_it_is, open_verified};
use super::draft::{Alone, NewFile};
use super::pin::Pinned;
use super::progress::{Progress, Step};
use super::report::{CheckReport, Damage, Finding};
use super::walk::{self, Row, each, lookup};
use crate::error::{Error, Kind, Result};
use crate::expiry::Timestamp;
use crate::id::SessionId;
use crate::keyring::KeyRing;
use crate::record::{EndedBy, Ending, Record};
use crate::store::{Note, Tally, Timing};

type StoredEndings = Vec<([u8; 16], StoredEnding)>;
type Sessions = ReadOnlyTable<Bytes<32>, &'static [u8]>;

/// What [`compact`](crate::store::RedbStoreBuilder::compact) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compacted {
    /// Size of the file before.
    pub bytes_before: u64,
    /// Size of the file now.
    pub bytes_after: u64,
}

/// What [`repair`](crate::store::RedbStoreBuilder::repair) did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repaired {
    /// Records in the file now.
    pub records: u64,
    /// Sessions that could not be saved, as far as they can be named.
    pub lost: Vec<SessionId>,
    /// Whether the keys could not be saved: there is a new one, and every cookie is refused.
    pub keys_lost: bool,
    /// Whether everyone's sessions were ended, since it cannot be known which were before.
    pub everyone_ended: bool,
    /// Where the broken file is now; `None` if nothing was damaged and nothing was done.
    pub kept: Option<PathBuf>,
}

pub(super) fn compact(opener: &Opener, note: Option<&Note>, at: Timestamp) -> Result<Compacted> {
    let alone = Alone::with(opener)?;
    let pinned = Pinned::held(opener, alone.file.clone())?;
    let report = examine(&pinned);
    opener.progress.go_on()?;
    if !report.is_sound() {
        let message = format!("{} is damaged, and left as it is", opener.path.display());
        return Err(Error::new(Kind::Corrupt, message));
    }
    let (new, _) = rebuilt(opener, &pinned, &report, note, at)?;
    let new = new.like(&alone.file)?;
    let (bytes_before, bytes_after) = (pinned.len(), new.len());
    new.replace()?;
    Ok(Compacted { bytes_before, bytes_after })
}

pub(super) fn repair(opener: &Opener, note: Option<&Note>, at: Timestamp) -> Result<Repaired> {
    let alone = Alone::with(opener)?;
    let pinned = Pinned::held(opener, alone.file.clone())?;
    let report = examine(&pinned);
    opener.progress.go_on()?;
    if report.is_sound() {
        return Ok(Repaired { records: report.records, ..Repaired::default() });
    }
    let (new, repaired) = rebuilt(opener, &pinned, &report, note, at)?;
    let kept = new.like(&alone.file)?.replace_and_keep("broken", at)?;
    Ok(Repaired { kept: Some(kept), ..repaired })
}

/// A new file with all that can be read at that moment, which `report` is about.
fn rebuilt(
    opener: &Opener,
    pinned: &Pinned,
    report: &CheckReport,
    note: Option<&Note>,
    at: Timestamp,
) -> Result<(NewFile, Repaired)> {
    let old = Old::open(pinned)?;
    let new = NewFile::new(opener)?;
    let database = new.make()?;
    let mut txn = database.begin_write().map_err(failure::before_commit)?;
    txn.set_quick_repair(true);
    let mut repaired = Repaired::default();
    let copy = Copy { old: &old.txn, new: &txn, progress: &opener.progress };
    let copied = copy.all(report, note, at, &mut repaired);
    // Lets go of a transaction that cannot be carried on with, or lacks what was not read.
    copied.and_then(|()| opener.progress.go_on())?;
    txn.commit().map_err(|error| full_or(failure::in_commit(error)))?;
    database.close().map_err(failure::before_commit)?;
    opener.progress.go_on()?;
    Ok((new, repaired))
}

/// Nobody has seen that file yet: whatever became of the commit, nothing was changed.
fn full_or(error: Error) -> Error {
    Error::unavailable("the new file cannot be written; the former is as it was").with_source(error)
}

/// A damaged file, opened as well as it can be.
struct Old {
    txn: ReadTransaction,
    _database: Box<dyn std::any::Any>,
}

impl Old {
    fn open(pinned: &Pinned) -> Result<Self> {
        fn begin(database: impl ReadableDatabase + 'static) -> Result<Old> {
            let txn = caught(|| database.begin_read())?.map_err(failure::before_commit)?;
            Ok(Old { txn, _database: Box::new(database) })
        }
        match open_verified(pinned) {
            Ok(database) => begin(database),
            Err(_) => begin(open_as_it_is(pinned)?),
        }
    }
}

struct Copy<'a> {
    old: &'a ReadTransaction,
    new: &'a WriteTransaction,
    progress: &'a Progress,
}

impl Copy<'_> {
    fn all(
        &self,
        report: &CheckReport,
        note: Option<&Note>,
        at: Timestamp,
        repaired: &mut Repaired,
    ) -> Result<()> {
        let seen = self.records(report, repaired)?;
        let mut state = shielded(|| walk::state(self.old)).ok();
        let endings = self.endings()?;
        repaired.everyone_ended = state.is_none() || endings.is_none();
        let endings = endings.unwrap_or_default();
        let known = state.as_ref().map_or(0, |state| state.generation);
        let latest = endings.iter().map(|(_, stored)| stored.ending.generation).max().unwrap_or(0);
        let mut fresh = FileState { timing: seen.timing, ..FileState::new() };
        let fresh = state.get_or_insert_with(|| std::mem::replace(&mut fresh, FileState::new()));
        fresh.generation = known.max(latest).max(seen.generation);
        self.put_endings(endings, fresh, repaired.everyone_ended, at)?;
        self.keys(fresh, repaired, at)?;
        fresh.schema = fresh.schema.max(tables::SCHEMA);
        fresh.departed = 0;
        self.log(note)?;
        let mut meta = self.new.open_table(tables::META).map_err(failure::before_commit)?;
        let sealed = fresh.seal();
        meta.insert(tables::STATE, sealed.as_slice()).map(drop).map_err(failure::before_commit)
    }

    /// Copies the records and makes their indexes.
    fn records(&self, report: &CheckReport, repaired: &mut Repaired) -> Result<Seen> {
        let mut new = self.new.open_table(tables::SESSIONS).map_err(failure::before_commit)?;
        let mut seen = Seen::default();
        let mut failed = None;
        let mut copy = |id: SessionId, record: &Record| {
            let sealed = codec::seal(id.as_bytes(), record.as_bytes());
            match new.insert(id.as_bytes(), sealed.as_slice()) {
                Ok(Some(_)) => {}
                Ok(None) => seen.see(&id, record),
                Err(error) => failed = failed.take().or(Some(failure::before_commit(error))),
            }
        };
        if let Some(old) = self.old_table(tables::SESSIONS) {
            self.progress.begin(Step::Writing, walk::rows(&old));
            each(&old, self.progress, |key, value| {
                let id = SessionId::from_bytes(*key);
                if let Ok(record) = read_record(&id, value) {
                    copy(id, &record);
                }
            });
            if !report.is_sound() {
                self.out_of_line(&old, &mut copy);
            }
        }
        failed.map_or(Ok(()), Err)?;
        repaired.records = seen.deadlines.len() as u64;
        for id in named_lost(report) {
            if new.get(id.as_bytes()).map_err(failure::before_commit)?.is_none() {
                repaired.lost.push(id);
            }
        }
        let mut deadlines =
            self.new.open_table(tables::DEADLINES).map_err(failure::before_commit)?;
        seen.deadlines.sort_unstable();
        for key in seen.deadlines.drain(..) {
            deadlines.insert(&key, ()).map_err(failure::before_commit)?;
        }
        let mut users = self.new.open_table(tables::USERS).map_err(failure::before_commit)?;
        seen.users.sort_unstable();
        for key in seen.users.drain(..) {
            users.insert(&key, ()).map_err(failure::before_commit)?;
        }
        Ok(seen)
    }

    /// Copies the records that an index has, and that may not be met in line.
    fn out_of_line(&self, old: &Sessions, copy: &mut impl FnMut(SessionId, &Record)) {
        let mut look = |id: SessionId| {
            if let Row::Read(record) = lookup(old, &id) {
                copy(id, &record);
            }
        };
        if let Some(deadlines) = self.old_table(tables::DEADLINES) {
            each(&deadlines, self.progress, |key, ()| look(tables::id_in_deadline(key)));
        }
        if let Some(users) = self.old_table(tables::USERS) {
            each(&users, self.progress, |key, ()| look(tables::id_in_user(key)));
        }
    }

    /// A table of the damaged file, if it can be opened.
    fn old_table<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        definition: redb::TableDefinition<'_, K, V>,
    ) -> Option<ReadOnlyTable<K, V>> {
        shielded(|| self.old.open_table(definition).map_err(failure::before_commit)).ok()
    }

    /// `None` if there may have been others.
    fn endings(&self) -> Result<Option<StoredEndings>> {
        let read = shielded(|| {
            let table = self.old.open_table(tables::ENDINGS).map_err(failure::before_commit)?;
            let mut endings = Vec::new();
            let mut whole = true;
            let met =
                each(&table, self.progress, |key, value| match StoredEnding::open(key, value) {
                    Ok(stored) => endings.push((*key, stored)),
                    Err(_) => whole = false,
                });
            let len = table.len().map_err(failure::before_commit)?;
            Ok((whole && met.broken.is_none() && met.rows == len).then_some(endings))
        });
        match read {
            Err(error) if !error.is_corrupt() => Err(error),
            read => Ok(read.ok().flatten()),
        }
    }

    fn put_endings(
        &self,
        endings: StoredEndings,
        state: &mut FileState,
        end_everyone: bool,
        at: Timestamp,
    ) -> Result<()> {
        let mut endings: BTreeMap<_, _> = endings.into_iter().collect();
        if end_everyone {
            state.generation += 1;
            let ending = Ending { generation: state.generation, at, by: EndedBy::Cli };
            endings.insert(tables::EVERYONE, StoredEnding::new(ending));
        }
        let everyone = endings.get(&tables::EVERYONE).map(|stored| stored.ending);
        let pending = endings.values().filter(|stored| stored.pending_after.is_some()).count();
        let users = endings.keys().filter(|key| **key != tables::EVERYONE).count();
        state.everyone = everyone;
        state.pending_endings = u32::try_from(pending).unwrap_or(u32::MAX);
        state.user_endings = u32::try_from(users).unwrap_or(u32::MAX);
        let mut table = self.new.open_table(tables::ENDINGS).map_err(failure::before_commit)?;
        for (key, stored) in endings {
            let sealed = stored.seal(&key);
            table.insert(&key, sealed.as_slice()).map_err(failure::before_commit)?;
        }
        Ok(())
    }

    fn keys(&self, state: &mut FileState, repaired: &mut Repaired, at: Timestamp) -> Result<()> {
        let ring = match shielded(|| walk::ring(self.old)) {
            Ok(ring) => ring,
            Err(_) => {
                repaired.keys_lost = true;
                KeyRing::generate(at)?
            }
        };
        state.ring_version = ring.version();
        let mut keys = self.new.open_table(tables::KEYS).map_err(failure::before_commit)?;
        let sealed = codec::seal(tables::RING.as_bytes(), &ring.encode());
        keys.insert(tables::RING, sealed.as_slice()).map(drop).map_err(failure::before_commit)
    }

    fn log(&self, note: Option<&Note>) -> Result<()> {
        let mut new = self.new.open_table(tables::LOG).map_err(failure::before_commit)?;
        let mut entries = Vec::new();
        let _ = shielded(|| {
            let old = self.old.open_table(tables::LOG).map_err(failure::before_commit)?;
            for row in old.iter().map_err(failure::before_commit)? {
                let (number, value) = row.map_err(failure::before_commit)?;
                if log::decode(number.value(), value.value()).is_ok() {
                    entries.push((number.value(), value.value().to_vec()));
                }
            }
            Ok(())
        });
        for (number, value) in entries {
            new.insert(number, value.as_slice()).map_err(failure::before_commit)?;
        }
        drop(new);
        match note {
            Some(note) => Noting::new(note.clone())?.write(self.new, Tally::default()),
            None => Ok(()),
        }
    }
}

/// What the records tell.
#[derive(Default)]
struct Seen {
    deadlines: Vec<[u8; 37]>,
    users: Vec<[u8; 48]>,
    generation: u64,
    timing: Timing,
}

impl Seen {
    fn see(&mut self, id: &SessionId, record: &Record) {
        self.deadlines.push(tables::deadline_key(record.index_key(), id));
        if let Some(user) = record.listed_user() {
            self.users.push(tables::user_key(tables::user_hash(user), id));
        }
        self.generation = self.generation.max(record.generation());
        self.timing.longest_idle = self.timing.longest_idle.max(record.idle_timeout());
    }
}

fn named_lost(report: &CheckReport) -> BTreeSet<SessionId> {
    let lost = |finding: &&Finding| matches!(finding.damage, Damage::Corrupt | Damage::Missing);
    report.findings.iter().filter(lost).filter_map(|finding| finding.id).collect()
}
