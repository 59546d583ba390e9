//! Walking a whole file: every row against its checksum, the tables against each other.
//!
//! A row whose leaf is damaged is found by its checksum. A row whose *branch* is damaged is simply
//! not met any more; that a table counts more rows than are met says how many there are, and the
//! entry that another table has of it names it. So each record is looked for in the index by
//! deadline and, with a user and not yet ended, in the index by user, and each entry is looked for among the records.
//!
//! Activity moves a deadline without writing the index: the record itself names the bucket it is
//! filed under until the sweeper meets it, and that is the entry that has to be there.

use std::collections::BTreeSet;

use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, TableDefinition, Value,
};

use super::super::log;
use super::super::shield::shielded;
use super::super::snapshot::read_record;
use super::super::tables::{self, Bytes, FileState, StoredEnding};
use super::super::{codec, failure};
use super::progress::{Progress, Step};
use super::report::{CheckReport, Damage};
use crate::error::{Error, Kind, Result};
use crate::id::SessionId;
use crate::keyring::KeyRing;
use crate::record::Record;

/// Fails with `is_corrupt()`, and says what was found, unless the file is sound.
pub(in super::super) fn verify(database: &Database, progress: &Progress) -> Result<()> {
    let mut report = CheckReport::default();
    walk(&database.begin_read().map_err(failure::before_commit)?, &mut report, progress);
    progress.go_on()?;
    if report.is_sound() {
        return Ok(());
    }
    let counts = report.counts();
    let counts: Vec<_> =
        counts.iter().map(|(damage, count)| format!("{count} {}", damage.as_str())).collect();
    let message = format!(
        "the session file is damaged ({}); `fastsession check` names what is",
        counts.join(", ")
    );
    Err(Error::new(Kind::Corrupt, message))
}

/// Adds to `report` what is damaged in the file that `txn` reads.
pub(super) fn walk(txn: &ReadTransaction, report: &mut CheckReport, progress: &Progress) {
    let state = guarded(report, Damage::State, || state(txn));
    let mut walker = Walker { report, progress, generation: state.map(|state| state.generation) };
    walker.keys(txn, state.as_ref());
    walker.endings(txn, state.as_ref());
    walker.log(txn);
    let sessions = walker.open(txn, tables::SESSIONS);
    let deadlines = walker.open(txn, tables::DEADLINES);
    let users = walker.open(txn, tables::USERS);
    if let (Some(sessions), Some(deadlines), Some(users)) = (sessions, deadlines, users) {
        let rows = [rows(&sessions), rows(&deadlines), rows(&users)];
        progress.begin(Step::Comparing, rows.iter().sum());
        if walker.records(&sessions, &deadlines, &users).broken.is_some() {
            walker.out_of_line(&sessions, &deadlines);
        }
        let mut missing = BTreeSet::new();
        walker.deadlines(&deadlines, &sessions, &mut missing);
        walker.users(&users, &sessions, state.as_ref(), &mut missing);
        for id in missing {
            let detail = "its record is not there, or cannot be reached";
            walker.report.find(Damage::Missing, Some(id), detail);
        }
    }
}

/// What `read` reads; what keeps it from that is a finding.
fn guarded<T>(
    report: &mut CheckReport,
    damage: Damage,
    read: impl FnOnce() -> Result<T>,
) -> Option<T> {
    shielded(read).map_err(|error| report.find(damage, None, error.to_string())).ok()
}

pub(super) fn state(txn: &ReadTransaction) -> Result<FileState> {
    let meta = txn.open_table(tables::META).map_err(failure::before_commit)?;
    let state = meta.get(tables::STATE).map_err(failure::before_commit)?;
    let state = state.ok_or_else(|| Error::new(Kind::Corrupt, "the file has no state"))?;
    FileState::open(state.value())
}

pub(super) fn ring(txn: &ReadTransaction) -> Result<KeyRing> {
    let keys = txn.open_table(tables::KEYS).map_err(failure::before_commit)?;
    let sealed = keys.get(tables::RING).map_err(failure::before_commit)?;
    let sealed = sealed.ok_or_else(|| Error::new(Kind::Corrupt, "the file has no keys"))?;
    KeyRing::decode(codec::open(tables::RING.as_bytes(), sealed.value())?)
}

