//! Rule 11: ending sessions of a user, of everyone, by ID and by filter.

use super::trial::{
    HOUR, Trial, create_login, ensure, is_committed, login, merge, new_id, race, race_two, racer,
    refused, renew_login, sibling_of,
};
use super::{Failure, Suite, Verdict};
use crate::id::SessionId;
use crate::record::EndedBy;
use crate::store::{Draft, End, Filter, Op, Selector, SessionStore, Target};

pub(super) async fn live_of(trial: &Trial, user: &str) -> Verdict<Vec<SessionId>> {
    let found = trial.store().sessions_of(user).await?;
    Ok(found.into_iter().map(|session| session.id).collect())
}

pub(super) async fn rule_11_sessions_of_a_user_are_listed(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let mut expected = Vec::new();
    for _ in 0..5 {
        expected.push(trial.login("alice").await?);
        trial.login("bob").await?;
        trial.create(&[]).await?;
    }
    let over = expected.pop().ok_or_else(|| Failure::new("nothing was created"))?;
    trial.committed(over, super::trial::logout()).await?;
    let renewed = expected.pop().ok_or_else(|| Failure::new("nothing was created"))?;
    let new_id = sibling_of(renewed)?;
    trial.committed(renewed, renew_login(new_id, "bob")).await?;
    expected.sort_unstable();
    let listed = live_of(&trial, "alice").await?;
    ensure!(listed == expected, "alice has {expected:?}, listed are {listed:?}");
    let of_bob = live_of(&trial, "bob").await?;
    ensure!(of_bob.len() == 6 && of_bob.contains(&new_id), "bob's: {of_bob:?}");
    ensure!(live_of(&trial, "nobody").await?.is_empty(), "nobody has sessions");
    Ok(())
}

pub(super) async fn rule_11_a_user_is_ended_and_nobody_else(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let (one, two) = (trial.login("alice").await?, trial.login("alice").await?);
    let (bob, visitor) = (trial.login("bob").await?, trial.create(&[]).await?);
    let expired = trial.store().expire(Selector::user("alice")).await?;
    ensure!(expired.ended == Some(2), "ended {:?} of 2", expired.ended);
    for id in [one, two] {
        ensure!(super::trial::is_ended(trial.absent(id).await?), "not known as ended");
    }
    for id in [bob, visitor] {
        trial.live(id).await?;
    }
    let later = trial.login("alice").await?;
    trial.live(later).await?;
    trial.sweep().await?;
    trial.live(later).await?;
    ensure!(live_of(&trial, "alice").await? == [later], "the later login is not listed alone");
    Ok(())
}

pub(super) async fn rule_11_everyone_is_ended(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let mut before = vec![trial.create(&[]).await?];
    for user in ["alice", "bob"] {
        before.push(trial.login(user).await?);
    }
    trial.store().expire(Selector::everyone()).await?;
    let later = [trial.create(&[]).await?, trial.login("alice").await?];
    for _ in 0..2 {
        for id in &before {
            ensure!(super::trial::is_ended(trial.absent(*id).await?), "not known as ended");
        }
        for id in later {
            trial.live(id).await?;
        }
        trial.sweep().await?;
    }
    Ok(())
}

/// Commits compare the generation, too: not only loads.
pub(super) async fn rule_11_an_ending_of_many_refuses_commits(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for everyone in [false, true] {
        let id = trial.login("alice").await?;
        let selector = if everyone { Selector::everyone() } else { Selector::user("alice") };
        trial.store().expire(selector).await?;
        let new_id = sibling_of(id)?;
        let ops = [
            merge(&[("late", 1)])?,
            super::trial::compare_and_set("late", None, 1),
            renew_login(new_id, "alice"),
            super::trial::logout(),
        ];
        for handle in 0..2 {
            for op in &ops {
                let absence = refused(&trial.commit_on(handle, id, op.clone()).await?)?;
                ensure!(super::trial::is_ended(absence), "a late commit was told {absence:?}");
            }
        }
        ensure!(trial.record(new_id).await?.is_none(), "a late renewal left a session");
    }
    Ok(())
}

