//! Where sweeping has got to, between two of its steps.

use std::ops::Bound;
use std::time::{Duration, Instant};

use redb::ReadableTable;

use super::super::failure;
use super::super::tables;
use super::Batch;
use super::departed::Departed;
use crate::error::Result;
use crate::expiry::Timestamp;
use crate::id::SessionId;
use crate::record::IndexKey;
use crate::store::{SWEEP_DELAY, Sweep};

/// How long a step looks at rows; writing down what it comes to takes about as long again. Unit
/// tests count rows, however busy the machine is.
const STEP: Duration = Duration::from_millis(if cfg!(test) { 60_000 } else { 8 });
/// The same while others wait for the lock, unless the rest of a step takes longer.
const SHORT_STEP: Duration = Duration::from_millis(3);
/// The same for an operator's purge while nobody has waited for the lock in the last [`CALM`]
/// steps: each step costs two syncs, and redb's own pages besides.
const LONG_STEP: Duration = Duration::from_millis(32);
const CALM: u32 = 16;
/// Most IDs of what is due that are kept in memory.
const MAX_DUE: usize = 64 * 1024;
/// Parts of the index and of the table: by the first byte of the ID.
const PARTS: usize = 256;
/// Rows passed over for each that is due, up to which a range is gone through as a whole.
const DENSE: u64 = 16;

/// What the writer remembers of sweeping. What is known here of rows is a hint: each is looked at
/// again in the transaction that removes it.
#[derive(Default)]
pub(in super::super) struct Sweeping {
    /// The store's own.
    own: Option<Pass>,
    /// An operator's.
    purge: Option<Pass>,
    pub(super) departed: Departed,
    /// Whether others wait for the lock.
    pub(in super::super) is_shared: bool,
    /// Steps since others waited last.
    calm: u32,
    /// How long the last step was to look at rows, and how long it took besides.
    looked: Duration,
    besides: Duration,
}

impl Sweeping {
    /// How long the next step may look at rows. Where commits are slow, a step of a fixed length
    /// would mostly wait for the disk.
    fn step(&self, sweep: &Sweep) -> Duration {
        match (self.is_shared, sweep.purge) {
            (true, _) => self.besides.clamp(SHORT_STEP, STEP),
            (false, true) if self.calm >= CALM => LONG_STEP,
            (false, _) => STEP,
        }
    }

    /// Takes note of how long a step had the lock.
    pub(in super::super) fn learn(&mut self, held: Duration) {
        self.besides = held.saturating_sub(self.looked);
        self.calm = if self.is_shared { 0 } else { self.calm.saturating_add(1) };
    }

    /// The pass that `sweep` goes on with, or a new one.
    pub(super) fn take_pass(&mut self, sweep: &Sweep) -> Pass {
        let pass = if sweep.purge {
            self.purge.take().filter(|pass| pass.at == sweep.at)
        } else {
            self.own.take()
        };
        pass.unwrap_or_else(|| Pass::new(sweep.at))
    }

    pub(super) fn forget_passes(&mut self) {
        (self.own, self.purge) = (None, None);
    }

    pub(super) fn keep_pass(&mut self, pass: Pass, sweep: &Sweep) {
        *(if sweep.purge { &mut self.purge } else { &mut self.own }) = Some(pass);
    }
}

/// One way through the index by deadline, part by part.
pub(super) struct Pass {
    at: Timestamp,
    part: usize,
    /// The last entry read of this part, if there are more.
    read_until: Option<[u8; 37]>,
    /// Whether the part has been begun.
    begun: bool,
    /// What is due in this part, in order of ID, last first.
    due: Vec<SessionId>,
    /// Whether so much is due that the rows between are gone through too.
    pub(super) dense: bool,
}

impl Pass {
    fn new(at: Timestamp) -> Self {
        Self { at, part: 0, read_until: None, begun: false, due: Vec::new(), dense: false }
    }

    /// Takes note of how many rows were gone through for how many that were due.
    pub(super) fn learn(&mut self, passed: u64, due: u64) {
        self.dense &= passed <= DENSE * due.max(1);
    }
}

/// What one step may take.
pub(super) struct Budget {
    rows: usize,
    until: Instant,
}

