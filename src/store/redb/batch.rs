//! One write transaction: rows read and written for many operations, in order of their IDs.
//!
//! An update touches the table of sessions and no other. The index by deadline is written when a
//! session begins, ends or gets an earlier deadline; the index by user when a user is bound and when
//! the session ends.

use std::ops::Bound;
use std::time::Duration;

use redb::{ReadableTable, ReadableTableMetadata, WriteTransaction};

use self::endings::{EndingsTable, endings_of, opened_endings};
use self::open::Open;
use super::log::Noting;
use super::shield::shielded;
use super::snapshot::read_record;
use super::tables::{self, Bytes, FileState, StoredEnding};
use super::{codec, failure};
use crate::error::{Error, Kind, Result};
use crate::id::SessionId;
use crate::keyring::KeyRing;
use crate::record::{Ending, Endings, Record};
use crate::store::events::Notes;
use crate::store::{
    Access, Applied, Commit, End, EndReport, Filter, KeyChange, Op, Outcome, Rows, Tally, Target,
    Write, apply, end_record,
};

const FIRST: SessionId = SessionId::from_bytes([0; SessionId::LEN]);
const LAST: SessionId = SessionId::from_bytes([0xff; SessionId::LEN]);

/// What a page of redb's has room for, which is no larger than half a region of the file; a file
/// of an earlier version has regions of 8 MiB.
const MAX_RECORD_BYTES: usize = 4 * 1024 * 1024;

/// The tables of one write transaction, each opened when it is first needed.
pub(super) struct Batch<'txn> {
    txn: &'txn WriteTransaction,
    sessions: Open<'txn, Bytes<32>, &'static [u8]>,
    deadlines: Option<Open<'txn, Bytes<37>, ()>>,
    users: Option<Open<'txn, Bytes<48>, ()>>,
    endings: Option<EndingsTable<'txn>>,
    state: FileState,
    stored_state: FileState,
    keep_ended: Duration,
    /// Whether anything was written.
    changed: bool,
    /// No room for anything that makes the file larger.
    full: Option<u64>,
    /// What is to be told of once it is durable.
    notes: Notes,
    /// Where sweeping has got to; kept by the writer if this is committed.
    sweeping: Sweeping,
}

/// What comes of a transaction once it is committed.
pub(super) struct Finished {
    /// Whether there is anything to commit.
    pub(super) changed: bool,
    pub(super) notes: Notes,
    pub(super) sweeping: Sweeping,
}

macro_rules! table {
    ($self:ident.$field:ident, $definition:expr) => {
        match &mut $self.$field {
            Some(table) => Ok(table),
            none => {
                let table = $crate::store::redb::batch::open::Open::new($self.txn, $definition)
                    .map_err(failure::before_commit);
                table.map(|table| none.insert(table))
            }
        }
    };
}

mod departed;
mod endings;
mod open;
mod pass;
mod sweep;
mod transfer;

pub(super) use self::pass::Sweeping;

impl<'txn> Batch<'txn> {
    pub(super) fn begin(
        txn: &'txn WriteTransaction,
        keep_ended: Duration,
        full: Option<u64>,
        notes: Notes,
        sweeping: Sweeping,
    ) -> Result<Self> {
        let state = {
            let meta = txn.open_table(tables::META).map_err(failure::before_commit)?;
            let value = meta.get(tables::STATE).map_err(failure::before_commit)?;
            let value = value.ok_or_else(|| Error::new(Kind::Corrupt, "the file has no state"))?;
            FileState::open(value.value())?
        };
        Ok(Self {
            txn,
            sessions: Open::new(txn, tables::SESSIONS).map_err(failure::before_commit)?,
            deadlines: None,
            users: None,
            endings: None,
            state,
            stored_state: state,
            keep_ended,
            changed: false,
            full,
            notes,
            sweeping,
        })
    }

    /// Writes what the transaction knows of itself.
    pub(super) fn finish(mut self) -> Result<Finished> {
        if self.state != self.stored_state {
            self.changed = true;
            let mut meta = self.txn.open_table(tables::META).map_err(failure::before_commit)?;
            let sealed = self.state.seal();
            meta.insert(tables::STATE, sealed.as_slice()).map_err(failure::before_commit)?;
        }
        let Self { changed, notes, sweeping, .. } = self;
        Ok(Finished { changed, notes, sweeping })
    }

    /// How many rows there are by now.
    pub(super) fn rows(&self) -> Result<u64> {
        self.sessions.len().map_err(failure::before_commit)
    }