pub(super) async fn rule_11_one_session_is_spared(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for everyone in [false, true] {
        let own = trial.login("alice").await?;
        trial.committed(own, merge(&[("n", 1)])?).await?;
        let other = trial.login("alice").await?;
        let selector = if everyone { Selector::everyone() } else { Selector::user("alice") };
        trial.store().expire(selector.except(own)).await?;
        for _ in 0..2 {
            let record = trial.live(own).await?;
            ensure!(super::trial::number_of(&record, "n") == Some(1), "the spared one lost data");
            trial.absent(other).await?;
            trial.sweep().await?;
        }
        trial.committed(own, merge(&[("n", 2)])?).await?;
        ensure!(live_of(&trial, "alice").await? == [own], "the spared one is not listed alone");
        trial.committed(own, super::trial::logout()).await?;
    }
    Ok(())
}

/// A session that is over is not brought back by being spared.
pub(super) async fn rule_11_sparing_revives_nothing(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = trial.login("alice").await?;
    trial.store().expire(Selector::user("alice")).await?;
    trial.store().expire(Selector::user("alice").except(id)).await?;
    trial.absent(id).await?;
    trial.store().expire(Selector::everyone().except(id)).await?;
    trial.absent(id).await?;
    trial.sweep().await?;
    trial.absent(id).await?;
    Ok(())
}

/// While all others are ended, whoever does so sees their own session all the time.
pub(super) async fn rule_11_the_spared_session_is_never_absent(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let own = trial.login("alice").await?;
    for round in 0..suite.rounds {
        let (one, other) = (trial.clone(), trial.clone());
        race_two(
            async move {
                let selector = Selector::user("alice").except(own);
                Ok(one.handle(0).expire(selector).await?)
            },
            async move {
                for _ in 0..4 {
                    let loaded = other.handle(1).load(&own, &other.access()).await?;
                    let live = matches!(loaded, crate::store::Loaded::Live(_));
                    ensure!(live, "round {round}: the spared session was told {loaded:?}");
                    ensure!(other.is_live(own).await?, "round {round}: inspect found it over");
                    let listed = other.handle(1).sessions_of("alice").await?;
                    ensure!(listed.len() == 1, "round {round}: the spared session is not listed");
                }
                Ok(())
            },
        )
        .await?;
        if round % 16 == 0 {
            trial.sweep().await?;
        }
    }
    Ok(())
}

/// A login beside an ending is before it, and over, or after it, and stays.
pub(super) async fn rule_11_racing_logins_are_before_or_after(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for round in 0..suite.rounds {
        let user = format!("user-{round}");
        let before = trial.login(&user).await?;
        let visitor = trial.create(&[]).await?;
        let (created, renewed) = (new_id()?, sibling_of(visitor)?);
        let target = if round % 2 == 0 { Target::User((*user).into()) } else { Target::Everyone };
        let end = End { target, except: None, by: EndedBy::Application, at: trial.now() };
        let (one, two, three) = (trial.clone(), trial.clone(), trial.clone());
        let (first, second) = (create_login(&user, None), renew_login(renewed, &user));
        race(vec![
            racer(async move { Ok(one.handle(0).end(end).await.map(drop)?) }),
            racer(async move { Ok(two.commit_on(1, created, first).await.map(drop)?) }),
            racer(async move { Ok(three.commit_on(0, visitor, second).await.map(drop)?) }),
        ])
        .await?;
        ensure!(!trial.is_live(before).await?, "round {round}: an earlier session survived");
        let mut live = Vec::new();
        for id in [created, renewed] {
            if trial.is_live(id).await? {
                live.push(id);
                trial.committed(id, merge(&[("n", 1)])?).await?;
            } else {
                refused(&trial.commit(id, merge(&[("n", 1)])?).await?)?;
            }
        }
        live.sort_unstable();
        let listed = live_of(&trial, &user).await?;
        ensure!(listed == live, "round {round}: {live:?} live, {listed:?} are listed");
        if round % 16 == 0 {
            trial.sweep().await?;
            let listed = live_of(&trial, &user).await?;
            ensure!(listed == live, "round {round}: swept, {live:?} became {listed:?}");
        }
    }
    Ok(())
}

