//! Removing what is over, and finishing what an ending of many left to do, in bounded steps.

use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use super::layout::{self, Partition, Row};
use super::link::Kind;
use super::plan::{Plan, Tried};
use super::scan::{Found, Range};
use super::view::{View, Wanted, array, bytes};
use crate::error::Result;
use crate::id::SessionId;
use crate::record::{Endings, IndexKey, Mark, Record};
use crate::store::stored::{EVERYONE, StoredEnding};
use crate::store::{SWEEP_DELAY, Sweep, Swept, Write};

/// Most rows that are written in one step.
const CHUNK: usize = 128;

impl Shared {
    pub(super) async fn sweep(&self, sweep: &Sweep, until: Instant) -> Result<Swept> {
        let mut swept = Swept::default();
        let mut left = sweep.limit.max(1);
        for partition in self.keys.partitions() {
            let pending = self.carry_on_ending(partition, sweep, left, until).await?;
            swept.more |= pending;
            self.sweep_partition(partition, sweep, &mut left, &mut swept, until).await?;
            if left == 0 {
                swept.more = true;
                break;
            }
        }
        Ok(swept)
    }

    async fn sweep_partition(
        &self,
        partition: Partition,
        sweep: &Sweep,
        left: &mut usize,
        swept: &mut Swept,
        until: Instant,
    ) -> Result<()> {
        let delay = if sweep.purge { Duration::ZERO } else { SWEEP_DELAY };
        let live_until = IndexKey::bucket_of(sweep.at.saturating_sub(delay));
        let over_until = if sweep.purge { u32::MAX } else { IndexKey::bucket_of(sweep.at) };
        for (over, last) in [(false, live_until), (true, over_until)] {
            let (mut offset, mut chunk) = (0, CHUNK);
            let last = last.to_string();
            loop {
                let range = Range {
                    index: self.keys.deadlines(partition, over),
                    by_score: true,
                    from: b"-inf",
                    to: last.as_bytes(),
                    offset,
                    limit: chunk.min(*left),
                    skipped: 0,
                };
                let scanned = self.scan(partition, &range, until).await?;
                let met = scanned.found.len();
                let mut plan = Plan::new(self, partition, sweep.at)?.shrinks();
                let mut acted = 0;
                let mut removed = Vec::new();
                for found in scanned.found {
                    match self.sweep_one(&found, sweep, &mut plan)? {
                        Fate::Removed { row } => {
                            acted += 1;
                            removed.extend(row.map(|row| (found.id, row.record, found.endings)));
                        }
                        Fate::Refiled => acted += 1,
                        Fate::Kept => {}
                    }
                }
                if let Tried::Changed { .. } = plan.carry_out_if_any(until).await? {
                    // One of them was active in between: smaller steps have better luck.
                    chunk = (chunk / 2).max(1);
                    super::commit::pause_after(0, until).await?;
                    continue;
                }
                swept.removed += removed.len() as u64;
                self.tell(|notes| {
                    for (id, record, endings) in &removed {
                        notes.removed(id, record, endings);
                    }
                });
                *left -= acted;
                offset += met - acted;
                if !scanned.more || *left == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Plans what is to be done with a row that the index calls due.
    fn sweep_one(&self, found: &Found, sweep: &Sweep, plan: &mut Plan<'_>) -> Result<Fate> {
        let Found { entry, id, row, endings } = found;
        let row = match row {
            Ok(Some(row)) => row,
            // The server's own time to live, or its eviction, was faster.
            Ok(None) => {
                plan.expect_row(id, None);
                plan.remove(entry);
                return Ok(Fate::Removed { row: None });
            }
            // Evidence, and left alone.
            Err(_) => return Ok(Fate::Kept),
        };
        if is_due(&row.record, endings, sweep) {
            plan.expect_row(id, Some(row.stamp));
            plan.remove(entry);
            self.recent.forget(id);
            return Ok(Fate::Removed { row: Some(row.clone()) });
        }
        let mut header = row.record.header();
        header.refile();
        if header.bucket == row.record.bucket() {
            return Ok(Fate::Kept);
        }
        plan.expect_row(id, Some(row.stamp));
        let after = Record::new(&header, row.record.data())?;
        plan.put(&Write { id: *id, before: Some(row.record.clone()), after });
        self.recent.forget(id);
        Ok(Fate::Refiled)
    }

    /// Takes the data from some more rows that an ending of many ended. True if there is more to
    /// do.
    async fn carry_on_ending(
        &self,
        partition: Partition,
        sweep: &Sweep,
        limit: usize,
        until: Instant,
    ) -> Result<bool> {
        let view = View::read(self, partition, &[], None, until).await?;
        if view.state.pending_endings == 0 {
            return Ok(false);
        }
        let Some((hash, stored, after)) = self.pending_ending(partition, until).await? else {
            return Ok(false);
        };
        let of_user = hash != EVERYONE;
        let (index, prefix): (_, &[u8]) = if of_user {
            (self.keys.users(partition), &hash)
        } else {
            (self.keys.ids(partition), &[])
        };
        let from = [b"(", prefix, after.as_bytes(), &[0xff; 17]].concat();
        let from = if after == FIRST { [b"[", prefix].concat() } else { from };
        let to = [b"[", prefix, &[0xff; 49]].concat();
        let range = Range {
            index,
            by_score: false,
            from: &from,
            to: &to,
            offset: 0,
            limit: limit.clamp(1, CHUNK),
            skipped: prefix.len(),
        };
        let scanned = self.scan(partition, &range, until).await?;
        let mut plan = Plan::new(self, partition, sweep.at)?.shrinks();
        plan.expect_state(&scanned.sealed_state);
        plan.expect_ending(&hash, &stored.seal(&hash));
        let mut writes = Vec::new();
        for Found { id, row, endings, .. } in &scanned.found {
            if let Ok(Some(row)) = row
                && let (Mark::None, Some(ending)) =
                    (row.record.mark(), endings.ending(row.record.generation()))
            {
                let keep = self.config.keep_ended;
                let after = row.record.ended(ending.at, ending.by, keep, Duration::ZERO)?;
                plan.expect_row(id, Some(row.stamp));
                let write = Write { id: *id, before: Some(row.record.clone()), after };
                plan.put(&write);
                writes.push(write);
                self.recent.forget(id);
            }
        }
        let mut state = scanned.state;
        let next = scanned.found.last().filter(|_| scanned.more).map(|found| found.id);
        if next.is_none() {
            state.pending_endings = state.pending_endings.saturating_sub(1);
            // No row of an earlier generation is left, and none can be written.
            state.user_endings = state.user_endings.saturating_sub(u32::from(of_user));
            plan.put_state(&state);
        }
        let keep = next.is_some() || !of_user;
        let progress = StoredEnding { pending_after: next, ..stored };
        plan.put_ending(&hash, keep.then(|| progress.seal(&hash)));
        // If something has changed meanwhile, the next step sees to it.
        if let Tried::Done = plan.carry_out(until).await? {
            self.tell(|notes| notes.wrote(writes.iter()));
        }
        Ok(true)
    }

    /// An ending whose rows still have to lose their data, and the ID up to which they have.
    async fn pending_ending(
        &self,
        partition: Partition,
        until: Instant,
    ) -> Result<Option<(layout::UserHash, StoredEnding, SessionId)>> {
        let wanted = Some(Wanted { hash: EVERYONE, sessions: 0 });
        let view = View::read(self, partition, &[], wanted, until).await?;
        if let Some(stored) = view.ending(&EVERYONE)
            && let Some(after) = stored.pending_after
        {
            return Ok(Some((EVERYONE, stored.clone(), after)));
        }
        // Those of users are removed once they are finished.
        let mut command = ::redis::cmd("HRANDFIELD");
        command.arg(self.keys.endings(partition)).arg(2).arg("WITHVALUES");
        let reply = self.link.ask(&command, Kind::Read, until).await?;
        let mut items = array(reply.value)?.into_iter();
        while let (Some(hash), Some(sealed)) = (bytes(items.next())?, bytes(items.next())?) {
            let Ok(hash) = layout::UserHash::try_from(&hash[..]) else { continue };
            let stored = StoredEnding::open(&hash, &sealed)?;
            if let Some(after) = stored.pending_after {
                return Ok(Some((hash, stored, after)));
            }
        }
        Ok(None)
    }
}

const FIRST: SessionId = SessionId::from_bytes([0; SessionId::LEN]);

/// What is planned for a row.
enum Fate {
    Removed {
        /// `None` if the index named one that was not there any more.
        row: Option<Row>,
    },
    Refiled,
    Kept,
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