    /// Carries out one commit. The inner result is the operation's own; the outer one is an error
    /// if the transaction can no longer be trusted: a decision may panic and harm nobody else, a
    /// write that stops half-way may not be committed.
    pub(super) fn commit(&mut self, commit: &Commit) -> Result<Result<Outcome>> {
        let Applied { outcome, write, more } = match shielded(|| apply(commit, self)) {
            Ok(applied) => applied,
            Err(error) if failure::needs_reopening(&error) => return Err(error),
            Err(error) => return Ok(Err(error)),
        };
        let writes: Vec<Write> = write.into_iter().chain(more).collect();
        // A logout works in a full file, though a mark may be larger than the data it replaces.
        let is_bounded = !matches!(commit.op, Op::End { .. });
        if is_bounded && let Err(error) = self.check_room(&writes) {
            return Ok(Err(error));
        }
        for write in &writes {
            self.put(write)?;
        }
        self.notes.wrote(writes.iter());
        if let Outcome::Committed(record) = &outcome {
            let timing = &mut self.state.timing;
            timing.longest_idle = timing.longest_idle.max(record.idle_timeout());
            timing.touch_interval = timing.touch_interval.max(commit.access.touch_interval);
        }
        Ok(Ok(outcome))
    }

    pub(super) fn touch(&mut self, id: &SessionId, access: &Access) -> Result<()> {
        let record = match self.get(id) {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(()),
            Err(error) if error.is_corrupt() => return Ok(()),
            Err(error) => return Err(error),
        };
        let endings = self.endings(record.user())?;
        let live = record.absence(access.at, access.timeouts.as_ref(), &endings).is_none();
        if live && access.at > record.last_seen_at() {
            self.put_row(id, &record.touched(access.at))?;
        }
        Ok(())
    }

    pub(super) fn end(&mut self, end: &End) -> Result<EndReport> {
        match &end.target {
            Target::Sessions { ids, filter } => self.end_sessions(end, ids, filter),
            Target::User(user) => self.end_generation(end, Some(user)),
            Target::Everyone => self.end_generation(end, None),
        }
    }

    fn end_sessions(&mut self, end: &End, ids: &[SessionId], filter: &Filter) -> Result<EndReport> {
        let touch_interval = self.state.timing.touch_interval;
        let mut report = EndReport::default();
        for id in ids.iter().filter(|id| Some(**id) != end.except) {
            let record = match self.get(id) {
                Ok(Some(record)) => record,
                Ok(None) => continue,
                Err(error) if error.is_corrupt() => continue,
                Err(error) => return Err(error),
            };
            let endings = self.endings(record.user())?;
            match end_record(&record, &endings, end.at, end.by, self.keep_ended)? {
                None => report.already_over += 1,
                Some(after) if filter.matches(id, &record, &endings, end.at, touch_interval) => {
                    self.put_ended(&Write { id: *id, before: Some(record), after })?;
                    report.ended += 1;
                }
                Some(_) => {}
            }
        }
        Ok(report)
    }

    fn end_generation(&mut self, end: &End, user: Option<&str>) -> Result<EndReport> {
        let spared = match end.except.map(|id| (id, self.get(&id))) {
            Some((id, Ok(Some(record)))) => {
                let endings = self.endings(record.user())?;
                record.absence(end.at, None, &endings).is_none().then_some((id, record))
            }
            Some((_, Err(error))) if !error.is_corrupt() => return Err(error),
            _ => None,
        };
        self.state.generation += 1;
        let ending = Ending { generation: self.state.generation, at: end.at, by: end.by };
        let key = user.map_or(tables::EVERYONE, tables::user_hash);
        let sealed = StoredEnding::new(ending).seal(&key);
        let table = opened_endings(&mut self.endings, self.txn, &self.state)?;
        let before = table.insert(&key, sealed.as_slice()).map_err(failure::before_commit)?;
        let before = before.map(|value| StoredEnding::open(&key, value.value())).transpose()?;
        let was_pending = before.as_ref().is_some_and(|stored| stored.pending_after.is_some());
        self.state.pending_endings += u32::from(!was_pending);
        match user {
            Some(_) => self.state.user_endings += u32::from(before.is_none()),
            None => self.state.everyone = Some(ending),
        }
        self.changed = true;
        if let Some((id, record)) = spared {
            let mut header = record.header();
            header.generation = self.state.generation;
            self.put_row(&id, &Record::new(&header, record.data())?)?;
        }
        self.notes.ended_all(user, &ending);
        Ok(EndReport::default())
    }

    pub(super) fn change_keys(&mut self, change: KeyChange) -> Result<KeyRing> {
        if self.state.keys_held_by_application {
            return Err(super::shared::keys_held_by_application());
        }
        let mut keys = self.txn.open_table(tables::KEYS).map_err(failure::before_commit)?;
        let key = tables::RING.as_bytes();
        let ring = {
            let value = keys.get(tables::RING).map_err(failure::before_commit)?;
            let value = value.ok_or_else(|| Error::new(Kind::Corrupt, "the file has no keys"))?;
            KeyRing::decode(codec::open(key, value.value())?)?
        };
        let ring = change.apply(&ring, self.state.timing.longest_idle)?;
        let sealed = codec::seal(key, &ring.encode());
        keys.insert(tables::RING, sealed.as_slice()).map_err(failure::before_commit)?;
        self.state.ring_version = ring.version();
        self.changed = true;
        Ok(ring)
    }

    /// Notes that the application brings its own keys.
    pub(super) fn hold_keys(&mut self) {
        self.state.keys_held_by_application = true;
    }

    /// Adds to the entry of a note in the log.
    pub(super) fn note(&mut self, note: &Noting, tally: Tally) -> Result<()> {
        self.changed = true;
        note.write(self.txn, tally)
    }

