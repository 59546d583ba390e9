//! The writing thread: takes what is queued, applies it in one transaction, commits once, answers.
//!
//! There is no timer: while one commit is on its way to the disk, the next batch gathers. What is
//! queued for one session is carried out in its order; sessions in order of ID, so that
//! neighbouring rows are written to pages that are in hand. What is queued until the batch has been
//! carried out joins it, since the syncs of a commit cost the same for one as for a thousand.
//! Nobody is answered before the commit.
//!
//! After an I/O error, or a panic of redb's, the file is opened again: [`reopening`]. Where the disk
//! may be full, what makes room goes first: [`scarce`]. Where the file has reached its limit,
//! newcomers get what is free in it: [`limit`].
//!
//! What a commit came to that failed half-way stays unknown to whoever waits for it: another
//! process may have committed before the file is open again, so that its rows do not tell for
//! certain. Asking once more does, where the question names what it would have made: a renewal
//! finds the session of its first try. A session that such a commit created has a token nobody was
//! given, and leaves when it is idle.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::{Durability as RedbDurability, WriteTransaction};

use super::answers::Answers;
use super::batch::{Batch, Finished, Sweeping, prove_reserve};
use super::queue::{Call, Job};
use super::shared::{OpenFile, Shared};
use super::shield::{caught, shielded};
use super::space::Growth;
use super::{Durability, failure};
use crate::error::{Error, Result};
use crate::id::SessionId;
use crate::meter;
use crate::store::{Access, Op, Sweep, Swept};
use crate::watch;

mod limit;
mod reopening;
mod scarce;

use limit::Limit;
use reopening::{alone_within, still_read};
use scarce::{FEW, FREEING};

/// Most jobs in one transaction.
const MAX_BATCH: usize = 4096;
/// Records one step of the store's own sweeping looks at; its time is bounded too.
const SWEEP_STEP: usize = 4096;
/// Who waits longer for the file's lock shares it with a process that writes.
const CONTENDED: Duration = Duration::from_micros(300);
/// Between two steps of sweeping, others have the lock for so many times the length of one.
const SHARE: u32 = 2;
/// How long a commit is held back for those who lost a compare-and-set to try again.
const SECOND_CHANCE: Duration = Duration::from_micros(500);
const MAX_CHANCES: usize = 4;

/// Runs until the store is closed.
pub(super) fn run(shared: &Arc<Shared>) {
    let next_sweep = shared.config.sweep_interval.map(soon);
    let mut writer = Writer {
        shared,
        next_sweep,
        unflushed: None,
        openings: 0,
        no_room_until: None,
        was_stuck: false,
        sweeping: Sweeping::default(),
        limit: Limit::default(),
        waited: Duration::ZERO,
    };
    let result = writer.serve();
    shared.queue.closed(&result);
}

/// The first sweep comes soon after the start, for those who restart often.
fn soon(interval: Duration) -> Instant {
    Instant::now() + interval.min(Duration::from_secs(5))
}

struct Writer<'a> {
    shared: &'a Arc<Shared>,
    next_sweep: Option<Instant>,
    /// Since when commits have not been synced ([`Durability::Interval`]).
    unflushed: Option<Instant>,
    /// How often the file was opened again.
    openings: u64,
    /// When it is tried again whether there is room.
    no_room_until: Option<Instant>,
    /// Whether a batch found too few pages: those that were freed before it may be had by now.
    was_stuck: bool,
    /// Where sweeping has got to.
    sweeping: Sweeping,
    limit: Limit,
    /// How long the lock of the last transaction was waited for.
    waited: Duration,
}

/// How a batch is written.
#[derive(Clone, Copy)]
struct Batching {
    /// Whatever [`Durability`] says.
    must_sync: bool,
    /// Only if so many pages stay free.
    leaves: u64,
    /// With whatever is queued meanwhile; where pages are scarce, who may use them is sorted out.
    takes_along: bool,
}

