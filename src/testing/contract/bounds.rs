//! Rule 19: past a bound there is a typed error, and the old state is intact.

use super::trial::{Trial, create, draft, ensure, login, new_id, number_of, sibling_of};
use super::{Failure, Suite, Verdict};
use crate::error::Result;
use crate::id::SessionId;
use crate::store::{Commit, Draft, Op, Outcome, SessionStore};

const MAX: usize = 1000;

async fn bounded(trial: &Trial, id: SessionId, max: usize, op: Op) -> Result<Outcome> {
    let commit = Commit { id, access: trial.access(), max_data_bytes: max, op };
    trial.store().commit(commit).await
}

fn blob(bytes: usize) -> Verdict<Draft> {
    let mut draft = Draft::default();
    draft.changes.set("blob", vec![7; bytes])?;
    Ok(draft)
}

fn too_large(outcome: Result<Outcome>) -> Verdict {
    match outcome {
        Err(error) if error.is_too_large() => Ok(()),
        other => Err(Failure::new(format!("past the bound: {other:?}"))),
    }
}

pub(super) async fn rule_19_data_past_its_bound_is_refused(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = new_id()?;
    too_large(bounded(&trial, id, MAX, create(blob(MAX)?)).await)?;
    ensure!(trial.record(id).await?.is_none(), "a creation that was refused left a record");

    trial.committed(id, create(draft(&[("n", 1)])?)).await?;
    let before = trial.live(id).await?;
    let new_id = sibling_of(id)?;
    let set = Op::CompareAndSet {
        key: "blob".into(),
        expected: None,
        value: Some(vec![7; MAX].into_boxed_slice()),
    };
    let renewal = Op::Renew {
        new_id,
        draft: blob(MAX)?,
        login: Some(login("alice", None)),
        grace: super::trial::GRACE,
    };
    for op in [Op::Merge(blob(MAX)?), set, renewal] {
        too_large(bounded(&trial, id, MAX, op).await)?;
        ensure!(trial.live(id).await? == before, "what was refused changed the session");
    }
    ensure!(trial.record(new_id).await?.is_none(), "a renewal that was refused left a record");
    Ok(())
}

pub(super) async fn rule_19_data_over_a_lowered_bound_may_shrink(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = new_id()?;
    let mut both = blob(5000)?;
    both.changes.set("n", super::trial::number(1))?;
    trial.committed(id, create(both)).await?;
    for too_much in [draft(&[("more", 1)])?, blob(5000)?] {
        too_large(bounded(&trial, id, MAX, Op::Merge(too_much)).await)?;
    }
    let shrunk = bounded(&trial, id, MAX, Op::Merge(blob(4000)?)).await?;
    ensure!(super::trial::is_committed(&shrunk), "shrinking was refused: {shrunk:?}");
    let label = Draft { label: Some(Some("still here".into())), ..Draft::default() };
    let labelled = bounded(&trial, id, MAX, Op::Merge(label)).await?;
    ensure!(super::trial::is_committed(&labelled), "a change of no data was refused");
    ensure!(number_of(&trial.live(id).await?, "n") == Some(1), "a key was lost");
    Ok(())
}

pub(super) async fn rule_19_long_names_are_refused(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = trial.create(&[("n", 1)]).await?;
    let before = trial.live(id).await?;
    let new_id = sibling_of(id)?;
    let label = Draft { label: Some(Some("l".repeat(257).into())), ..Draft::default() };
    let user = Op::Renew {
        new_id,
        draft: Draft::default(),
        login: Some(login(&"u".repeat(1025), None)),
        grace: super::trial::GRACE,
    };
    for op in [Op::Merge(label), user] {
        too_large(trial.commit(id, op).await)?;
        ensure!(trial.live(id).await? == before, "what was refused changed the session");
    }
    ensure!(trial.record(new_id).await?.is_none(), "a renewal that was refused left a record");
    let found = trial.store().sessions_of(&"u".repeat(1025)).await?;
    ensure!(found.is_empty(), "a login that was refused is listed");
    Ok(())
}
