//! Rule 11: the most sessions one user may have.

use super::expiring::live_of;
use super::trial::{
    DAY, SECOND, TIMEOUTS, Trial, create_login, draft, ensure, is_committed, login, merge, new_id,
    race, race_two, racer, sibling_of,
};
use super::{Failure, Suite, Verdict};
use crate::error::Result;
use crate::id::SessionId;
use crate::record::{Absence, Data, EndedBy, Header, Record};
use crate::store::{Draft, Import, Op, Outcome, Selector, SessionCap, SessionStore};

/// More sessions than a login under a small cap looks at.
const CROWD: usize = SessionCap::LOOKED_AT * 3 / 2;

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

/// A crowd of live sessions of `user`.
async fn crowd(trial: &Trial, user: &str) -> Verdict<Vec<SessionId>> {
    let mut header = Header::new(trial.now(), &TIMEOUTS);
    header.user = Some(user.into());
    header.authenticated_at = Some(trial.now());
    header.refile();
    let record = Record::new(&header, Data::EMPTY)?;
    let ids = (0..CROWD).map(|_| new_id()).collect::<Verdict<Vec<_>>>()?;
    for some in ids.chunks(256) {
        let records = some.iter().map(|id| (*id, record.clone())).collect();
        let done = trial.store().import(Import { records }).await?;
        ensure!(done.imported == some.len() as u64, "not all were imported: {done:?}");
    }
    Ok(ids)
}

/// An ID behind nearly all others, where whoever looks at so many and no more gets last.
fn late_id() -> Verdict<SessionId> {
    let mut bytes = *new_id()?.as_bytes();
    bytes[0] |= 0xf0;
    Ok(SessionId::from_bytes(bytes))
}

/// Ended sessions take none of the room in which a login looks for live ones.
pub(super) async fn rule_11_a_cap_holds_beside_many_ended_sessions(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let ended = crowd(&trial, "alice").await?;
    let expired = trial.store().expire(Selector::ids(ended)).await?;
    ensure!(expired.ended == Some(CROWD as u64), "ended {:?} of {CROWD}", expired.ended);
    let refuse = || create_login("alice", Some(SessionCap::refuse_new(1)));
    let live = late_id()?;
    trial.committed(live, refuse()).await?;
    match trial.commit(late_id()?, refuse()).await {
        Err(error) if error.is_too_many_sessions() => {}
        other => return Err(Failure::new(format!("the second of one: {other:?}"))),
    }
    let end_oldest = || create_login("alice", Some(SessionCap::end_oldest(1)));
    let latest = late_id()?;
    trial.committed(latest, end_oldest()).await?;
    match trial.absent(live).await? {
        Absence::Ended { by: EndedBy::Cap, .. } => {}
        other => return Err(Failure::new(format!("the older of two, one allowed: {other:?}"))),
    }
    ensure!(live_of(&trial, "alice").await? == [latest], "not one session is live");
    let expired = trial.store().expire(Selector::user("alice")).await?;
    ensure!(expired.ended == Some(1), "ended {:?} of the one", expired.ended);
    trial.sweep().await?;
    match trial.absent(latest).await? {
        Absence::Ended { by: EndedBy::Application, .. } => {}
        other => return Err(Failure::new(format!("the last one: {other:?}"))),
    }
    Ok(())
}

/// Who has more sessions than a login looks at, from before there was a cap, is held to it in a
/// few logins.
pub(super) async fn rule_11_a_cap_comes_to_hold_for_a_crowd(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let mut before = crowd(&trial, "alice").await?.len();
    let bob = trial.login("bob").await?;
    let refused = capped(&trial, 0, "alice", SessionCap::refuse_new(2)).await;
    ensure!(
        refused.as_ref().is_err_and(crate::error::Error::is_too_many_sessions),
        "one more than {before}, 2 allowed: {refused:?}"
    );
    while before > 2 {
        trial.clock().advance(SECOND);
        let id = new_id()?;
        trial.committed(id, create_login("alice", Some(SessionCap::end_oldest(2)))).await?;
        trial.live(id).await?;
        let live = live_of(&trial, "alice").await?.len();
        ensure!(live < before, "there were {before} sessions, and a login left {live} of them");
        before = live;
    }
    ensure!(before == 2, "{before} sessions are live, 2 are allowed");
    trial.live(bob).await?;
    Ok(())
}
