//! Removing what is over, and finishing what an ending of many left to do, in bounded steps.
//!
//! A page is copied, summed and written whatever is changed on it, so that what a purge costs is
//! how many pages each row of it dirties. IDs are random: in order of deadline each row lies on a
//! page of its own. So the index by deadline is divided into 256 parts by the first byte of the
//! ID, as the table of sessions is by its order, and sweeping goes through part by part: what is
//! due in one, sorted by ID, lies side by side in the table, and its entries lie side by side in
//! the index. Where much is due, each stretch of the table is gone through as a whole
//! ([`retain_in`](redb::Table::retain_in)), which rewrites each page once and packs what is left
//! on fewer. The index by user follows later: [`departed`](super::departed).
//!
//! A step is bounded by rows and by time ([`pass`](super::pass)); the writer pauses between steps
//! while others wait. Each row is looked at in the transaction that removes it.

use std::ops::Bound;
use std::time::Duration;

use redb::ReadableTable;

use super::super::failure;
use super::super::snapshot::read_metadata;
use super::super::tables::{self, StoredEnding};
use super::Batch;
use super::endings::{endings_of, opened_endings};
use super::pass::{Budget, NextDue, Pass, due_until};
use crate::error::{Error, Result};
use crate::id::SessionId;
use crate::record::{Endings, IndexKey, Mark, Record};
use crate::store::{Rows, SWEEP_DELAY, Sweep, Swept, Write};

/// Rows due that are gone through at once.
const RUN: usize = 64;
/// Most rows that lose their data in one step: each is written anew.
const ENDING_STEP: usize = 512;

/// What a step has found, to be written down.
#[derive(Default)]
struct Found {
    removed: u64,
    /// Entries of rows that were removed.
    deadlines: Vec<[u8; 37]>,
    users: Vec<[u8; 48]>,
    /// Rows met too early.
    early: Vec<SessionId>,
    passed: u64,
    failed: Option<Error>,
}

impl Found {
    fn note_removed(&mut self, id: &SessionId, record: &Record) {
        self.removed += 1;
        self.deadlines.push(tables::deadline_key(record.index_key(), id));
        if let Some(user) = record.listed_user() {
            self.users.push(tables::user_key(tables::user_hash(user), id));
        }
    }
}

