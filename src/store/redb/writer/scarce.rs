//! Where the file may not be able to grow: what makes room goes first, with the pages that are kept
//! for it ([`space`](super::super::space)), and the rest only if it leaves them.

use std::time::{Duration, Instant};

use super::super::answers::Answers;
use super::super::queue::Job;
use super::super::space::RESERVE_PAGES;
use super::{Batching, FLUSH, MAX_BATCH, Writer, commit, is_critical};
use crate::error::{Error, Kind, Result};

/// Most endings in one transaction, and most rows that one removes, where pages are scarce.
pub(super) const FEW: usize = 32;
/// Free pages that no step of a sweep may use: as many as a commit takes that changes nothing.
const LAST_PAGES: u64 = 12;
/// How long it is taken for granted that a full disk is full: finding out costs a reopening.
const NO_ROOM: Duration = Duration::from_millis(500);

/// Sweeping where pages are scarce. What a step frees is free once another commit has come after it,
/// and nobody reads an older state: it leaves enough for that commit.
pub(super) const FREEING: Batching = Batching { leaves: LAST_PAGES, ..FLUSH };

impl Writer<'_> {
    /// Writes what makes room first, a few at a time, then the others, if that leaves
    /// [`RESERVE_PAGES`] free.
    pub(super) fn work_sparingly(&mut self) -> Result<()> {
        let jobs = self.shared.queue.take(MAX_BATCH);
        let touches = self.shared.queue.take_touches();
        let (mut ending, others): (Vec<_>, Vec<_>) = jobs.into_iter().partition(Job::makes_room);
        while !ending.is_empty() {
            let later = ending.split_off(ending.len().min(FEW));
            let few: Vec<_> = ending.into_iter().map(|job| job.limited(FEW)).collect();
            let how = if few.iter().all(Job::sweeps) { FREEING } else { FLUSH };
            if let Err(error) = self.write(few, &[], how) {
                self.shared.queue.put_back(later.into_iter().chain(others));
                return Err(error);
            }
            ending = later;
        }
        if others.is_empty() && touches.is_empty() {
            return Ok(());
        }
        let is_full = self.no_room_until.is_some_and(|until| Instant::now() < until);
        if is_full || self.shared.config.opener.growth.has_holes() {
            let full = Error::new(Kind::Full, "the disk is full");
            Answers::to(others).send(Some(&full));
            return Ok(());
        }
        let must_sync = others.iter().any(is_critical);
        let growth = &self.shared.config.opener.growth;
        growth.hold(self.limit.holds());
        let how = Batching { must_sync, leaves: RESERVE_PAGES, ..FLUSH };
        let written = self.write(others, &touches, how);
        growth.hold(false);
        written
    }

    /// Commits nothing, which frees what earlier commits have left and nobody reads any more.
    pub(super) fn free_pages(&mut self) -> Result<()> {
        let (_file, mut txn) = self.begin()?;
        self.set_durability(&mut txn, true)?;
        commit(txn, &self.shared.config.opener.growth).map_err(|spoiled| spoiled.error)
    }

    /// A batch needed more pages than there are.
    pub(super) fn found_no_room(&mut self) {
        self.no_room_until = Some(Instant::now() + NO_ROOM);
        self.was_stuck = true;
    }
}
