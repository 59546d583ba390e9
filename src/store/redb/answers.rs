//! The jobs of one transaction and what they come to, on hold until the commit.

use std::cmp::Reverse;

use super::batch::Batch;
use super::failure;
use super::log::Noting;
use super::queue::{Job, Reply};
use crate::error::{Error, Result};
use crate::id::SessionId;
use crate::keyring::KeyRing;
use crate::store::{Access, Commit, EndReport, Imported, Outcome, Swept, Tally};

/// Jobs in hand, and results on hold until the commit.
#[derive(Default)]
pub(super) struct Answers {
    /// Commits in order of their session's ID, last first; those of one session in theirs.
    waiting_commits: Vec<(Commit, Reply<Outcome>)>,
    /// The others, last first.
    waiting: Vec<Job>,
    commits: Vec<(Reply<Outcome>, Result<Outcome>)>,
    ends: Vec<(Reply<EndReport>, Result<EndReport>)>,
    sweeps: Vec<(Reply<Swept>, Result<Swept>)>,
    imports: Vec<(Reply<Imported>, Result<Imported>)>,
    keys: Vec<(Reply<KeyRing>, Result<KeyRing>)>,
    held: Vec<(Reply<()>, Result<()>)>,
}

impl Answers {
    pub(super) fn to(jobs: Vec<Job>) -> Self {
        let mut answers = Self::default();
        answers.wait_for(jobs);
        answers
    }

    pub(super) fn wait_for(&mut self, jobs: Vec<Job>) {
        for job in jobs.into_iter().rev() {
            match job {
                Job::Commit(commit, reply) => self.waiting_commits.push((commit, reply)),
                other => self.waiting.push(other),
            }
        }
        // Stable, and what is moved about are not the commits. Where two IDs begin alike, their
        // commits may alternate.
        self.waiting_commits.sort_by_cached_key(|(commit, _)| Reverse(beginning(&commit.id)));
    }

    /// How many jobs there are, carried out or not.
    pub(super) fn len(&self) -> usize {
        let waiting = self.waiting_commits.len() + self.waiting.len();
        let done = self.commits.len() + self.ends.len() + self.sweeps.len();
        waiting + done + self.imports.len() + self.keys.len() + self.held.len()
    }

    /// Carries out what waits. An error means that the transaction can no longer be trusted; what
    /// was not carried out keeps waiting, for [`send`](Self::send).
    pub(super) fn carry_out(
        &mut self,
        batch: &mut Batch<'_>,
        touches: &[(SessionId, Access)],
    ) -> Result<()> {
        while let Some((commit, reply)) = self.waiting_commits.pop() {
            let mut spoiled = None;
            hold(&mut self.commits, reply, || {
                batch.commit(&commit).unwrap_or_else(|error| {
                    spoiled = Some(error.clone());
                    Err(error)
                })
            });
            spoiled.map_or(Ok(()), Err)?;
        }
        for (id, access) in touches {
            batch.touch(id, access)?;
        }
        while let Some(job) = self.waiting.pop() {
            self.carry_out_other(batch, job)?;
        }
        Ok(())
    }

    fn carry_out_other(&mut self, batch: &mut Batch<'_>, job: Job) -> Result<()> {
        match job {
            Job::Commit(commit, reply) => {
                self.waiting_commits.push((commit, reply));
                Ok(())
            }
            Job::End(end, reply) => {
                hold(&mut self.ends, reply, || batch.end(&end)).map_or(Ok(()), Err)
            }
            Job::Sweep(sweep, reply) => {
                hold(&mut self.sweeps, reply, || batch.sweep(&sweep)).map_or(Ok(()), Err)
            }
            Job::Remove(remove, reply) => {
                hold(&mut self.sweeps, reply, || batch.remove_some(&remove)).map_or(Ok(()), Err)
            }
            Job::Import(import, reply) => {
                let failed = hold(&mut self.imports, reply, || batch.import(&import));
                let refused = |error: &Error| error.is_full() || error.is_too_large();
                failed
                    .filter(|error| !refused(error) || failure::needs_reopening(error))
                    .map_or(Ok(()), Err)
            }
            Job::ChangeKeys(change, reply) => {
                let failed = hold(&mut self.keys, reply, || batch.change_keys(change));
                // A refused change (unknown key, full ring) has written nothing.
                failed
                    .filter(|error| failure::needs_reopening(error) || error.is_corrupt())
                    .map_or(Ok(()), Err)
            }
            Job::Note(note, tally, reply) => {
                hold(&mut self.held, reply, || batch.note(&note, tally)).map_or(Ok(()), Err)
            }
            Job::Noted(note, job) => self.carry_out_noted(batch, &note, *job),
            Job::HoldKeys(reply) => {
                batch.hold_keys();
                hold(&mut self.held, reply, || Ok(())).map_or(Ok(()), Err)
            }
        }
    }

    fn carry_out_noted(&mut self, batch: &mut Batch<'_>, note: &Noting, job: Job) -> Result<()> {
        let (ends, sweeps, keys) = (self.ends.len(), self.sweeps.len(), self.keys.len());
        self.carry_out_other(batch, job)?;
        let tally = if let Some((_, Ok(report))) = self.ends.get(ends) {
            let EndReport { ended, already_over } = *report;
            Tally { ended, already_over, ..Tally::default() }
        } else if let Some((_, Ok(swept))) = self.sweeps.get(sweeps) {
            Tally { purged: swept.removed, ..Tally::default() }
        } else if let Some((_, Ok(_))) = self.keys.get(keys) {
            Tally::default()
        } else {
            // It was refused, and changed nothing.
            return Ok(());
        };
        batch.note(note, tally)
    }

    /// Whether something was swept.
    pub(super) fn has_swept(&self) -> bool {
        !self.sweeps.is_empty()
    }

    /// Answers those who lost a compare-and-set, and says how many they are. Theirs is no
    /// success: what they are shown need not be durable, since they can only compare with it.
    pub(super) fn send_changed(&mut self) -> usize {
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
    pub(super) fn send(self, failure: Option<&Error>) {
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
        each(self.imports, failure);
        each(self.keys, failure);
        each(self.held, failure);
        let Some(error) = failure else { return };
        for (_, reply) in self.waiting_commits {
            reply.send(Err(error.clone()));
        }
        for job in self.waiting {
            job.fail(error.clone());
        }
    }
}

fn beginning(id: &SessionId) -> u64 {
    id.as_bytes().first_chunk().copied().map_or(0, u64::from_be_bytes)
}

/// Puts the result of `job` on hold, and says why it failed. If it panics, that is its result.
fn hold<T>(
    results: &mut Vec<(Reply<T>, Result<T>)>,
    reply: Reply<T>,
    job: impl FnOnce() -> Result<T>,
) -> Option<Error> {
    results.push((reply, Err(failure::panicked())));
    let result = job();
    let failed = result.as_ref().err().cloned();
    if let Some((_, held)) = results.last_mut() {
        *held = result;
    }
    failed
}