struct Index<'a, const N: usize> {
    name: &'static str,
    rows: &'a ReadOnlyTable<Bytes<N>, ()>,
    id_in: fn(&[u8; N]) -> SessionId,
}

struct Walker<'a> {
    report: &'a mut CheckReport,
    progress: &'a Progress,
    /// The file's, if that can be read.
    generation: Option<u64>,
}

impl Walker<'_> {
    fn open<K: redb::Key + 'static, V: Value + 'static>(
        &mut self,
        txn: &ReadTransaction,
        definition: TableDefinition<K, V>,
    ) -> Option<ReadOnlyTable<K, V>> {
        guarded(self.report, Damage::Pages, || {
            txn.open_table(definition).map_err(failure::before_commit)
        })
    }

    fn keys(&mut self, txn: &ReadTransaction, state: Option<&FileState>) {
        let Some(ring) = guarded(self.report, Damage::Keys, || ring(txn)) else { return };
        if state.is_some_and(|state| state.ring_version != ring.version()) {
            let detail = "the key ring is not the one that the file's state names";
            self.report.find(Damage::Keys, None, detail);
        }
    }

    fn endings(&mut self, txn: &ReadTransaction, state: Option<&FileState>) {
        let Some(table) = self.open(txn, tables::ENDINGS) else { return };
        let (mut users, mut pending, mut everyone, mut latest) = (0, 0, None, 0);
        let mut unreadable = 0_u64;
        let met = each(&table, self.progress, |key, value| match StoredEnding::open(key, value) {
            Ok(stored) => {
                pending += u32::from(stored.pending_after.is_some());
                latest = latest.max(stored.ending.generation);
                if *key == tables::EVERYONE {
                    everyone = Some(stored.ending);
                } else {
                    users += 1;
                }
            }
            Err(_) => unreadable += 1,
        });
        self.count("endings", &table, &met);
        for _ in 0..unreadable {
            let detail = "an ending of a user's sessions cannot be decoded: they may be live again";
            self.report.find(Damage::Ending, None, detail);
        }
        let Some(state) = state.filter(|_| unreadable == 0 && met.broken.is_none()) else { return };
        let agrees = state.user_endings == users
            && state.pending_endings == pending
            && state.everyone == everyone
            && state.generation >= latest;
        if !agrees {
            let detail = "the file's state does not agree with its endings";
            self.report.find(Damage::State, None, detail);
        }
    }

    fn log(&mut self, txn: &ReadTransaction) {
        let Some(table) = self.open(txn, tables::LOG) else { return };
        let mut unreadable = Vec::new();
        let read = shielded(|| {
            for row in table.iter().map_err(failure::before_commit)? {
                let (number, value) = row.map_err(failure::before_commit)?;
                if log::decode(number.value(), value.value()).is_err() {
                    unreadable.push(number.value());
                }
            }
            Ok(())
        });
        if let Err(error) = read {
            self.report.find(Damage::Pages, None, format!("in the log: {error}"));
        }
        for number in unreadable {
            self.report.find(Damage::Log, None, format!("entry {number} cannot be decoded"));
        }
    }

    fn records(
        &mut self,
        sessions: &ReadOnlyTable<Bytes<32>, &'static [u8]>,
        deadlines: &ReadOnlyTable<Bytes<37>, ()>,
        users: &ReadOnlyTable<Bytes<48>, ()>,
    ) -> Met {
        let generation = self.generation;
        let report = &mut *self.report;
        let met = each(sessions, self.progress, |key, value| {
            let id = SessionId::from_bytes(*key);
            let Ok(record) = read_record(&id, value) else {
                let detail = "its record cannot be decoded";
                return report.find(Damage::Corrupt, Some(id), detail);
            };
            report.records += 1;
            let deadline = tables::deadline_key(record.index_key(), &id);
            if !has(deadlines, &deadline) {
                let detail = "it is not in the index by deadline: it is never swept";
                report.find(Damage::Unindexed, Some(id), detail);
            }
            let user =
                record.listed_user().map(|user| tables::user_key(tables::user_hash(user), &id));
            if user.is_some_and(|key| !has(users, &key)) {
                let detail = "it is not in the index by user: `list --user` does not show it";
                report.find(Damage::Unindexed, Some(id), detail);
            }
            if generation.is_some_and(|known| record.generation() > known) {
                let detail = "it is of a generation that the file does not know of";
                report.find(Damage::State, Some(id), detail);
            }
        });
        self.count("records", sessions, &met);
        met
    }

    /// Names the records that are not met in line, but found by the ID that an index has of them.
    fn out_of_line(
        &mut self,
        sessions: &ReadOnlyTable<Bytes<32>, &'static [u8]>,
        deadlines: &ReadOnlyTable<Bytes<37>, ()>,
    ) {
        let mut in_line = BTreeSet::new();
        each(sessions, self.progress, |key, _| {
            in_line.insert(*key);
        });
        each(deadlines, self.progress, |key, ()| {
            let id = tables::id_in_deadline(key);
            if in_line.insert(*id.as_bytes()) && matches!(lookup(sessions, &id), Row::Read(_)) {
                self.report.records += 1;
                self.report.find(Damage::Hidden, Some(id), "it is found by its ID only");
            }
        });
    }

    fn deadlines(
        &mut self,
        deadlines: &ReadOnlyTable<Bytes<37>, ()>,
        sessions: &ReadOnlyTable<Bytes<32>, &'static [u8]>,
        missing: &mut BTreeSet<SessionId>,
    ) {
        let accounted = |key: &[u8; 37], id: &SessionId, record: &Record| {
            tables::deadline_key(record.index_key(), id) == *key
        };
        let by_deadline =
            Index { name: "entries by deadline", rows: deadlines, id_in: tables::id_in_deadline };
        missing.extend(self.entries(&by_deadline, sessions, accounted));
    }

    /// Of a session that was purged the entry by user may still be there, and its row and its
    /// entry by deadline are not: the file's state says how many these are.
    fn users(
        &mut self,
        users: &ReadOnlyTable<Bytes<48>, ()>,
        sessions: &ReadOnlyTable<Bytes<32>, &'static [u8]>,
        state: Option<&FileState>,
        missing: &mut BTreeSet<SessionId>,
    ) {
        let accounted = |key: &[u8; 48], id: &SessionId, record: &Record| {
            let user = record.listed_user();
            user.is_some_and(|user| tables::user_key(tables::user_hash(user), id) == *key)
        };
        let by_user = Index { name: "entries by user", rows: users, id_in: tables::id_in_user };
        let rowless = self.entries(&by_user, sessions, accounted);
        let unknown = rowless.difference(missing).count() as u64;
        if state.is_none_or(|state| unknown > state.departed) {
            missing.extend(rowless);
        }
    }

    /// The sessions that have an entry and no row.
    fn entries<const N: usize>(
        &mut self,
        index: &Index<'_, N>,
        sessions: &ReadOnlyTable<Bytes<32>, &'static [u8]>,
        accounted: impl Fn(&[u8; N], &SessionId, &Record) -> bool,
    ) -> BTreeSet<SessionId> {
        let name = index.name;
        let report = &mut *self.report;
        let mut rowless = BTreeSet::new();
        let met = each(index.rows, self.progress, |key, ()| {
            let id = (index.id_in)(key);
            match lookup(sessions, &id) {
                Row::Read(record) if accounted(key, &id, &record) => {}
                Row::Read(_) => {
                    report.find(Damage::Stray, Some(id), format!("among the {name}, wrongly"));
                }
                Row::None => {
                    rowless.insert(id);
                }
                // Found among the records.
                Row::Corrupt => {}
            }
        });
        self.count(name, index.rows, &met);
        rowless
    }

    /// Compares what was met of a table with what it counts itself.
    fn count<K: redb::Key + 'static, V: Value + 'static>(
        &mut self,
        name: &str,
        table: &ReadOnlyTable<K, V>,
        met: &Met,
    ) {
        if let Some(broken) = &met.broken {
            self.report.find(Damage::Pages, None, format!("among the {name}: {broken}"));
        }
        match shielded(|| table.len().map_err(failure::before_commit)) {
            Ok(len) if len == met.rows => {}
            Ok(len) => {
                let rows = met.rows;
                let detail = format!("there are {len} {name}, of which {rows} can be reached");
                self.report.find(Damage::Hidden, None, detail);
            }
            Err(error) => self.report.find(Damage::Pages, None, error.to_string()),
        }
    }
}

