//! The writing thread: takes what is queued, applies it in one transaction, commits once, answers.
//!
//! There is no timer: while one commit is on its way to the disk, the next batch gathers. What is
//! queued for one session is carried out in its order; sessions in order of ID, so that
//! neighbouring rows are written to pages that are in hand. Nobody is answered before the commit.
//!
//! After an I/O error redb refuses everything on its handle, for ever. The writer then closes it
//! and opens the file again, with a growing pause between attempts; meanwhile whoever asks gets an
//! error at once, and when the fault is gone service goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::{Database, Durability as RedbDurability, WriteTransaction};

use super::batch::Batch;
use super::queue::{Call, Job, Reply};
use super::{Durability, Shared, failure};
use crate::error::{Error, Result};
use crate::id::SessionId;
use crate::keyring::KeyRing;
use crate::store::{Access, EndReport, Op, Outcome, Sweep, Swept};

/// Most jobs in one transaction.
const MAX_BATCH: usize = 4096;
/// Records one step of the store's own sweeping looks at, so that others wait little for it.
const SWEEP_STEP: usize = 256;
/// How long a commit is held back for those who lost a compare-and-set to try again.
const SECOND_CHANCE: Duration = Duration::from_micros(500);
const MAX_CHANCES: usize = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Runs until the store is closed.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut writer =
        Writer { shared, next_sweep: shared.sweep_interval.map(soon), unflushed: None };
    let result = writer.serve();
    shared.snapshots.close();
    drop(shared.withdraw_database());
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
}