/// What remains to be done of one ending must not undo the next.
pub(super) async fn rule_11_sweeping_beside_endings_revives_nothing(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for round in 0..suite.rounds {
        let user = format!("user-{round}");
        for _ in 0..3 {
            trial.login(&user).await?;
        }
        trial.store().expire(Selector::user(&*user)).await?;
        let (one, other, name) = (trial.clone(), trial.clone(), user.clone());
        race_two(async move { one.sweep().await }, async move {
            for n in 0..3 {
                let id = new_id()?;
                super::trial::committed(other.commit_on(n, id, create_login(&name, None)).await?)?;
                let target = Target::User((*name).into());
                let by = EndedBy::Application;
                other.handle(n).end(End { target, except: None, by, at: other.now() }).await?;
            }
            Ok(())
        })
        .await?;
        let left = live_of(&trial, &user).await?;
        ensure!(left.is_empty(), "round {round}: {} ended sessions live again", left.len());
        trial.sweep().await?;
        let left = live_of(&trial, &user).await?;
        ensure!(left.is_empty(), "round {round}: swept, {} sessions live again", left.len());
    }
    Ok(())
}

pub(super) async fn rule_11_ids_are_counted(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let (live, over) = (trial.create(&[]).await?, trial.create(&[]).await?);
    trial.committed(over, super::trial::logout()).await?;
    let spared = trial.create(&[]).await?;
    let selector = Selector::ids([live, over, new_id()?, spared]).except(spared);
    let expired = trial.store().expire(selector).await?;
    ensure!(
        expired.ended == Some(1) && expired.already_over == 1,
        "one live, one over, one unknown: {expired:?}"
    );
    trial.absent(live).await?;
    trial.live(spared).await?;
    Ok(())
}

pub(super) async fn rule_11_filters_are_checked_again(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = trial.create(&[]).await?;
    let target = Target::Sessions { ids: vec![id], filter: Filter::new().user("alice") };
    let end = End { target, except: None, by: EndedBy::Cli, at: trial.now() };
    let report = trial.store().end(end.clone()).await?;
    ensure!(report.ended == 0 && trial.is_live(id).await?, "it does not match: {report:?}");
    let new_id = sibling_of(id)?;
    trial.committed(id, renew_login(new_id, "alice")).await?;
    let target = Target::Sessions { ids: vec![new_id], filter: Filter::new().user("alice") };
    let report = trial.store().end(End { target, ..end }).await?;
    ensure!(report.ended == 1 && !trial.is_live(new_id).await?, "it matches: {report:?}");
    Ok(())
}

/// Someone who signs in while visitors are being ended keeps the session.
pub(super) async fn rule_11_filters_spare_who_signs_in_meanwhile(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for round in 0..suite.rounds {
        let id = trial.create(&[]).await?;
        let new_id = sibling_of(id)?;
        let (one, other) = (trial.clone(), trial.clone());
        let target = Target::Sessions { ids: vec![id, new_id], filter: Filter::new().anonymous() };
        let end = End { target, except: None, by: EndedBy::Cli, at: trial.now() };
        let (report, outcome) =
            race_two(async move { Ok(one.handle(0).end(end).await?) }, async move {
                Ok(other.commit_on(1, id, renew_login(new_id, "alice")).await?)
            })
            .await?;
        let signed_in = is_committed(&outcome);
        ensure!(
            trial.is_live(new_id).await? == signed_in,
            "round {round}: signed in {signed_in}, but {report:?}"
        );
        ensure!(report.ended == u64::from(!signed_in), "round {round}: {report:?}");
    }
    Ok(())
}

pub(super) async fn rule_11_filters_end_what_matches(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let old = trial.login("alice").await?;
    trial.clock().advance(HOUR);
    let fresh = trial.login("alice").await?;
    let visitor = trial.create(&[]).await?;
    let spared = new_id()?;
    let op = Op::Create {
        realm: Some("admin".into()),
        draft: Draft::default(),
        login: Some(login("root", None)),
    };
    trial.committed(spared, op.clone()).await?;
    let admin = new_id()?;
    trial.committed(admin, op).await?;
    let filters = [
        (Filter::new().user("alice").created_before(trial.now()), vec![old]),
        (Filter::new().anonymous(), vec![visitor]),
        (Filter::new().realm("admin").except(spared), vec![admin]),
    ];
    for (filter, expected) in filters {
        let expired = trial.store().expire(Selector::filter(filter.clone())).await?;
        ensure!(expired.ended == Some(expected.len() as u64), "{filter:?} ended {expired:?}");
        for id in expected {
            trial.absent(id).await?;
        }
    }
    for id in [fresh, spared] {
        trial.live(id).await?;
    }
    Ok(())
}