const NORMAL: Batching = Batching { must_sync: false, leaves: 0, takes_along: true };
const FLUSH: Batching = Batching { must_sync: true, leaves: 0, takes_along: false };
impl Writer<'_> {
    fn serve(&mut self) -> Result<()> {
        loop {
            let call = self.shared.queue.wait(self.next_time());
            if call == Call::Close {
                return self.finish();
            }
            // Whoever a panic leaves without an answer learns that there is none.
            if let Err(error) = shielded(|| self.answer(&call)) {
                self.reopen(&error);
            }
        }
    }

    /// An error means that the handle is of no more use.
    fn answer(&mut self, call: &Call) -> Result<()> {
        match call {
            Call::Work => self.work(),
            Call::Time => self.on_time(),
            Call::Broken(number) if *number == self.openings => {
                Err(Error::unavailable("the session file has to be reopened"))
            }
            Call::Broken(_) | Call::Close => Ok(()),
        }
    }

    fn next_time(&self) -> Option<Instant> {
        let flush = match self.shared.config.durability {
            Durability::Interval(interval) => self.unflushed.map(|since| since + interval),
            Durability::Immediate => None,
        };
        [self.next_sweep, flush].into_iter().flatten().min()
    }

    fn on_time(&mut self) -> Result<()> {
        if self.next_sweep.is_some_and(|time| time <= Instant::now()) {
            self.sweep()
        } else {
            self.flush()
        }
    }

    fn finish(&mut self) -> Result<()> {
        let flushed = shielded(|| {
            loop {
                let touches = self.shared.queue.take_touches();
                if touches.is_empty() {
                    return self.flush();
                }
                self.write(Vec::new(), &touches, FLUSH)?;
            }
        });
        self.shared.snapshots.close();
        let growth = &self.shared.config.opener.growth;
        if self.shared.growth_is_doubtful() {
            growth.freeze();
        }
        growth.close();
        let closed = match self.shared.withdraw_file() {
            Some(file) => match alone_within(self.shared.config.wait, file) {
                Ok(file) => {
                    let closed = shielded(|| file.database.close().map_err(failure::before_commit));
                    if growth.is_frozen() { Ok(()) } else { closed }
                }
                Err(_) => Err(still_read()),
            },
            None => Ok(()),
        };
        flushed.and(closed)
    }

    fn flush(&mut self) -> Result<()> {
        if self.unflushed.is_none() {
            return Ok(());
        }
        self.write(Vec::new(), &[], FLUSH)
    }

    fn work(&mut self) -> Result<()> {
        let most = self.look_for_room()?;
        if self.shared.growth_is_doubtful() {
            return self.work_sparingly();
        }
        self.no_room_until = None;
        // What is queued while another process writes joins the batch.
        let (file, txn) = self.begin()?;
        let mut jobs = self.shared.queue.take(most);
        if let Some(step) = self.limit.sweep_step(self.shared) {
            jobs = jobs.into_iter().map(|job| job.limited(step)).collect();
        }
        let touches = self.shared.queue.take_touches();
        let how = Batching {
            must_sync: jobs.iter().any(is_critical),
            takes_along: !self.limit.is_reached(),
            ..NORMAL
        };
        let growth = &self.shared.config.opener.growth;
        growth.hold(self.limit.holds() && !jobs.iter().any(Job::makes_room));
        let written = self.write_in(&file, txn, Answers::to(jobs), &touches, how);
        growth.hold(false);
        written
    }

    fn write(
        &mut self,
        jobs: Vec<Job>,
        touches: &[(SessionId, Access)],
        how: Batching,
    ) -> Result<()> {
        let answers = Answers::to(jobs);
        let frees = std::mem::take(&mut self.was_stuck);
        let freed = if frees { self.free_pages() } else { Ok(()) };
        match freed.and_then(|()| self.begin()) {
            Ok((file, txn)) => self.write_in(&file, txn, answers, touches, how),
            Err(error) => {
                // It may not be known what a commit that only frees pages has come to; of these,
                // nothing was begun.
                if error.is_unknown_outcome() {
                    let refused = Error::unavailable("the session file cannot be written to");
                    answers.send(Some(&refused.with_source(error.clone())));
                } else {
                    answers.send(Some(&error));
                }
                Err(error)
            }
        }
    }

    /// Waits while another process writes.
    fn begin(&mut self) -> Result<(Arc<OpenFile>, WriteTransaction)> {
        let file = self.shared.file()?;
        let asked = Instant::now();
        let txn = file.database.begin_write().map_err(failure::before_commit)?;
        self.waited = asked.elapsed();
        Ok((file, txn))
    }

    fn write_in(
        &mut self,
        file: &OpenFile,
        mut txn: WriteTransaction,
        mut answers: Answers,
        touches: &[(SessionId, Access)],
        Batching { mut must_sync, leaves, takes_along }: Batching,
    ) -> Result<()> {
        let full = self.limit.in_force(self.shared);
        let began = Instant::now();
        let span = watch::batch(touches.len());
        let _inside = span.enter();
        // Unless this is committed, it has got nowhere, and begins again.
        let mut sweeping = std::mem::take(&mut self.sweeping);
        sweeping.is_shared = self.others_wait(answers.len());
        let applied = caught(|| {
            let notes = self.shared.events.notes();
            let mut batch =
                Batch::begin(&txn, self.shared.config.keep_ended, full, notes, sweeping)?;
            answers.carry_out(&mut batch, touches)?;
            if takes_along {
                must_sync |= self.take_along(&mut batch, &mut answers)?;
            }
            self.give_second_chances(&mut batch, &mut answers)?;
            if leaves > 0 {
                prove_reserve(&txn, leaves)?;
            }
            if self.limit.is_reached() {
                self.limit.learn(answers.len(), batch.rows()?);
            }
            let finished = batch.finish()?;
            Ok((finished, self.set_durability(&mut txn, must_sync)?))
        });
        // With those who joined: they wait for a step of sweeping like those who were there.
        let jobs = answers.len();
        let flushing = must_sync && self.unflushed.is_some();
        let outcome = match applied {
            Ok(Ok((Finished { changed, notes, sweeping }, synced))) if changed || flushing => {
                commit(txn, &self.shared.config.opener.growth).map(|()| {
                    self.unflushed =
                        if synced { None } else { self.unflushed.or(Some(Instant::now())) };
                    self.sweeping = sweeping;
                    Some(notes)
                })
            }
            Ok(Ok((Finished { sweeping, .. }, _))) => {
                self.sweeping = sweeping;
                txn.abort().map(|()| None).map_err(Spoiled::before_commit)
            }
            Ok(Err(error)) => {
                let reopen = failure::needs_reopening(&error);
                Err(Spoiled { error, reopen }.and_rolled_back(txn))
            }
            Err(_) => {
                Err(Spoiled { error: failure::panicked(), reopen: true }.and_rolled_back(txn))
            }
        };
        meter::batch(began, jobs, outcome.is_ok());
        watch::batch_done(&span, jobs, outcome.is_ok());
        match outcome {
            Ok(notes) => {
                // Also where nothing was changed: whoever is told that a session is over must not
                // read it from an older state after that.
                let renewed = self.shared.snapshots.renew_after_commit(file);
                if renewed.is_err() {
                    self.shared.snapshots.withdraw();
                }
                if let Some(notes) = notes {
                    self.shared.events.tell(notes);
                }
                if answers.has_swept() {
                    let held = began.elapsed();
                    self.sweeping.learn(held);
                    self.shared.pause_sweeping(self.pause_after(held, jobs));
                }
                answers.send(None);
                self.shared.measure();
                renewed
            }
            Err(Spoiled { error, reopen }) => {
                let error = self.limit.refused(error, self.shared.config.max_file_bytes);
                tracing::error!(%error, "a batch of changes failed");
                if reopen {
                    self.shared.give_up(file.number);
                }
                if error.is_full() {
                    self.found_no_room();
                }
                answers.send(Some(&error));
                if reopen { Err(error) } else { Ok(()) }
            }
        }
    }

    /// Carries out what was queued while the batch was, until nothing is or the batch is large:
    /// each commit costs its syncs and a dozen pages, however many share them. Nobody is waited
    /// for. Says whether any of it has to be synced.
    fn take_along(&self, batch: &mut Batch<'_>, answers: &mut Answers) -> Result<bool> {
        let mut must_sync = false;
        loop {
            let late = self.shared.queue.take(MAX_BATCH.saturating_sub(answers.len()));
            if late.is_empty() {
                return Ok(must_sync);
            }
            must_sync |= late.iter().any(is_critical);
            answers.wait_for(late);
            answers.carry_out(batch, &[])?;
        }
    }

    /// Lets those try again whose compare-and-set another process overtook, while this process
    /// still holds the lock: an answer they get after the lock is given up is out of date again
    /// by the time they have the next one, and a busy neighbour could keep them out for ever.
    fn give_second_chances(&self, batch: &mut Batch<'_>, answers: &mut Answers) -> Result<()> {
        if self.shared.config.opener.exclusive {
            return Ok(());
        }
        let mut chances = 0;
        while let lost @ 1.. = answers.send_changed()
            && chances < MAX_CHANCES
        {
            chances += 1;
            let again = self.shared.queue.take_within(MAX_BATCH, lost, SECOND_CHANCE);
            answers.wait_for(again);
            answers.carry_out(batch, &[])?;
        }
        Ok(())
    }

    /// Whether the commit will be synced.
    fn set_durability(&self, txn: &mut WriteTransaction, must_sync: bool) -> Result<bool> {
        if self.shared.config.opener.exclusive {
            txn.set_quick_repair(true);
        }
        let Durability::Interval(interval) = self.shared.config.durability else { return Ok(true) };
        let due = self.unflushed.is_some_and(|since| since.elapsed() >= interval);
        if must_sync || due {
            return Ok(true);
        }
        txn.set_durability(RedbDurability::None).map_err(|error| {
            Error::unavailable("the session file cannot be written to").with_source(error)
        })?;
        Ok(false)
    }

    /// How long sweeping leaves the lock to others after a step that took `step`.
    fn pause_after(&self, step: Duration, jobs: usize) -> Duration {
        if self.others_wait(jobs) { step * SHARE } else { Duration::ZERO }
    }

    fn others_wait(&self, jobs: usize) -> bool {
        self.waited > CONTENDED || jobs > 1 || !self.shared.queue.is_empty()
    }

    fn sweep(&mut self) -> Result<()> {
        let span = watch::sweep();
        let _inside = span.enter();
        let (limit, how) = if self.shared.growth_is_doubtful() {
            (FEW, FREEING)
        } else if let Some(step) = self.limit.sweep_step(self.shared) {
            (step, FLUSH)
        } else {
            (SWEEP_STEP, NORMAL)
        };
        let sweep = Sweep { at: self.shared.config.clock.now(), limit, purge: false };
        let (reply, waiter) = super::queue::reply();
        let written = self.write(vec![Job::Sweep(sweep, reply)], &[], how);
        let swept = waiter.now();
        match &swept {
            Ok(swept) => {
                span.record("removed", swept.removed);
                meter::swept(swept.removed);
            }
            Err(error) => tracing::warn!(%error, "sweeping failed; it will be tried again"),
        }
        let pause = match (swept, self.shared.config.sweep_interval) {
            // Soon, and after whatever was queued meanwhile.
            (Ok(Swept { more: true, .. }), _) => Some(self.shared.sweeping_pause()),
            (_, interval) => interval,
        };
        self.next_sweep = pause.map(|pause| Instant::now() + pause);
        written
    }
}

