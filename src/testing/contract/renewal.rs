//! Rule 8: a renewal moves a session in one step, and the old ID is dead at once.

use std::time::Instant;

use super::trial::{
    DAY, GRACE, MILLI, SECOND, TIMEOUTS, Trial, committed, draft, ensure, is_committed, login,
    logout, merge, new_id, number_of, race, race_two, racer, refused, renew, renew_login,
    sibling_of,
};
use super::{Failure, Suite, Verdict};
use crate::id::SessionId;
use crate::record::{Absence, Record, State};
use crate::store::{Draft, Loaded, Op, Outcome, SessionStore};

async fn renewed(trial: &Trial, id: SessionId) -> Verdict<(SessionId, Record)> {
    let new_id = sibling_of(id)?;
    Ok((new_id, trial.committed(id, renew(new_id)).await?))
}

/// Signs in with data and a label.
async fn signed_in(trial: &Trial, user: Option<&str>) -> Verdict<SessionId> {
    let id = new_id()?;
    let op = Op::Create {
        realm: Some("shop".into()),
        draft: Draft { label: Some(Some("Firefox".into())), ..draft(&[("cart", 7)])? },
        login: user.map(|user| login(user, None)),
    };
    trial.committed(id, op).await?;
    Ok(id)
}

pub(super) async fn rule_08_renewal_carries_everything_over(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for anywhere in [false, true] {
        let id = signed_in(&trial, Some("alice")).await?;
        let before = trial.live(id).await?;
        trial.clock().advance(SECOND);
        let new_id = trial.target(id, anywhere)?;
        let op = Op::Renew { new_id, draft: draft(&[("more", 1)])?, login: None, grace: GRACE };
        let answered = trial.committed(id, op).await?;
        let after = trial.live(new_id).await?;
        ensure!(after == answered, "answered otherwise than stored");
        ensure!(
            number_of(&after, "cart") == Some(7) && number_of(&after, "more") == Some(1),
            "data was lost on the way"
        );
        ensure!(
            (after.user(), after.label(), after.realm())
                == (before.user(), before.label(), before.realm()),
            "metadata was lost on the way: {after:?}"
        );
        ensure!(
            after.created_at() == before.created_at()
                && after.authenticated_at() == before.authenticated_at()
                && after.absolute_at() == before.absolute_at()
                && after.last_seen_at() == trial.now(),
            "a renewal moved an instant: {before:?} became {after:?}"
        );
        let listed = trial.store().sessions_of("alice").await?;
        ensure!(listed.iter().any(|session| session.id == new_id), "the new ID is not listed");
        ensure!(listed.iter().all(|session| session.id != id), "the old ID is still listed");
    }
    Ok(())
}

pub(super) async fn rule_08_the_old_id_is_dead_at_once(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = trial.create(&[("n", 1)]).await?;
    let (successor, _) = renewed(&trial, id).await?;
    let superseded = Absence::Superseded { successor };
    let ops = [
        merge(&[("n", 2)])?,
        super::trial::compare_and_set("n", Some(1), 2),
        renew(sibling_of(id)?),
        logout(),
    ];
    for handle in 0..2 {
        for op in &ops {
            let absence = refused(&trial.commit_on(handle, id, op.clone()).await?)?;
            ensure!(absence == superseded, "a commit to the old ID was told {absence:?}");
        }
    }
    trial.store().touch(&id, &super::trial::access(trial.now().saturating_add(SECOND)));
    ensure!(number_of(&trial.live(successor).await?, "n") == Some(1), "the new session changed");
    let record = trial.record(id).await?.ok_or_else(|| Failure::new("no mark was left"))?;
    ensure!(record.data().is_empty(), "the old record kept its data");
    ensure!(record.user().is_none(), "the mark is filed under the user");
    Ok(())
}

