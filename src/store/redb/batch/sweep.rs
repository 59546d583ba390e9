//! Removing what is over, and finishing what an ending of many left to do, in bounded steps.

use std::ops::Bound;
use std::time::Duration;

use redb::ReadableTable;

use super::super::failure;
use super::super::snapshot::read_record;
use super::super::tables::{self, StoredEnding};
use super::{Batch, FIRST, LAST};
use crate::error::Result;
use crate::id::SessionId;
use crate::record::{Endings, IndexKey, Mark, Record};
use crate::store::{Rows, SWEEP_DELAY, Sweep, Swept, Write};

impl Batch<'_> {
    pub(in super::super) fn sweep(&mut self, sweep: &Sweep) -> Result<Swept> {
        let mut swept = Swept::default();
        if self.state.pending_endings > 0 {
            self.carry_on_ending(sweep.limit)?;
        }
        let delay = if sweep.purge { Duration::ZERO } else { SWEEP_DELAY };
        let live_until = IndexKey::bucket_of(sweep.at.saturating_sub(delay));
        let over_until = if sweep.purge { u32::MAX } else { IndexKey::bucket_of(sweep.at) };
        let mut left = sweep.limit;
        for (over, until) in [(false, live_until), (true, over_until)] {
            for key in self.due(over, until, sweep, left)? {
                left = left.saturating_sub(1);
                swept.removed += u64::from(self.sweep_row(&key, sweep)?);
            }
        }
        swept.more = left == 0 || self.state.pending_endings > 0;
        Ok(swept)
    }

    /// Index entries whose row is to be removed or filed anew.
    fn due(
        &mut self,
        over: bool,
        until: u32,
        sweep: &Sweep,
        limit: usize,
    ) -> Result<Vec<[u8; 37]>> {
        let from = tables::deadline_key(IndexKey { over, bucket: 0 }, &FIRST);
        let to = tables::deadline_key(IndexKey { over, bucket: until }, &LAST);
        let everyone = Endings { everyone: self.state.everyone, user: None };
        let Self { sessions, .. } = self;
        let lookup = |key: &[u8; 37]| -> Result<bool> {
            let id = tables::id_in(key);
            let value = sessions.get(id.as_bytes()).map_err(failure::before_commit)?;
            // An entry without a row, or with one that cannot be read, is evidence for
            // `fastsession check` and left alone.
            let Some(value) = value else { return Ok(false) };
            let Ok(record) = read_record(&id, value.value()) else { return Ok(false) };
            let moved = record.mark() == Mark::None && record_bucket(&record) != record.bucket();
            Ok(moved || is_due(&record, &everyone, sweep))
        };
        let deadlines = table!(self.deadlines, tables::DEADLINES)?;
        let mut due = Vec::new();
        for entry in deadlines.range::<&[u8; 37]>(&from..=&to).map_err(failure::before_commit)? {
            if due.len() >= limit {
                break;
            }
            let (key, _) = entry.map_err(failure::before_commit)?;
            let key = *key.value();
            if lookup(&key)? {
                due.push(key);
            }
        }
        Ok(due)
    }

    /// Removes the row of an index entry, or files it where it belongs now.
    fn sweep_row(&mut self, key: &[u8; 37], sweep: &Sweep) -> Result<bool> {
        let id = tables::id_in(key);
        let Some(record) = self.get(&id)? else { return Ok(false) };
        let endings = self.endings(record.user())?;
        if is_due(&record, &endings, sweep) {
            self.notes.removed(&id, &record, &endings);
            self.remove(&id, &record)?;
            return Ok(true);
        }
        let mut header = record.header();
        header.refile();
        if header.bucket != record.bucket() {
            let after = Record::new(&header, record.data())?;
            self.put(&Write { id, before: Some(record), after })?;
        }
        Ok(false)
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
        let table = table!(self.endings, tables::ENDINGS)?;
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
        let table = table!(self.endings, tables::ENDINGS)?;
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