impl Writer<'_> {
    fn serve(&mut self) -> Result<()> {
        loop {
            let step = match self.shared.queue.wait(self.next_time()) {
                Call::Work => self.work(),
                Call::Time => self.on_time(),
                Call::Broken => Err(Error::unavailable("the session file has to be reopened")),
                Call::Close => return self.finish(),
            };
            if let Err(error) = step {
                self.reopen(error);
            }
        }
    }

    fn next_time(&self) -> Option<Instant> {
        let flush = match self.shared.durability {
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
        let touches = self.shared.queue.take_touches();
        let flushed =
            if touches.is_empty() { self.flush() } else { self.write(Vec::new(), touches, true) };
        flushed.and_then(|()| match self.shared.withdraw_database() {
            // Other threads let go of it within the call they are in.
            Some(database) => match Arc::try_unwrap(database) {
                Ok(database) => database.close().map_err(failure::before_commit),
                Err(_) => Ok(()),
            },
            None => Ok(()),
        })
    }

    fn flush(&mut self) -> Result<()> {
        if self.unflushed.is_none() {
            return Ok(());
        }
        self.write(Vec::new(), Vec::new(), true)
    }

    /// An error means that the handle is of no more use.
    fn work(&mut self) -> Result<()> {
        let database = self.shared.database()?;
        // Waits while another process writes; what is queued meanwhile joins the batch.
        let txn = database.begin_write().map_err(failure::before_commit)?;
        let jobs = self.shared.queue.take(MAX_BATCH);
        let touches = self.shared.queue.take_touches();
        let must_sync = jobs.iter().any(is_critical);
        self.write_in(&database, txn, jobs, touches, must_sync)
    }

    fn write(
        &mut self,
        jobs: Vec<Job>,
        touches: Vec<(SessionId, Access)>,
        must_sync: bool,
    ) -> Result<()> {
        let database = self.shared.database()?;
        let txn = database.begin_write().map_err(failure::before_commit)?;
        self.write_in(&database, txn, jobs, touches, must_sync)
    }

    fn write_in(
        &mut self,
        database: &Database,
        mut txn: WriteTransaction,
        jobs: Vec<Job>,
        mut touches: Vec<(SessionId, Access)>,
        must_sync: bool,
    ) -> Result<()> {
        let flushing = must_sync && self.unflushed.is_some();
        let synced = self.set_durability(&mut txn, must_sync)?;
        let mut answers = Answers::default();
        touches.sort_unstable_by_key(|(id, _)| *id);
        let full = self.shared.file_is_full();
        let applied = catch_unwind(AssertUnwindSafe(|| {
            let mut batch = Batch::begin(&txn, self.shared.keep_ended, full)?;
            carry_out(&mut batch, jobs, &touches, &mut answers)?;
            self.give_second_chances(&mut batch, &mut answers)?;
            batch.finish()
        }));
        let outcome = match applied {
            Ok(Ok(changed)) if changed || flushing => commit(txn).map(|()| {
                self.unflushed =
                    if synced { None } else { self.unflushed.or(Some(Instant::now())) };
            }),
            Ok(Ok(_)) => txn.abort().map_err(Spoiled::before_commit),
            Ok(Err(error)) => Err(Spoiled { reopen: failure::needs_reopening(&error), error }),
            Err(_) => Err(Spoiled { error: failure::panicked(), reopen: true }),
        };
        match outcome {
            Ok(()) => {
                // Also where nothing was changed: whoever is told that a session is over must not
                // read it from an older state after that.
                let renewed = self.shared.snapshots.renew_after_commit(database);
                if renewed.is_err() {
                    self.shared.snapshots.withdraw();
                }
                answers.send(None);
                renewed
            }
            Err(Spoiled { error, reopen }) => {
                tracing::error!(%error, "a batch of changes failed");
                answers.send(Some(&error));
                if reopen { Err(error) } else { Ok(()) }
            }
        }
    }

    /// Lets those try again whose compare-and-set another process overtook, while this process
    /// still holds the lock: an answer they get after the lock is given up is out of date again
    /// by the time they have the next one, and a busy neighbour could keep them out for ever.
    fn give_second_chances(&self, batch: &mut Batch<'_>, answers: &mut Answers) -> Result<()> {
        if self.shared.opener.exclusive {
            return Ok(());
        }
        let mut chances = 0;
        while let lost @ 1.. = answers.send_changed()
            && chances < MAX_CHANCES
        {
            chances += 1;
            let again = self.shared.queue.take_within(MAX_BATCH, lost, SECOND_CHANCE);
            carry_out(batch, again, &[], answers)?;
        }
        Ok(())
    }

    /// Whether the commit will be synced.
    fn set_durability(&self, txn: &mut WriteTransaction, must_sync: bool) -> Result<bool> {
        if self.shared.opener.exclusive {
            txn.set_quick_repair(true);
        }
        let Durability::Interval(interval) = self.shared.durability else { return Ok(true) };
        let due = self.unflushed.is_some_and(|since| since.elapsed() >= interval);
        if must_sync || due {
            return Ok(true);
        }
        txn.set_durability(RedbDurability::None).map_err(|error| {
            Error::unavailable("the session file cannot be written to").with_source(error)
        })?;
        Ok(false)
    }

    fn sweep(&mut self) -> Result<()> {
        let sweep = Sweep { at: self.shared.clock.now(), limit: SWEEP_STEP, purge: false };
        let (reply, waiter) = super::queue::reply();
        let written = self.write(vec![Job::Sweep(sweep, reply)], Vec::new(), false);
        let swept = waiter.now();
        if let Err(error) = &swept {
            tracing::warn!(%error, "sweeping failed; it will be tried again");
        }
        let pause = match (swept, self.shared.sweep_interval) {
            // At once, but after whatever was queued meanwhile.
            (Ok(Swept { more: true, .. }), _) => Some(Duration::ZERO),
            (_, interval) => interval,
        };
        self.next_sweep = pause.map(|pause| Instant::now() + pause);
        written
    }

    /// Closes the file and opens it again, until that succeeds or the store is closed.
    fn reopen(&mut self, cause: Error) {
        tracing::warn!(error = %cause, "the session file is being reopened");
        self.shared.snapshots.withdraw();
        drop(self.shared.withdraw_database());
        self.unflushed = None;
        let mut error = Error::unavailable("the session file is being reopened").with_source(cause);
        let mut pause = FIRST_PAUSE;
        while !self.shared.queue.is_closing() {
            self.shared.queue.pause(pause, &error);
            match self.shared.opener.open_existing() {
                Ok(database) => {
                    self.shared.lend_database(database);
                    tracing::info!("the session file is open again");
                    return;
                }
                Err(again) => {
                    error = Error::unavailable("the session file cannot be reopened")
                        .with_source(again);
                }
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
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
}

fn commit(txn: WriteTransaction) -> std::result::Result<(), Spoiled> {
    match catch_unwind(AssertUnwindSafe(|| txn.commit())) {
        Ok(Ok(())) => Ok(()),
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
            Op::Merge(_) | Op::CompareAndSet { .. } => false,
            Op::Create { login, .. } => login.is_some(),
            Op::Renew { .. } | Op::End { .. } => true,
        },
        Job::End(..) | Job::ChangeKeys(..) | Job::HoldKeys(_) => true,
        Job::Sweep(sweep, _) => sweep.purge,
    }
}

/// Carries out jobs and touches; an error spoils the transaction.
fn carry_out(
    batch: &mut Batch<'_>,
    jobs: Vec<Job>,
    touches: &[(SessionId, Access)],
    answers: &mut Answers,
) -> Result<()> {
    let mut commits = Vec::with_capacity(jobs.len());
    let mut others = Vec::new();
    for job in jobs {
        match job {
            Job::Commit(commit, reply) => commits.push((commit, reply)),
            other => others.push(other),
        }
    }
    // Stable: commits of one session keep their order.
    commits.sort_by_key(|(commit, _)| commit.id);
    let mut failed = None;
    for (commit, reply) in commits {
        let result = match &failed {
            Some(error) => Err(Error::clone(error)),
            None => batch.commit(&commit).unwrap_or_else(|error| {
                failed = Some(error.clone());
                Err(error)
            }),
        };
        answers.commits.push((reply, result));
    }
    for (id, access) in touches {
        if failed.is_none() {
            failed = batch.touch(id, access).err();
        }
    }
    for job in others {
        let spoiled = answers.other(batch, job, failed.as_ref());
        failed = failed.or(spoiled);
    }
    failed.map_or(Ok(()), Err)
}

/// Results on hold until the commit.
#[derive(Default)]
struct Answers {
    commits: Vec<(Reply<Outcome>, Result<Outcome>)>,
    ends: Vec<(Reply<EndReport>, Result<EndReport>)>,
    sweeps: Vec<(Reply<Swept>, Result<Swept>)>,
    keys: Vec<(Reply<KeyRing>, Result<KeyRing>)>,
    held: Vec<Reply<()>>,
}

impl Answers {
    /// Carries out one job. Returns the error that spoils the transaction, if any.
    fn other(&mut self, batch: &mut Batch<'_>, job: Job, failed: Option<&Error>) -> Option<Error> {
        let ready = |result: Option<&Error>| result.map_or(Ok(()), |error| Err(error.clone()));
        match job {
            Job::Commit(..) => None,
            Job::End(end, reply) => {
                let result = ready(failed).and_then(|()| batch.end(&end));
                let spoiled = result.as_ref().err().cloned();
                self.ends.push((reply, result));
                spoiled
            }
            Job::Sweep(sweep, reply) => {
                let result = ready(failed).and_then(|()| batch.sweep(&sweep));
                let spoiled = result.as_ref().err().cloned();
                self.sweeps.push((reply, result));
                spoiled
            }
            Job::ChangeKeys(change, reply) => {
                let result = ready(failed).and_then(|()| batch.change_keys(change));
                // A refused change (unknown key, full ring) has written nothing.
                let spoiled = result.as_ref().err().filter(|e| failure::needs_reopening(e));
                let spoiled = spoiled.cloned();
                self.keys.push((reply, result));
                spoiled
            }
            Job::HoldKeys(reply) => {
                batch.hold_keys();
                self.held.push(reply);
                None
            }
        }
    }

    /// Answers those who lost a compare-and-set, and says how many they are. Theirs is no
    /// success: what they are shown need not be durable, since they can only compare with it.
    fn send_changed(&mut self) -> usize {
        let lost =
            |(_, result): &mut (_, Result<Outcome>)| matches!(result, Ok(Outcome::Changed(_)));
        let changed: Vec<_> = self.commits.extract_if(.., lost).collect();
        let count = changed.len();
        for (reply, result) in changed {
            reply.send(result);
        }
        count
    }

    /// Answers everybody; with `failure`, nobody is told of a success.
    fn send(self, failure: Option<&Error>) {
        fn each<T>(answers: Vec<(Reply<T>, Result<T>)>, failure: Option<&Error>) {
            for (reply, result) in answers {
                reply.send(match failure {
                    Some(error) => result.and_then(|_| Err(error.clone())),
                    None => result,
                });
            }
        }
        each(self.commits, failure);
        each(self.ends, failure);
        each(self.sweeps, failure);
        each(self.keys, failure);
        each(self.held.into_iter().map(|reply| (reply, Ok(()))).collect(), failure);
    }
}