    fn ids_of_user(
        &mut self,
        hash: [u8; 16],
        after: &SessionId,
        limit: usize,
    ) -> Result<Vec<SessionId>> {
        let from = tables::user_key(hash, after);
        let to = tables::user_key(hash, &LAST);
        let table = table!(self.users, tables::USERS)?;
        let entries = table
            .range::<&[u8; 48]>((Bound::Excluded(&from), Bound::Included(&to)))
            .map_err(failure::before_commit)?;
        entries
            .take(limit)
            .map(|entry| {
                let (key, _) = entry.map_err(failure::before_commit)?;
                Ok(tables::id_in_user(key.value()))
            })
            .collect()
    }

    fn check_room(&self, writes: &[Write]) -> Result<()> {
        writes.iter().try_for_each(|write| check_size(&write.after))?;
        let Some(limit) = self.full else { return Ok(()) };
        let added: usize = writes.iter().map(|write| write.after.size_bytes()).sum();
        let before = writes.iter().filter_map(|write| write.before.as_ref());
        let removed: usize = before.map(Record::size_bytes).sum();
        if added > removed { Err(reached(limit)) } else { Ok(()) }
    }

    fn put_ended(&mut self, write: &Write) -> Result<()> {
        self.notes.wrote(std::iter::once(write));
        self.put(write)
    }

    /// Writes a row and its index entries.
    fn put(&mut self, write: &Write) -> Result<()> {
        let Write { id, before, after } = write;
        self.put_row(id, after)?;
        let (old, new) = (before.as_ref().map(Record::index_key), after.index_key());
        if old != Some(new) {
            let deadlines = table!(self.deadlines, tables::DEADLINES)?;
            if let Some(old) = old {
                let key = tables::deadline_key(old, id);
                deadlines.remove(&key).map_err(failure::before_commit)?;
            }
            let key = tables::deadline_key(new, id);
            deadlines.insert(&key, ()).map_err(failure::before_commit)?;
        }
        self.list(write)
    }

    fn put_row(&mut self, id: &SessionId, record: &Record) -> Result<()> {
        let payload = record.as_bytes();
        self.changed = true;
        let mut place = self
            .sessions
            .insert_reserve(id.as_bytes(), codec::CHECKSUM_BYTES + payload.len())
            .map_err(failure::before_commit)?;
        codec::seal_into(place.as_mut(), id.as_bytes(), payload);
        Ok(())
    }

    fn remove(&mut self, id: &SessionId, record: &Record) -> Result<()> {
        self.changed = true;
        self.sessions.remove(id.as_bytes()).map_err(failure::before_commit)?;
        let deadlines = table!(self.deadlines, tables::DEADLINES)?;
        let key = tables::deadline_key(record.index_key(), id);
        deadlines.remove(&key).map_err(failure::before_commit)?;
        if let Some(user) = record.listed_user() {
            let users = table!(self.users, tables::USERS)?;
            let key = tables::user_key(tables::user_hash(user), id);
            users.remove(&key).map_err(failure::before_commit)?;
        }
        Ok(())
    }
}

/// Fails unless so many more pages can be had: takes them, and gives them back.
pub(super) fn prove_reserve(txn: &WriteTransaction, pages: u64) -> Result<()> {
    // With its key and redb's own bytes it has a page to itself.
    let value = [0; 4000];
    let mut reserve = Open::new(txn, tables::RESERVE).map_err(failure::before_commit)?;
    for page in 0..pages {
        reserve.insert(page, value.as_slice()).map_err(failure::before_commit)?;
    }
    drop(reserve);
    txn.delete_table(tables::RESERVE).map(drop).map_err(failure::before_commit)
}

fn check_size(record: &Record) -> Result<()> {
    if record.size_bytes() <= MAX_RECORD_BYTES {
        return Ok(());
    }
    let message = format!("a stored session has at most {MAX_RECORD_BYTES} bytes");
    Err(Error::new(Kind::TooLarge, message))
}

pub(super) fn reached(limit: u64) -> Error {
    let message = format!("the session file has reached its limit of {limit} bytes");
    Error::new(Kind::Full, message)
}

impl Rows for Batch<'_> {
    fn get(&mut self, id: &SessionId) -> Result<Option<Record>> {
        let value = self.sessions.get(id.as_bytes()).map_err(failure::before_commit)?;
        value.map(|value| read_record(id, value.value())).transpose()
    }

    fn endings(&mut self, user: Option<&str>) -> Result<Endings> {
        if self.state.user_endings > 0 {
            opened_endings(&mut self.endings, self.txn, &self.state)?;
        }
        endings_of(&self.state, self.endings.as_ref(), user)
    }

    fn generation(&mut self) -> Result<u64> {
        Ok(self.state.generation)
    }

    fn sessions_of(&mut self, user: &str, limit: usize) -> Result<Vec<SessionId>> {
        self.ids_of_user(tables::user_hash(user), &FIRST, limit)
    }

    fn keep_ended(&self) -> Duration {
        self.keep_ended
    }
}
