//! Long reads: pages of summaries and statistics, on a thread of their own.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use redb::ReadableTableMetadata;

use super::shield::shielded;
use super::snapshot::Snapshot;
use super::tables;
use super::{Shared, codec, failure, space};
use crate::error::Result;
use crate::id::SessionId;
use crate::record::{Endings, Record, State};
use crate::store::{Page, Query, Records, Stats, Summary, settled};

/// Most records one page looks at: a few milliseconds, so that a snapshot is never held for long.
const MAX_LOOKED_AT: usize = 5000;

/// Most bytes of records in one answer, but for its last record.
const MAX_BYTES: usize = 1 << 20;

/// One page of summaries. They are made here, each while its row is at hand: handing the rows to
/// whoever waits costs an allocation more of each, which another thread then frees.
pub(super) fn page(snapshot: &Snapshot, query: &Query) -> Result<Page> {
    let summary = |row: Row| {
        let mut summary = Summary::in_state(row.state, row.id, &row.record, &row.endings);
        summary.size_bytes = row.size;
        summary
    };
    let found = fill(Filling::new(snapshot, query, Part::Metadata, summary))?;
    Ok(Page { sessions: found.rows, next: found.next, corrupt: found.corrupt })
}

/// The rows of some records in full.
pub(super) fn records(snapshot: &Snapshot, query: &Query) -> Result<Found<Row>> {
    fill(Filling::new(snapshot, query, Part::Whole, |row| row))
}

fn fill<T>(filling: Filling<'_, T, impl Fn(Row) -> T>) -> Result<Found<T>> {
    shielded(|| match filling.query.filter.listed_user() {
        Some(user) => fill_from_user(filling, user),
        None => fill_from_all(filling),
    })
}

fn fill_from_all<T>(mut filling: Filling<'_, T, impl Fn(Row) -> T>) -> Result<Found<T>> {
    let snapshot = filling.snapshot;
    let (from, to) = (filling.from(), filling.last);
    let from = (from.as_ref().map(SessionId::as_bytes), Bound::Included(to.as_bytes()));
    let rows = snapshot.sessions.range::<&[u8; 32]>(from).map_err(failure::before_commit)?;
    for row in rows {
        let (key, value) = row.map_err(failure::before_commit)?;
        let id = SessionId::from_bytes(*key.value());
        if filling.is_full() {
            return Ok(filling.stop());
        }
        filling.look_at(id, value.value())?;
    }
    Ok(filling.found)
}

fn fill_from_user<T>(
    mut filling: Filling<'_, T, impl Fn(Row) -> T>,
    user: &str,
) -> Result<Found<T>> {
    let snapshot = filling.snapshot;
    let hash = tables::user_hash(user);
    let key = |id: &SessionId| tables::user_key(hash, id);
    let (from, to) = (filling.from(), key(&filling.last));
    let from = from.as_ref().map(key);
    let users = snapshot.txn.open_table(tables::USERS).map_err(failure::before_commit)?;
    let range = (from.as_ref(), Bound::Included(&to));
    for entry in users.range::<&[u8; 48]>(range).map_err(failure::before_commit)? {
        let (key, _) = entry.map_err(failure::before_commit)?;
        let id = tables::id_in_user(key.value());
        if filling.is_full() {
            return Ok(filling.stop());
        }
        let value = snapshot.sessions.get(id.as_bytes()).map_err(failure::before_commit)?;
        if let Some(value) = value {
            filling.look_at(id, value.value())?;
        }
    }
    Ok(filling.found)
}

/// A row that matches.
pub(super) struct Row {
    id: SessionId,
    record: Record,
    endings: Endings,
    state: State,
    /// Of the whole record, in bytes.
    size: usize,
}

/// How much of each record is read.
#[derive(Clone, Copy)]
enum Part {
    Metadata,
    Whole,
}

/// What an answer is made of.
pub(super) struct Found<T> {
    rows: Vec<T>,
    next: Option<SessionId>,
    corrupt: Vec<SessionId>,
}

impl Found<Row> {
    pub(super) fn into_records(self, keep: Duration) -> Result<Records> {
        let whole = |row: Row| Ok((row.id, settled(&row.record, &row.endings, keep)?));
        let records = self.rows.into_iter().map(whole).collect::<Result<_>>()?;
        Ok(Records { records, next: self.next, corrupt: self.corrupt })
    }
}