impl Budget {
    pub(super) fn new(sweep: &Sweep, sweeping: &mut Sweeping) -> Self {
        sweeping.looked = sweeping.step(sweep);
        Self { rows: sweep.limit.max(1), until: Instant::now() + sweeping.looked }
    }

    /// How many of `wanted` rows may be looked at before asking again.
    pub(super) fn rows(&self, wanted: usize) -> usize {
        if Instant::now() >= self.until { 0 } else { self.rows.min(wanted) }
    }

    pub(super) fn spend(&mut self, rows: usize) {
        self.rows = self.rows.saturating_sub(rows);
    }
}

impl Batch<'_> {
    /// The next IDs of what is due, in order, `most` of them; none if the pass is at its end.
    pub(super) fn next_due(
        &mut self,
        pass: &mut Pass,
        sweep: &Sweep,
        most: usize,
        budget: &Budget,
    ) -> Result<NextDue> {
        loop {
            if !pass.due.is_empty() {
                let ids = pass.due.split_off(pass.due.len().saturating_sub(most));
                return Ok(NextDue::Ids(ids.into_iter().rev().collect()));
            }
            if pass.begun && pass.read_until.is_none() {
                (pass.part, pass.begun) = (pass.part + 1, false);
            }
            if pass.part >= PARTS {
                return Ok(NextDue::End);
            }
            if budget.rows(1) == 0 {
                return Ok(NextDue::Later);
            }
            self.read_part(pass, sweep)?;
        }
    }

    /// Reads what the index has as due in one part of it.
    fn read_part(&mut self, pass: &mut Pass, sweep: &Sweep) -> Result<()> {
        let (first, last) = part(pass.part);
        let read_until = pass.read_until.take();
        pass.begun = true;
        let deadlines = table!(self.deadlines, tables::DEADLINES)?;
        'read: for (over, until) in due_until(sweep) {
            let from = tables::deadline_key(IndexKey { over, bucket: 0 }, &first);
            let to = tables::deadline_key(IndexKey { over, bucket: until }, &last);
            let from = match &read_until {
                Some(read) if *read >= to => continue,
                Some(read) if *read >= from => Bound::Excluded(read),
                _ => Bound::Included(&from),
            };
            let range = (from, Bound::Included(&to));
            for entry in deadlines.range::<&[u8; 37]>(range).map_err(failure::before_commit)? {
                let (key, _) = entry.map_err(failure::before_commit)?;
                pass.due.push(tables::id_in_deadline(key.value()));
                if pass.due.len() >= MAX_DUE {
                    pass.read_until = Some(*key.value());
                    break 'read;
                }
            }
        }
        pass.due.sort_unstable_by(|a, b| b.cmp(a));
        pass.dense = self.part_is_dense(pass)?;
        Ok(())
    }

    /// Whether most leaves of the sessions that lie in the part have something due.
    fn part_is_dense(&self, pass: &Pass) -> Result<bool> {
        use redb::ReadableTableMetadata;
        let rows = self.sessions.len().map_err(failure::before_commit)? / PARTS as u64;
        Ok(pass.due.len() as u64 * DENSE >= rows)
    }
}

/// What comes next in a pass.
pub(super) enum NextDue {
    Ids(Vec<SessionId>),
    /// The step has taken its time.
    Later,
    /// There is no more.
    End,
}

/// The classes of the index, each with the last bucket in which something may be due.
pub(super) fn due_until(sweep: &Sweep) -> [(bool, u32); 2] {
    let delay = if sweep.purge { Duration::ZERO } else { SWEEP_DELAY };
    let live_until = IndexKey::bucket_of(sweep.at.saturating_sub(delay));
    let over_until = if sweep.purge { u32::MAX } else { IndexKey::bucket_of(sweep.at) };
    [(false, live_until), (true, over_until)]
}

/// The first and the last ID of a part.
fn part(number: usize) -> (SessionId, SessionId) {
    let byte = u8::try_from(number).unwrap_or(u8::MAX);
    let bound = |rest| {
        let mut id = [rest; SessionId::LEN];
        id[0] = byte;
        SessionId::from_bytes(id)
    };
    (bound(0), bound(u8::MAX))
}