/// Why a transaction was not committed, and whether the handle is of no more use.
struct Spoiled {
    error: Error,
    reopen: bool,
}

impl Spoiled {
    fn before_commit(error: redb::StorageError) -> Self {
        Self { error: failure::before_commit(error), reopen: true }
    }

    /// Rolls back before anybody hears of it. That may panic once something else has.
    fn and_rolled_back(mut self, txn: WriteTransaction) -> Self {
        self.reopen |= caught(|| drop(txn)).is_err();
        self
    }
}

fn commit(txn: WriteTransaction, growth: &Growth) -> Result<(), Spoiled> {
    growth.watch();
    match caught(|| txn.commit()) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if growth.was_refused() => {
            Err(Spoiled { error: failure::before_commit(error), reopen: true })
        }
        Ok(Err(error)) => Err(Spoiled { error: failure::in_commit(error), reopen: true }),
        Err(_) => {
            let error = Error::unknown_outcome("the session file is damaged")
                .with_source(failure::panicked());
            Err(Spoiled { error, reopen: true })
        }
    }
}

/// Whether a job must be on disk before it is answered, whatever [`Durability`] says.
fn is_critical(job: &Job) -> bool {
    match job {
        Job::Commit(commit, _) => match &commit.op {
            Op::Merge(_) | Op::MergeUnseen { .. } | Op::CompareAndSet { .. } => false,
            Op::Create { login, .. } => login.is_some(),
            Op::Renew { .. } | Op::End { .. } => true,
        },
        Job::End(..)
        | Job::Remove(..)
        | Job::Import(..)
        | Job::ChangeKeys(..)
        | Job::HoldKeys(_)
        | Job::Note(..) => true,
        Job::Noted(_, job) => is_critical(job),
        Job::Sweep(sweep, _) => sweep.purge,
    }
}
