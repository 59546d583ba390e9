//! Records in full: out of one store, and into another.

use std::time::Duration;

use super::trial::{
    DAY, SECOND, TIMEOUTS, Trial, create_login, ensure, logout, merge, new_id, renew, sibling_of,
};
use super::{Failure, Suite, Verdict};
use crate::id::SessionId;
use crate::keyring::KeyRing;
use crate::record::{Mark, Record, State};
use crate::store::{
    Filter, Freshness, Import, Imported, KeyChange, Op, Query, Remove, Selector, SessionStore,
};

/// Everything there is, a few records at a time.
async fn export(trial: &Trial) -> Verdict<Vec<(SessionId, Record)>> {
    let filter = Filter::new().any_state();
    let mut query = Query { filter, after: None, limit: 3, at: trial.now() };
    let mut all = Vec::new();
    for _ in 0..10_000 {
        let page = trial.store().records(&query).await?;
        ensure!(page.corrupt.is_empty(), "sound records were called corrupt");
        all.extend(page.records);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(all),
        }
    }
    Err(Failure::new("records come to no end"))
}

async fn import(trial: &Trial, records: Vec<(SessionId, Record)>) -> Verdict<Imported> {
    Ok(trial.store().import(Import { records }).await?)
}

/// Sessions in every state: live, of a user, logged out, renewed.
async fn fill(trial: &Trial) -> Verdict<[SessionId; 4]> {
    let live = trial.create(&[("n", 1), ("m", 2)]).await?;
    let alice = trial.login("alice").await?;
    let out = trial.login("bob").await?;
    trial.committed(out, logout()).await?;
    let old = trial.create(&[("n", 3)]).await?;
    let new = sibling_of(old)?;
    trial.committed(old, renew(new)).await?;
    Ok([live, alice, out, new])
}

pub(super) async fn exported_records_are_whole_and_in_order(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    fill(&trial).await?;
    let all = export(&trial).await?;
    ensure!(all.len() == 5, "of 5 records {} were exported", all.len());
    ensure!(all.windows(2).all(|two| two[0].0 < two[1].0), "they are not in order of ID");
    for (id, record) in &all {
        ensure!(trial.record(*id).await?.as_ref() == Some(record), "{id} is not what is stored");
    }
    let filter = Filter::new().user("alice");
    let query = Query { filter, after: None, limit: 10, at: trial.now() };
    let of_alice = trial.store().records(&query).await?.records;
    ensure!(of_alice.len() == 1, "alice has one session, {} were exported", of_alice.len());
    Ok(())
}

pub(super) async fn imported_records_come_back_as_they_were(suite: Suite) -> Verdict {
    let (from, to) = (suite.trial()?, suite.trial()?);
    let [live, alice, ..] = fill(&from).await?;
    let all = export(&from).await?;
    let done = import(&to, all.clone()).await?;
    ensure!(done == Imported { imported: 5, ..Imported::default() }, "5 were imported: {done:?}");
    ensure!(export(&to).await? == all, "they are not what was exported");
    // They live on: read, written, indexed by user and by deadline, timed.
    ensure!(to.live(live).await?.data().iter().count() == 2, "data was lost");
    to.committed(live, merge(&[("n", 9)])?).await?;
    let listed = to.store().sessions_of("alice").await?;
    ensure!(listed.len() == 1 && listed[0].id == alice, "the user's session is not listed");
    let idle = to.store().timing().await?.longest_idle;
    ensure!(idle == TIMEOUTS.idle, "the longest idle timeout is not known: {idle:?}");
    to.clock().advance(TIMEOUTS.absolute + Duration::from_secs(7200));
    to.sweep().await?;
    ensure!(export(&to).await?.is_empty(), "imported sessions are not swept");
    Ok(())
}

pub(super) async fn an_import_may_be_repeated(suite: Suite) -> Verdict {
    let (from, to) = (suite.trial()?, suite.trial()?);
    let [live, ..] = fill(&from).await?;
    let all = export(&from).await?;
    import(&to, all[..2].to_vec()).await?;
    let done = import(&to, all.clone()).await?;
    ensure!((done.imported, done.same) == (3, 2), "2 of 5 were there: {done:?}");
    ensure!(export(&to).await? == all, "repeating changed something");
    let before = to.committed(live, merge(&[("n", 9)])?).await?;
    let done = import(&to, all).await?;
    ensure!(done.conflicts == [live], "one differs: {done:?}");
    ensure!(to.record(live).await? == Some(before), "what was there was changed");
    Ok(())
}