impl Batch<'_> {
    pub(in super::super) fn sweep(&mut self, sweep: &Sweep) -> Result<Swept> {
        let mut swept = Swept { removed: 0, more: true };
        if self.state.pending_endings > 0 {
            // Files rows as over, also where a pass has been.
            self.sweeping.forget_passes();
            self.carry_on_ending(sweep.limit.clamp(1, ENDING_STEP))?;
            return Ok(swept);
        }
        let mut budget = Budget::new(sweep, &mut self.sweeping);
        if self.has_many_departed() {
            self.remove_departed(&mut budget)?;
            return Ok(swept);
        }
        let mut pass = self.sweeping.take_pass(sweep);
        let mut found = Found::default();
        let at_end = self.remove_due(&mut pass, sweep, &mut budget, &mut found)?;
        swept.removed = found.removed;
        self.write_down(found)?;
        swept.more = !at_end || self.clear_departed(sweep.purge, &mut budget)?;
        if swept.more {
            self.sweeping.keep_pass(pass, sweep);
        }
        Ok(swept)
    }

    /// Removes rows until the budget is spent. True at the end of the pass.
    fn remove_due(
        &mut self,
        pass: &mut Pass,
        sweep: &Sweep,
        budget: &mut Budget,
        found: &mut Found,
    ) -> Result<bool> {
        loop {
            let most = if pass.dense { RUN } else { 1 };
            let ids = match self.next_due(pass, sweep, budget.rows(most), budget)? {
                NextDue::Ids(ids) => ids,
                NextDue::Later => return Ok(false),
                NextDue::End => return Ok(true),
            };
            let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Ok(false) };
            let (passed, due) = (found.passed, ids.len());
            self.remove_between(first, last, sweep, found)?;
            pass.learn(found.passed - passed, due as u64);
            budget.spend(due);
        }
    }

    /// Removes what is due between two IDs. Rows that cannot be read are evidence for
    /// `fastsession check` and stay, as do entries without a row.
    fn remove_between(
        &mut self,
        first: &SessionId,
        last: &SessionId,
        sweep: &Sweep,
        found: &mut Found,
    ) -> Result<()> {
        if self.state.user_endings > 0 {
            opened_endings(&mut self.endings, self.txn, &self.state)?;
        }
        let Self { sessions, endings, state, notes, .. } = self;
        let [(_, live_until), _] = due_until(sweep);
        let before = found.removed;
        let stays = |key: &[u8; 32], value: &[u8]| {
            found.passed += 1;
            let id = SessionId::from_bytes(*key);
            let Ok(record) = read_metadata(&id, value) else { return true };
            let endings = match endings_of(state, endings.as_ref(), record.user()) {
                Ok(endings) => endings,
                Err(error) => {
                    found.failed = Some(error);
                    return true;
                }
            };
            if is_due(&record, &endings, sweep) {
                notes.removed(&id, &record, &endings);
                found.note_removed(&id, &record);
                return false;
            }
            let filed = record.index_key();
            if !filed.over && filed.bucket <= live_until && filed.bucket != record_bucket(&record) {
                found.early.push(id);
            }
            true
        };
        let range = (Bound::Included(first.as_bytes()), Bound::Included(last.as_bytes()));
        sessions.retain_in::<&[u8; 32], _>(range, stays).map_err(failure::before_commit)?;
        self.changed |= found.removed > before;
        found.failed.take().map_or(Ok(()), Err)
    }

    /// Brings the indexes up to what was found among the rows.
    fn write_down(&mut self, found: Found) -> Result<()> {
        let Found { mut deadlines, users, early, .. } = found;
        if !deadlines.is_empty() {
            deadlines.sort_unstable();
            let table = table!(self.deadlines, tables::DEADLINES)?;
            for key in &deadlines {
                table.remove(key).map_err(failure::before_commit)?;
            }
        }
        self.depart(users)?;
        for id in early {
            self.file_anew(id)?;
        }
        Ok(())
    }

    /// Files a row that was met too early where it belongs now.
    fn file_anew(&mut self, id: SessionId) -> Result<()> {
        let Some(record) = self.get(&id)? else { return Ok(()) };
        let mut header = record.header();
        header.refile();
        let after = Record::new(&header, record.data())?;
        self.put(&Write { id, before: Some(record), after })
    }

    /// Takes the data from some more rows that an ending of many ended.
    fn carry_on_ending(&mut self, limit: usize) -> Result<()> {
        let Some((key, stored, after)) = self.pending_ending()? else {
            self.state.pending_endings = 0;
            return Ok(());
        };
        let ids = if key == tables::EVERYONE {
            self.ids_after(&after, limit)?
        } else {
            self.ids_of_user(key, &after, limit)?
        };
        for id in &ids {
            let record = match self.get(id) {
                Ok(Some(record)) => record,
                Ok(None) => continue,
                Err(error) if error.is_corrupt() => continue,
                Err(error) => return Err(error),
            };
            let endings = self.endings(record.user())?;
            if let (Mark::None, Some(ending)) = (record.mark(), endings.ending(record.generation()))
            {
                let after = record.ended(ending.at, ending.by, self.keep_ended, Duration::ZERO)?;
                self.put_ended(&Write { id: *id, before: Some(record), after })?;
            }
        }
        self.changed = true;
        let table = opened_endings(&mut self.endings, self.txn, &self.state)?;
        match ids.last().filter(|_| ids.len() == limit) {
            Some(last) => {
                let sealed = StoredEnding { pending_after: Some(*last), ..stored }.seal(&key);
                table.insert(&key, sealed.as_slice()).map_err(failure::before_commit)?;
            }
            None if key == tables::EVERYONE => {
                let sealed = StoredEnding { pending_after: None, ..stored }.seal(&key);
                table.insert(&key, sealed.as_slice()).map_err(failure::before_commit)?;
                self.state.pending_endings -= 1;
            }
            None => {
                // No row of an earlier generation is left, and none can be written.
                table.remove(&key).map_err(failure::before_commit)?;
                self.state.pending_endings -= 1;
                self.state.user_endings -= 1;
            }
        }
        Ok(())
    }

    fn pending_ending(&mut self) -> Result<Option<([u8; 16], StoredEnding, SessionId)>> {
        let table = opened_endings(&mut self.endings, self.txn, &self.state)?;
        for entry in table.iter().map_err(failure::before_commit)? {
            let (key, value) = entry.map_err(failure::before_commit)?;
            let stored = StoredEnding::open(key.value(), value.value())?;
            if let Some(after) = stored.pending_after {
                return Ok(Some((*key.value(), stored, after)));
            }
        }
        Ok(None)
    }

    fn ids_after(&self, after: &SessionId, limit: usize) -> Result<Vec<SessionId>> {
        let rows = self
            .sessions
            .range::<&[u8; 32]>((Bound::Excluded(after.as_bytes()), Bound::Unbounded))
            .map_err(failure::before_commit)?;
        rows.take(limit)
            .map(|row| {
                let (key, _) = row.map_err(failure::before_commit)?;
                Ok(SessionId::from_bytes(*key.value()))
            })
            .collect()
    }
}

fn record_bucket(record: &Record) -> u32 {
    IndexKey::bucket_of(record.expires_at())
}

/// Whether this sweep removes a record.
fn is_due(record: &Record, endings: &Endings, sweep: &Sweep) -> bool {
    if sweep.purge {
        return record.absence(sweep.at, None, endings).is_some() && !record.is_in_grace(sweep.at);
    }
    match record.mark() {
        Mark::None => sweep.at >= record.expires_at().saturating_add(SWEEP_DELAY),
        Mark::Ended { until, .. } | Mark::Superseded { until, .. } => sweep.at >= until,
    }
}