pub(super) async fn rule_08_the_old_id_says_so_within_grace(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = trial.create(&[]).await?;
    let (successor, _) = renewed(&trial, id).await?;
    let superseded = Absence::Superseded { successor };
    let absence = trial.absent(id).await?;
    ensure!(absence == superseded, "at once: {absence:?}");
    trial.clock().advance(GRACE.saturating_sub(MILLI));
    trial.sweep().await?;
    trial.store().purge().await?;
    let absence = trial.absent(id).await?;
    ensure!(absence == superseded, "a moment before the end of grace: {absence:?}");
    trial.clock().advance(MILLI);
    let absence = trial.absent(id).await?;
    ensure!(absence == Absence::NotFound, "after grace: {absence:?}");
    let absence = refused(&trial.commit(id, merge(&[("n", 1)])?).await?)?;
    ensure!(absence == Absence::NotFound, "a commit after grace: {absence:?}");
    ensure!(trial.is_live(successor).await?, "the new session is gone");
    Ok(())
}

pub(super) async fn rule_08_one_of_two_renewals_wins(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for round in 0..suite.rounds {
        let id = trial.create(&[("n", 1)]).await?;
        let targets = [sibling_of(id)?, trial.target(id, round % 2 == 1)?];
        let racers = targets.iter().enumerate().map(|(n, target)| {
            let (trial, target) = (trial.clone(), *target);
            racer(async move { Ok(trial.commit_on(n, id, renew(target)).await?) })
        });
        let outcomes = race(racers.collect()).await?;
        let winners: Vec<_> =
            targets.iter().zip(&outcomes).filter(|(_, o)| is_committed(o)).collect();
        ensure!(winners.len() == 1, "round {round}: {} renewals won", winners.len());
        for (target, outcome) in targets.iter().zip(&outcomes) {
            if is_committed(outcome) {
                ensure!(number_of(&committed(outcome.clone())?, "n") == Some(1), "data was lost");
            } else {
                let told = refused(outcome)?;
                let superseded = Absence::Superseded { successor: *winners[0].0 };
                ensure!(told == superseded, "round {round}: the loser was told {told:?}");
                ensure!(trial.record(*target).await?.is_none(), "the loser left a record");
            }
        }
        ensure!(trial.is_live(*winners[0].0).await?, "round {round}: the winner's is not there");
        ensure!(!trial.is_live(id).await?, "round {round}: the old ID is still alive");
    }
    Ok(())
}

/// Merges one after the other until one is refused; answers the last one made, and the refusal.
async fn merge_until_refused(trial: &Trial, id: SessionId) -> Verdict<(u64, Absence)> {
    let began = Instant::now();
    let mut made = 0;
    loop {
        let outcome = trial.commit_on(1, id, merge(&[("made", made + 1)])?).await?;
        if !is_committed(&outcome) {
            return Ok((made, refused(&outcome)?));
        }
        made += 1;
        std::thread::yield_now();
        ensure!(began.elapsed() < 20 * SECOND, "the renewal is never seen");
    }
}

/// A merge that runs beside a renewal is in the new session, or was refused.
pub(super) async fn rule_08_renewal_loses_no_merge(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for round in 0..suite.rounds {
        let id = trial.create(&[("made", 0)]).await?;
        let target = trial.target(id, round % 2 == 1)?;
        let op = if round % 3 == 0 { renew(target) } else { renew_login(target, "alice") };
        let (one, other) = (trial.clone(), trial.clone());
        let (_, (made, absence)) =
            race_two(async move { committed(one.commit_on(0, id, op).await?) }, async move {
                merge_until_refused(&other, id).await
            })
            .await?;
        ensure!(absence == Absence::Superseded { successor: target }, "told {absence:?}");
        let record = trial.record(target).await?.ok_or_else(|| Failure::new("not renewed"))?;
        let carried = number_of(&record, "made");
        ensure!(
            carried == Some(made),
            "round {round}: {made} merges were answered, {carried:?} is in the new session"
        );
        ensure!(!trial.is_live(id).await?, "round {round}: the old ID is still alive");
        trial.committed(target, logout()).await?;
    }
    Ok(())
}

