//! Rule 11: the most sessions one user may have.

use super::expiring::live_of;
use super::trial::{
    DAY, SECOND, Trial, create_login, draft, ensure, is_committed, login, merge, race, race_two,
    racer, sibling_of,
};
use super::{Failure, Suite, Verdict};
use crate::error::Result;
use crate::record::{Absence, EndedBy};
use crate::store::{Draft, Op, Outcome, SessionCap};

async fn capped(trial: &Trial, n: usize, user: &str, cap: SessionCap) -> Result<Outcome> {
    let id = crate::id::SessionToken::generate()?.id();
    trial.commit_on(n, id, create_login(user, Some(cap))).await
}

pub(super) async fn rule_11_a_cap_refuses_the_new_one(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let cap = SessionCap::refuse_new(2);
    let first = trial.login("alice").await?;
    let visitor = trial.create(&[("n", 1)]).await?;
    let within = capped(&trial, 0, "alice", cap).await?;
    ensure!(is_committed(&within), "the second of two: {within:?}");
    let new_id = sibling_of(visitor)?;
    let renewal = Op::Renew {
        new_id,
        draft: draft(&[("more", 1)])?,
        login: Some(login("alice", Some(cap))),
        grace: SECOND,
    };
    for refused in
        [capped(&trial, 0, "alice", cap).await, trial.commit(visitor, renewal.clone()).await]
    {
        match refused {
            Err(error) if error.is_too_many_sessions() => {}
            other => return Err(Failure::new(format!("the third of two: {other:?}"))),
        }
    }
    ensure!(trial.record(new_id).await?.is_none(), "a refused login left a session");
    ensure!(trial.live(visitor).await?.user().is_none(), "a refused login changed the visitor");
    trial.committed(first, super::trial::logout()).await?;
    trial.committed(visitor, renewal).await?;
    trial.clock().advance(2 * DAY);
    let room = capped(&trial, 0, "alice", cap).await?;
    ensure!(is_committed(&room), "expired sessions count: {room:?}");
    Ok(())
}

pub(super) async fn rule_11_a_cap_ends_the_oldest(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let mut logins = Vec::new();
    for _ in 0..3 {
        logins.push(trial.login("alice").await?);
        trial.clock().advance(SECOND);
    }
    trial.committed(logins[0], merge(&[("active", 1)])?).await?;
    let (oldest, bob) = (logins[0], trial.login("bob").await?);
    let outcome = capped(&trial, 0, "alice", SessionCap::end_oldest(3)).await?;
    ensure!(is_committed(&outcome), "a login was answered {outcome:?}");
    match trial.absent(oldest).await? {
        Absence::Ended { by: EndedBy::Cap, .. } => {}
        other => return Err(Failure::new(format!("the oldest login: {other:?}"))),
    }
    let record = trial.record(oldest).await?;
    ensure!(record.is_some_and(|record| record.data().is_empty()), "it kept its data");
    for id in [logins[1], logins[2], bob] {
        trial.live(id).await?;
    }
    // Signing in again with a session of one's own needs no room.
    let again = sibling_of(logins[1])?;
    let op = Op::Renew {
        new_id: again,
        draft: Draft::default(),
        login: Some(login("alice", Some(SessionCap::end_oldest(3)))),
        grace: SECOND,
    };
    trial.committed(logins[1], op).await?;
    trial.live(logins[2]).await?;
    ensure!(live_of(&trial, "alice").await?.len() == 3, "not three sessions");
    Ok(())
}

pub(super) async fn rule_11_caps_hold_under_concurrent_logins(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for round in 0..suite.rounds {
        let user = format!("user-{round}");
        let refuse = round % 2 == 0;
        let cap = if refuse { SessionCap::refuse_new(2) } else { SessionCap::end_oldest(2) };
        let racers = (0..4_usize).map(|n| {
            let (trial, user) = (trial.clone(), user.clone());
            racer(async move {
                match capped(&trial, n, &user, cap).await {
                    Ok(outcome) => Ok(is_committed(&outcome)),
                    Err(error) if error.is_too_many_sessions() => Ok(false),
                    Err(error) => Err(error.into()),
                }
            })
        });
        let won = race(racers.collect()).await?.into_iter().filter(|won| *won).count();
        ensure!(won == if refuse { 2 } else { 4 }, "round {round}: {won} logins of 4");
        let live = live_of(&trial, &user).await?.len();
        ensure!(live == 2, "round {round}: {live} sessions are live, 2 are allowed");
    }
    Ok(())
}

/// A logout beside a login that ends the oldest keeps its own mark or is told of the cap.
pub(super) async fn rule_11_caps_leave_a_concurrent_logout_alone(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for round in 0..suite.rounds {
        let user = format!("user-{round}");
        let oldest = trial.login(&user).await?;
        let (one, other, name) = (trial.clone(), trial.clone(), user.clone());
        let (_, outcome) = race_two(
            async move { Ok(capped(&one, 0, &name, SessionCap::end_oldest(1)).await?) },
            async move { Ok(other.commit_on(1, oldest, super::trial::logout()).await?) },
        )
        .await?;
        let absence = trial.absent(oldest).await?;
        let expected = match outcome {
            Outcome::Committed(_) => EndedBy::Application,
            _ => EndedBy::Cap,
        };
        let as_expected = matches!(absence, Absence::Ended { by, concurrent, .. }
            if by == expected && concurrent == (by == EndedBy::Application));
        ensure!(as_expected, "round {round}: {outcome:?}, then {absence:?}");
        ensure!(live_of(&trial, &user).await?.len() == 1, "round {round}: not one session");
    }
    Ok(())
}
