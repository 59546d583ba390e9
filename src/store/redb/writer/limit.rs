//! The limit of the file, `max_file_bytes`.
//!
//! What is limited is the file's length, and not what is in it: a file of the largest length takes
//! in newcomers as long as it has free pages, and so again once what is over was removed. How many
//! there are redb does not tell; so pages are asked for, and given back, while the file may not grow
//! ([`Bounds::pages`], before every few jobs, which then may not make it grow either). After it was
//! refused that, redb's handle is of no use, and the file is opened again; so it is not asked until
//! rows have left, or for [`AGAIN`].
//!
//! Until then whatever makes a session larger is refused. Changes of the same size, endings and
//! sweeping are carried out, a few at a time: they need pages, too, which are free again two commits
//! later, and what newcomers have to leave is enough for that. Where it is not, since values are
//! large, the file grows for them.

use std::time::{Duration, Instant};

use redb::ReadableTableMetadata;

use super::super::batch::{prove_reserve, reached};
use super::super::regions::PAGE_BYTES;
use super::super::shared::Shared;
use super::super::{failure, tables};
use super::{MAX_BATCH, Writer};
use crate::error::{Error, Result};

/// What is done at once to a file that has reached its limit.
struct Bounds {
    /// Free pages that newcomers find or are refused: the sixteenth part of a small file.
    pages: u64,
}

impl Bounds {
    fn of(limit: u64) -> Self {
        Self { pages: (limit / PAGE_BYTES as u64 / 16).clamp(64, 1024) }
    }

    /// Jobs for which these are enough. If they are not, since values are large, the batch is
    /// refused.
    fn jobs(&self) -> usize {
        self.share(8)
    }

    /// Rows that a step of sweeping looks at.
    fn rows(&self) -> usize {
        self.share(4)
    }

    fn share(&self, part: u64) -> usize {
        usize::try_from(self.pages / part).unwrap_or(usize::MAX)
    }
}

/// When a full file is asked for pages again though no rows have left it since: those that left
/// before may have been read until then.
const AGAIN: Duration = Duration::from_secs(10);

/// What is known of a file that has reached its limit.
#[derive(Default)]
pub(super) struct Limit {
    is_reached: bool,
    /// Rows there were when that was last known.
    rows: u64,
    /// Rows there were when no more found room, and when that was.
    full_with: Option<(u64, Instant)>,
    /// Rows have left since: their pages are free after one commit more.
    have_left: bool,
    /// Jobs until free pages are asked for again.
    room: usize,
}

impl Limit {
    /// The limit, if nothing may become larger.
    pub(super) fn in_force(&self, shared: &Shared) -> Option<u64> {
        self.full_with.map(|_| shared.config.max_file_bytes)
    }

    pub(super) fn is_reached(&self) -> bool {
        self.is_reached
    }

    /// How many rows a step of sweeping may look at, if the file has reached its limit.
    pub(super) fn sweep_step(&self, shared: &Shared) -> Option<usize> {
        self.is_reached.then(|| Bounds::of(shared.config.max_file_bytes).rows())
    }

    /// Whether the file may not grow for what is carried out: it has room for it.
    pub(super) fn holds(&self) -> bool {
        self.is_reached && self.full_with.is_none()
    }

    /// Why something was refused, if it was by the limit.
    pub(super) fn refused(&mut self, error: Error, limit: u64) -> Error {
        if !self.holds() || !error.is_full() {
            return error;
        }
        tracing::warn!(limit, "the session file has reached its limit");
        self.full_with = Some((self.rows, Instant::now()));
        self.room = 0;
        reached(limit).with_source(error)
    }

    /// A batch of so many jobs left so many rows.
    pub(super) fn learn(&mut self, jobs: usize, rows: u64) {
        self.rows = rows;
        self.room = self.room.saturating_sub(jobs);
        let Some((full, since)) = self.full_with else { return };
        // A few leave hardly a page.
        if rows + (full / 64).max(1) <= full || since.elapsed() >= AGAIN {
            self.full_with = None;
            self.have_left = true;
        }
    }
}

impl Writer<'_> {
    /// Looks for room for newcomers if the file has reached its limit. Says how many jobs may be
    /// carried out at once. An error means that the handle is of no more use.
    pub(super) fn look_for_room(&mut self) -> Result<usize> {
        let shared = self.shared;
        let growth = &shared.config.opener.growth;
        growth.hold(false);
        if !growth.would_exceed(shared.config.max_file_bytes) {
            self.limit = Limit::default();
            return Ok(MAX_BATCH);
        }
        let bounds = Bounds::of(shared.config.max_file_bytes);
        self.limit.is_reached = true;
        if self.limit.full_with.is_none() && self.limit.room == 0 {
            let found = self.find_pages();
            growth.hold(false);
            found?;
            self.limit.room = bounds.jobs();
        }
        Ok(if self.limit.room > 0 { self.limit.room } else { bounds.jobs() })
    }

    fn find_pages(&mut self) -> Result<()> {
        if std::mem::take(&mut self.limit.have_left) {
            self.free_pages()?;
        }
        let (_file, txn) = self.begin()?;
        let sessions = txn.open_table(tables::SESSIONS).map_err(failure::before_commit)?;
        self.limit.rows = sessions.len().map_err(failure::before_commit)?;
        drop(sessions);
        self.shared.config.opener.growth.hold(true);
        let limit = self.shared.config.max_file_bytes;
        prove_reserve(&txn, Bounds::of(limit).pages)
            .map_err(|error| self.limit.refused(error, limit))?;
        txn.abort().map_err(failure::before_commit)
    }
}