/// Looks at a session until it is renewed to `target`.
async fn watch(trial: &Trial, id: SessionId, target: SessionId) -> Verdict {
    let store = trial.handle(1);
    let began = Instant::now();
    loop {
        let new_first = store.inspect(&target).await?.is_some();
        match store.load(&id, &trial.access()).await? {
            Loaded::Live(_) => {
                // Through another handle a live record may come from a moment ago.
                let both = new_first && trial.handles().len() == 1;
                ensure!(!both, "both sessions were alive");
                ensure!(began.elapsed() < 5 * SECOND, "the renewal is never seen");
                std::thread::yield_now();
            }
            Loaded::Absent(Absence::Superseded { successor }) if successor == target => {
                let new = store.load(&target, &trial.access()).await?;
                ensure!(matches!(new, Loaded::Live(_)), "neither was alive: {new:?}");
                return Ok(());
            }
            Loaded::Absent(absence) => {
                return Err(Failure::new(format!("during a renewal: {absence:?}")));
            }
        }
    }
}

/// Whoever looks sees the old session or the mark it left, and the new one once the mark is seen.
pub(super) async fn rule_08_renewal_is_one_step(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for round in 0..suite.rounds {
        let id = trial.create(&[("n", 1)]).await?;
        let target = sibling_of(id)?;
        let (one, other) = (trial.clone(), trial.clone());
        race_two(
            async move { committed(one.commit_on(0, id, renew(target)).await?) },
            async move { watch(&other, id, target).await },
        )
        .await
        .map_err(|failure| Failure::new(format!("round {round}: {failure}")))?;
    }
    Ok(())
}

pub(super) async fn rule_08_login_starts_afresh(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = trial.create(&[]).await?;
    trial.clock().advance(DAY / 2);
    let new_id = sibling_of(id)?;
    let record = trial.committed(id, renew_login(new_id, "alice")).await?;
    let now = trial.now();
    ensure!(
        record.user() == Some("alice")
            && record.authenticated_at() == Some(now)
            && record.absolute_at() == now.saturating_add(TIMEOUTS.absolute),
        "signed in: {record:?}"
    );
    ensure!(record.created_at() < now, "a login moved the creation");
    let old =
        trial.record(id).await?.map(|record| record.state(now, &crate::record::Endings::default()));
    ensure!(old == Some(State::Superseded), "the visitor's session is {old:?}");
    Ok(())
}

pub(super) async fn rule_08_login_drops_what_another_user_left(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for (before, kept) in [(None, true), (Some("alice"), true), (Some("bob"), false)] {
        let id = signed_in(&trial, before).await?;
        let new_id = sibling_of(id)?;
        let op = Op::Renew {
            new_id,
            draft: draft(&[("own", 1)])?,
            login: Some(login("alice", None)),
            grace: GRACE,
        };
        let record = trial.committed(id, op).await?;
        ensure!(record == trial.live(new_id).await?, "answered otherwise than stored");
        ensure!(number_of(&record, "own") == Some(1), "the login's own data is not there");
        ensure!(
            number_of(&record, "cart").is_some() == kept && record.label().is_some() == kept,
            "after {before:?}, alice has {:?} and {:?}",
            record.data(),
            record.label()
        );
        ensure!(record.realm() == Some("shop"), "the realm was lost");
    }
    let of_bob = trial.store().sessions_of("bob").await?;
    ensure!(of_bob.is_empty(), "bob's session is listed though alice took it over");
    Ok(())
}

pub(super) async fn rule_08_the_absolute_deadline_is_moved_by_login_only(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = trial.login("alice").await?;
    let deadline = trial.live(id).await?.absolute_at();
    let mut at = id;
    for _ in 0..5 {
        trial.clock().advance(DAY / 2);
        let record = trial.committed(at, merge(&[("n", 1)])?).await?;
        ensure!(record.absolute_at() == deadline, "a merge moved it");
        let (next, record) = renewed(&trial, at).await?;
        ensure!(record.absolute_at() == deadline, "a renewal moved it");
        at = next;
    }
    let next = sibling_of(at)?;
    let record = trial.committed(at, renew_login(next, "alice")).await?;
    ensure!(record.absolute_at() > deadline, "a login did not start a new one");
    match trial.commit(id, merge(&[("n", 1)])?).await? {
        Outcome::Absent(Absence::NotFound) => Ok(()),
        other => Err(Failure::new(format!("the first ID, long after: {other:?}"))),
    }
}
