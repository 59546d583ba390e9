//! What the broken stores do wrong in a commit.

use std::time::Duration;

use super::model::Shared;
use crate::error::Result;
use crate::record::{Data, Header, Record};
use crate::store::{Access, Commit, Draft, Op, Outcome, apply};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    MergeUpserts,
    RenewInTwoSteps,
    RenewDeletesFirst,
    AnswersBeforeCommit,
    AnswersBeforeEnd,
    MergeRewritesRecord,
    DeadlineTooLate,
    TouchRevives,
    TouchRewritesData,
    CreateOverwrites,
    CompareAndSetInTwoSteps,
    CommitIgnoresGeneration,
    PurgeEndsLive,
    PurgeTakesMarks,
    PageSkips,
    PageRepeats,
    AbsenceFromOldState,
    EndKeepsData,
    EndIgnoresFilter,
    SweepsAtDeadline,
    KeysInTwoSteps,
    ExportForgetsEndings,
    ImportOverwrites,
    RemoveEndsLive,
    CapLooksAtEnded,
    MergeIgnoresRealm,
    JobIsActivity,
}

/// Time for something to come between two steps.
pub(super) fn gap() {
    std::thread::sleep(Duration::from_micros(100));
}

impl Shared {
    pub(super) fn commit(&self, commit: &Commit) -> Result<Outcome> {
        match (&commit.op, self.fault) {
            (Op::Create { .. }, Fault::CreateOverwrites) => {
                self.state.lock().rows.remove(&commit.id);
                self.apply(commit)
            }
            (Op::Merge(draft), Fault::MergeUpserts) => self.upsert(commit, draft),
            (Op::Merge(draft), Fault::MergeRewritesRecord) => self.rewrite(commit, draft),
            (Op::MergeUnseen { draft, .. }, Fault::MergeIgnoresRealm) => {
                self.apply(&Commit { op: Op::Merge(draft.clone()), ..commit.clone() })
            }
            (Op::Merge(_), Fault::JobIsActivity) => {
                let timeouts = commit.access.timeouts.unwrap_or_default();
                let access = Access { timeouts: Some(timeouts), ..commit.access };
                self.apply(&Commit { access, ..commit.clone() })
            }
            (Op::CompareAndSet { .. }, Fault::CompareAndSetInTwoSteps) => {
                self.compare_then_set(commit)
            }
            (Op::Renew { .. }, Fault::RenewInTwoSteps) => self.renew_in_two_steps(commit),
            (Op::Renew { .. }, Fault::RenewDeletesFirst) => self.renew_deleting_first(commit),
            (Op::End { .. }, Fault::EndKeepsData) => self.end_keeping_data(commit),
            _ => self.apply(commit),
        }
    }

    fn compare_then_set(&self, commit: &Commit) -> Result<Outcome> {
        let Op::CompareAndSet { key, expected, value } = &commit.op else {
            return self.apply(commit);
        };
        if let Some(row) = self.state.lock().rows.get(&commit.id)
            && row.data().get(key) != expected.as_deref()
        {
            return Ok(Outcome::Changed(row.clone()));
        }
        gap();
        let mut draft = Draft::default();
        match value {
            Some(value) => draft.changes.set(key, value.to_vec())?,
            None => draft.changes.remove(key),
        }
        self.apply(&Commit { op: Op::Merge(draft), ..commit.clone() })
    }

    fn end_keeping_data(&self, commit: &Commit) -> Result<Outcome> {
        let before = self.state.lock().rows.get(&commit.id).cloned();
        let outcome = self.apply(commit)?;
        if let (Some(before), Outcome::Committed(_)) = (before, &outcome) {
            let header = Header { absolute_at: commit.access.at, ..before.header() };
            let expired = Record::new(&header, before.data())?;
            self.state.lock().rows.insert(commit.id, expired);
        }
        Ok(outcome)
    }

    fn upsert(&self, commit: &Commit, draft: &Draft) -> Result<Outcome> {
        let outcome = self.apply(commit)?;
        if !matches!(outcome, Outcome::Absent(_)) {
            return Ok(outcome);
        }
        self.state.lock().rows.remove(&commit.id);
        let op = Op::Create { realm: None, draft: draft.clone(), login: None };
        self.apply(&Commit { op, ..commit.clone() })
    }

    fn rewrite(&self, commit: &Commit, draft: &Draft) -> Result<Outcome> {
        let before = self.state.lock().rows.get(&commit.id).cloned();
        let outcome = self.apply(commit)?;
        gap();
        if let (Some(before), Outcome::Committed(after)) = (before, &outcome) {
            let data = draft.changes.apply(before.data());
            let record = Record::new(&after.header(), Data::packed(&data))?;
            self.state.lock().rows.insert(commit.id, record);
        }
        Ok(outcome)
    }

    fn renew_in_two_steps(&self, commit: &Commit) -> Result<Outcome> {
        let mut state = self.state.lock();
        let applied = apply(commit, &mut self.view(&mut state))?;
        for write in applied.more {
            state.rows.insert(write.id, write.after);
        }
        drop(state);
        gap();
        if let Some(mark) = applied.write {
            self.state.lock().rows.insert(mark.id, mark.after);
        }
        Ok(applied.outcome)
    }

    fn renew_deleting_first(&self, commit: &Commit) -> Result<Outcome> {
        let mut state = self.state.lock();
        let applied = apply(commit, &mut self.view(&mut state))?;
        if applied.write.is_some() {
            state.rows.remove(&commit.id);
        }
        drop(state);
        gap();
        let mut state = self.state.lock();
        for write in applied.more {
            state.rows.insert(write.id, write.after);
        }
        Ok(applied.outcome)
    }
}