pub(super) async fn rule_07_an_import_brings_nothing_back(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let one = trial.create(&[("n", 1)]).await?;
    let [of_alice, of_bob] = [trial.login("alice").await?, trial.login("bob").await?];
    let all = export(&trial).await?;
    trial.clock().advance(SECOND);
    trial.committed(one, logout()).await?;
    trial.store().expire(Selector::user("alice")).await?;
    let done = import(&trial, all.clone()).await?;
    ensure!((done.imported, done.ended, done.same) == (0, 2, 1), "{done:?}");
    trial.absent(one).await?;
    trial.absent(of_alice).await?;
    trial.live(of_bob).await?;
    // Their rows go, and everyone's ending is still known.
    trial.store().expire(Selector::everyone()).await?;
    trial.clock().advance(DAY);
    trial.store().purge().await?;
    let done = import(&trial, all).await?;
    ensure!((done.imported, done.ended) == (0, 3), "everyone was ended: {done:?}");
    for id in [one, of_alice, of_bob] {
        trial.absent(id).await?;
    }
    // Who signs in afterwards and is imported elsewhere and back, lives.
    let later = trial.login("alice").await?;
    let done = import(&trial, export(&trial).await?).await?;
    ensure!(done.same == 1, "a later session is known: {done:?}");
    trial.live(later).await?;
    Ok(())
}

pub(super) async fn exported_sessions_that_a_generation_ended_stay_ended(suite: Suite) -> Verdict {
    let (from, to) = (suite.trial()?, suite.trial()?);
    let id = new_id()?;
    from.committed(id, create_login("alice", None)).await?;
    from.committed(id, merge(&[("n", 1)])?).await?;
    from.store().expire(Selector::user("alice")).await?;
    let all = export(&from).await?;
    let marked = all
        .iter()
        .all(|(_, record)| matches!(record.mark(), Mark::Ended { .. }) && record.data().is_empty());
    ensure!(all.len() == 1 && marked, "it left as a live session: {all:?}");
    import(&to, all).await?;
    to.absent(id).await?;
    ensure!(to.state(id).await? == Some(State::Ended), "it is not ended where it came to");
    Ok(())
}

pub(super) async fn removing_by_id_takes_only_what_is_over(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let [live, alice, out, new] = fill(&trial).await?;
    let all: Vec<_> = export(&trial).await?.into_iter().map(|(id, _)| id).collect();
    let remove = |filter: Filter| Remove { ids: all.clone(), filter, at: trial.now() };
    let any = || Filter::new().any_state();
    let swept = trial.store().remove(remove(any())).await?;
    ensure!(swept.removed == 0, "marks in grace were removed: {swept:?}");
    trial.clock().advance(super::trial::GRACE);
    let remove = |filter: Filter| Remove { ids: all.clone(), filter, at: trial.now() };
    let swept = trial.store().remove(remove(any().user("carol"))).await?;
    ensure!(swept.removed == 0, "the filter was not checked: {swept:?}");
    let swept = trial.store().remove(remove(any().user("bob"))).await?;
    ensure!(swept.removed == 1, "bob had logged out: {swept:?}");
    ensure!(trial.record(out).await?.is_none(), "the record is still there");
    let swept = trial.store().remove(remove(any())).await?;
    ensure!(swept.removed == 1, "a renewed session was left: {swept:?}");
    for id in [live, alice, new] {
        trial.live(id).await?;
    }
    trial.store().expire(Selector::user("alice")).await?;
    let swept = trial.store().remove(remove(any().user("alice"))).await?;
    ensure!(swept.removed == 1, "what an ending of many ended is over: {swept:?}");
    Ok(())
}

pub(super) async fn keys_of_another_ring_are_verified(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = new_id()?;
    trial
        .committed(
            id,
            Op::Create { realm: None, draft: crate::store::Draft::default(), login: None },
        )
        .await?;
    let before = trial.store().keys(Freshness::Current).await?;
    let other = KeyRing::generate(trial.now())?;
    let merge = KeyChange::Merge { ring: other.clone(), at: trial.now() };
    let after = trial.store().change_keys(merge.clone()).await?;
    ensure!(after.active() == before.active(), "another key signs");
    let theirs = after.get(other.active().id()).cloned();
    let Some(theirs) = theirs else { return Err(Failure::new("their key is not there")) };
    let until = trial.now().saturating_add(TIMEOUTS.idle);
    ensure!(!theirs.verifies_at(until), "it verifies for longer than the idle timeout");
    ensure!(theirs.verifies_at(until.saturating_sub(SECOND)), "it verifies for less");
    let again = trial.store().change_keys(merge).await?;
    ensure!(again == after, "merging twice changed the ring");
    Ok(())
}