/// One damaged key puts itself, or all that follow it, out of order; but a damaged branch may lead
/// to where the walk has been.
const MAX_DISORDERED: u64 = 1000;

/// What became of a walk through one table.
pub(super) struct Met {
    pub(super) rows: u64,
    /// Why rows in between were not met.
    pub(super) broken: Option<Error>,
}

/// Visits every row that can be reached: in order, and past a page that cannot be read, in order
/// from the end.
pub(super) fn each<const N: usize, V: Value + 'static>(
    table: &ReadOnlyTable<Bytes<N>, V>,
    progress: &Progress,
    mut visit: impl FnMut(&[u8; N], V::SelfType<'_>),
) -> Met {
    let mut met = Met { rows: 0, broken: None };
    let mut last: Option<[u8; N]> = None;
    let mut disordered = 0;
    let forward = shielded(|| {
        for row in table.iter().map_err(failure::before_commit)? {
            let (key, value) = row.map_err(failure::before_commit)?;
            let key = *key.value();
            if last.is_some_and(|last| last >= key) {
                disordered += 1;
                if disordered > MAX_DISORDERED {
                    return Err(Error::new(Kind::Corrupt, "rows lead round in a circle"));
                }
            }
            last = last.max(Some(key));
            progress.advance(1)?;
            met.rows += 1;
            visit(&key, value.value());
        }
        Ok(())
    });
    let Err(error) = forward else {
        let disordered = (disordered > 0)
            .then(|| Error::new(Kind::Corrupt, format!("{disordered} rows are out of order")));
        return Met { broken: disordered, ..met };
    };
    met.broken = Some(error);
    let mut next: Option<[u8; N]> = None;
    // What stops this is what stopped it before.
    let _ = shielded(|| {
        for row in table.iter().map_err(failure::before_commit)?.rev() {
            let (key, value) = row.map_err(failure::before_commit)?;
            let key = *key.value();
            if last.is_some_and(|last| last >= key) || next.is_some_and(|next| next <= key) {
                return Ok(());
            }
            next = Some(key);
            progress.advance(1)?;
            met.rows += 1;
            visit(&key, value.value());
        }
        Ok(())
    });
    met
}

/// How many rows a table says it has.
pub(super) fn rows<K: redb::Key + 'static, V: Value + 'static>(table: &ReadOnlyTable<K, V>) -> u64 {
    shielded(|| table.len().map_err(failure::before_commit)).unwrap_or(0)
}

fn has<const N: usize>(index: &ReadOnlyTable<Bytes<N>, ()>, key: &[u8; N]) -> bool {
    shielded(|| Ok(index.get(key).map_err(failure::before_commit)?.is_some())).unwrap_or(false)
}

/// What there is under an ID.
pub(super) enum Row {
    Read(Record),
    Corrupt,
    None,
}

pub(super) fn lookup(sessions: &ReadOnlyTable<Bytes<32>, &'static [u8]>, id: &SessionId) -> Row {
    let found = shielded(|| {
        let value = sessions.get(id.as_bytes()).map_err(failure::before_commit)?;
        Ok(value.map(|value| read_record(id, value.value())))
    });
    match found {
        Ok(Some(Ok(record))) => Row::Read(record),
        Ok(Some(Err(_))) => Row::Corrupt,
        // A page on the way to it cannot be read.
        Ok(None) | Err(_) => Row::None,
    }
}