/// An answer on its way.
struct Filling<'a, T, Make> {
    snapshot: &'a Snapshot,
    query: &'a Query,
    part: Part,
    /// What is kept of a row.
    make: Make,
    found: Found<T>,
    last: SessionId,
    looked_at: usize,
    bytes: usize,
    latest: Option<SessionId>,
}

impl<'a, T, Make: Fn(Row) -> T> Filling<'a, T, Make> {
    fn new(snapshot: &'a Snapshot, query: &'a Query, part: Part, make: Make) -> Self {
        let (_, last) = query.filter.id_range();
        let rows = Vec::with_capacity(query.limit.min(MAX_LOOKED_AT));
        let found = Found { rows, next: None, corrupt: Vec::new() };
        Self { snapshot, query, part, make, found, last, looked_at: 0, bytes: 0, latest: None }
    }

    fn from(&self) -> Bound<SessionId> {
        let (first, _) = self.query.filter.id_range();
        match self.query.after {
            Some(after) if after >= first => Bound::Excluded(after),
            _ => Bound::Included(first),
        }
    }

    fn is_full(&self) -> bool {
        self.found.rows.len() >= self.query.limit.max(1)
            || self.looked_at >= MAX_LOOKED_AT
            || self.bytes >= MAX_BYTES
    }

    fn stop(mut self) -> Found<T> {
        self.found.next = self.latest;
        self.found
    }

    fn look_at(&mut self, id: SessionId, value: &[u8]) -> Result<()> {
        self.looked_at += 1;
        self.latest = Some(id);
        let read = codec::open(id.as_bytes(), value).and_then(|bytes| match self.part {
            Part::Metadata => Record::metadata_from_bytes(bytes),
            Part::Whole => Record::from_bytes(bytes).map(|record| (record, bytes.len())),
        });
        let (record, size) = match read {
            Ok(read) => read,
            Err(error) if error.is_corrupt() => {
                self.found.corrupt.push(id);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let (at, filter) = (self.query.at, &self.query.filter);
        let endings = self.snapshot.endings(&record)?;
        let unrecorded = self.snapshot.state.timing.touch_interval;
        let state = record.state(at, &endings);
        if filter.matches_in(state, &id, &record, unrecorded) {
            // Metadata is bounded by its number alone.
            self.bytes += if matches!(self.part, Part::Whole) { size } else { 0 };
            self.found.rows.push((self.make)(Row { id, record, endings, state, size }));
        }
        Ok(())
    }
}

/// What is known without a walk through the tables.
pub(super) fn quick_stats(shared: &Arc<Shared>, snapshot: &Snapshot) -> Result<Stats> {
    let records = shielded(|| snapshot.sessions.len().map_err(failure::before_commit))?;
    let file_bytes = space::size_of(&shared.config.opener.path);
    Ok(Stats { records, file_bytes, ..Stats::default() })
}

/// Sizes and counts; walks every table.
pub(super) fn stats(shared: &Arc<Shared>, snapshot: &Snapshot) -> Result<Stats> {
    let (records, stored_bytes) = snapshot.size()?;
    let file_bytes = space::size_of(&shared.config.opener.path);
    let used = shielded(|| used_bytes(snapshot))?;
    let free_bytes = file_bytes.map(|bytes| bytes.saturating_sub(used));
    Ok(Stats { records, stored_bytes, file_bytes, free_bytes })
}

fn used_bytes(snapshot: &Snapshot) -> Result<u64> {
    // Not so many pages: one that holds a long value is counted as one, however large it is.
    let pages = |stats: redb::TableStats| {
        stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes()
    };
    let deadlines = snapshot.txn.open_table(tables::DEADLINES).map_err(failure::before_commit)?;
    let users = snapshot.txn.open_table(tables::USERS).map_err(failure::before_commit)?;
    Ok(pages(snapshot.sessions.stats().map_err(failure::before_commit)?)
        + pages(deadlines.stats().map_err(failure::before_commit)?)
        + pages(users.stats().map_err(failure::before_commit)?))
}
