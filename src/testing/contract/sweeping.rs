//! Rule 15 and purging: what is over leaves, and nothing else does.

use std::time::Duration;

use super::trial::{
    DAY, GRACE, HOUR, MILLI, TIMEOUTS, Trial, access, ensure, eventually, logout, merge, race_two,
    renew, sibling_of,
};
use super::{Failure, Setup, Suite, Verdict};
use crate::id::SessionId;
use crate::record::{Absence, State};
use crate::store::{SWEEP_DELAY, Selector, SessionStore, Sweep};

fn sweeping() -> Setup {
    Setup { sweep_interval: Duration::from_millis(10), ..Setup::new() }
}

/// Coarse filing by deadline may keep a record a little longer than the hour.
const COARSENESS: Duration = HOUR;

async fn swept(trial: &Trial, id: SessionId) -> Verdict {
    eventually(
        "the store sweeps by itself",
        || async move { Ok(trial.record(id).await?.is_none()) },
    )
    .await
}

/// Long enough for several of the store's own sweeps.
async fn some_sweeps() {
    tokio::time::sleep(Duration::from_millis(80)).await;
}

pub(super) async fn rule_15_the_store_sweeps_by_itself(suite: Suite) -> Verdict {
    let trial = suite.trial_with(&sweeping())?;
    let (visitor, member) = (trial.create(&[("n", 1)]).await?, trial.login("alice").await?);
    let deadline = trial.now().saturating_add(TIMEOUTS.idle);
    trial.clock().set(deadline.saturating_add(SWEEP_DELAY).saturating_sub(MILLI));
    some_sweeps().await;
    for id in [visitor, member] {
        ensure!(trial.state(id).await? == Some(State::Expired), "swept before the hour was over");
    }
    let live = trial.login("alice").await?;
    trial.clock().advance(COARSENESS);
    for id in [visitor, member] {
        swept(&trial, id).await?;
        let absence = trial.absent(id).await?;
        ensure!(absence == Absence::NotFound, "swept, but {absence:?}");
    }
    trial.live(live).await?;
    let listed = trial.store().sessions_of("alice").await?;
    ensure!(listed.len() == 1 && listed[0].id == live, "listed after sweeping: {listed:?}");
    Ok(())
}

pub(super) async fn rule_15_the_store_sweeps_marks_and_headers(suite: Suite) -> Verdict {
    let trial = suite.trial_with(&Setup { keep_ended: 2 * HOUR, ..sweeping() })?;
    let ended = trial.login("alice").await?;
    trial.committed(ended, logout()).await?;
    let by_ending = trial.login("bob").await?;
    trial.store().expire(Selector::user("bob")).await?;
    let renewed = trial.create(&[]).await?;
    let successor = sibling_of(renewed)?;
    trial.committed(renewed, renew(successor)).await?;
    eventually("the rows of an ending of many lose their data", || {
        let trial = &trial;
        async move {
            let record = trial.record(by_ending).await?;
            Ok(record.is_some_and(|record| record.mark() != crate::record::Mark::None))
        }
    })
    .await?;
    trial.clock().advance(GRACE + COARSENESS);
    swept(&trial, renewed).await?;
    for id in [ended, by_ending] {
        ensure!(trial.record(id).await?.is_some(), "a header went too early");
    }
    trial.clock().advance(2 * HOUR + COARSENESS);
    for id in [ended, by_ending] {
        swept(&trial, id).await?;
    }
    trial.live(successor).await?;
    Ok(())
}

pub(super) async fn rule_15_active_sessions_are_not_swept(suite: Suite) -> Verdict {
    let trial = suite.trial_with(&sweeping())?;
    let (touched, merged) = (trial.create(&[]).await?, trial.create(&[]).await?);
    let idle = trial.create(&[]).await?;
    for _ in 0..4 {
        trial.clock().advance(TIMEOUTS.idle.saturating_sub(HOUR));
        trial.store().touch(&touched, &trial.access());
        eventually("a touch is recorded", || {
            let trial = &trial;
            async move {
                let record = trial.record(touched).await?;
                let record = record.ok_or_else(|| Failure::new("a touched session was swept"))?;
                Ok(record.last_seen_at() == trial.now())
            }
        })
        .await?;
        trial.committed(merged, merge(&[("n", 1)])?).await?;
        some_sweeps().await;
    }
    swept(&trial, idle).await?;
    trial.live(touched).await?;
    trial.live(merged).await?;
    // And they leave once they are over.
    trial.clock().advance(TIMEOUTS.idle + SWEEP_DELAY + COARSENESS);
    swept(&trial, touched).await?;
    swept(&trial, merged).await
}

/// A deadline that moved to an earlier instant is honoured.
pub(super) async fn rule_15_a_shortened_session_is_swept(suite: Suite) -> Verdict {
    let trial = suite.trial_with(&sweeping())?;
    let id = trial.create(&[]).await?;
    let own = crate::expiry::Timeouts::new(HOUR, HOUR);
    let shorten = crate::store::Draft { remember: Some(own), ..Default::default() };
    trial.committed(id, crate::store::Op::Merge(shorten)).await?;
    trial.clock().advance(HOUR + SWEEP_DELAY + COARSENESS);
    swept(&trial, id).await
}

pub(super) async fn rule_15_a_clock_stepped_forth_and_back_erases_nothing(suite: Suite) -> Verdict {
    let trial = suite.trial_with(&sweeping())?;
    let id = trial.create(&[("n", 1)]).await?;
    let began = trial.now();
    let deadline = began.saturating_add(TIMEOUTS.idle);
    trial.clock().set(deadline.saturating_add(SWEEP_DELAY).saturating_sub(MILLI));
    some_sweeps().await;
    trial.clock().set(began);
    trial.live(id).await?;
    trial.clock().set(began.saturating_sub(1000 * DAY));
    some_sweeps().await;
    trial.live(id).await?;
    trial.clock().set(crate::expiry::Timestamp::MIN);
    some_sweeps().await;
    trial.clock().set(began);
    trial.live(id).await?;
    let later = trial.create(&[]).await?;
    trial.clock().advance(TIMEOUTS.idle + SWEEP_DELAY + COARSENESS);
    swept(&trial, id).await?;
    swept(&trial, later).await
}

pub(super) async fn purge_removes_exactly_what_is_over(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let expired = trial.login("alice").await?;
    trial.clock().advance(TIMEOUTS.idle);
    let ended = trial.login("alice").await?;
    trial.committed(ended, logout()).await?;
    let by_ending = [trial.login("bob").await?, trial.login("bob").await?];
    trial.store().expire(Selector::user("bob")).await?;
    let renewed = trial.create(&[]).await?;
    let successor = sibling_of(renewed)?;
    trial.committed(renewed, renew(successor)).await?;
    trial.clock().advance(GRACE);
    let live = [successor, trial.login("alice").await?, trial.login("bob").await?];
    let purged = trial.store().purge().await?.purged;
    ensure!(purged == 5, "5 records were over, {purged} were removed");
    for id in [expired, ended, by_ending[0], by_ending[1], renewed] {
        ensure!(trial.record(id).await?.is_none(), "a record that is over was left");
    }
    for id in live {
        trial.live(id).await?;
    }
    let again = trial.store().purge().await?.purged;
    ensure!(again == 0, "a second purge removed {again} more");
    ensure!(trial.store().stats().await?.records == 3, "not 3 records are left");
    Ok(())
}

/// A mark that a request running now may depend on stays until its time is over.
pub(super) async fn purge_leaves_marks_in_grace(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let (ended, renewed) = (trial.create(&[]).await?, trial.create(&[]).await?);
    trial.committed(ended, logout()).await?;
    let successor = sibling_of(renewed)?;
    trial.committed(renewed, renew(successor)).await?;
    trial.clock().advance(GRACE.saturating_sub(MILLI));
    let purged = trial.store().purge().await?.purged;
    ensure!(purged == 0, "{purged} marks in grace were purged");
    let absence = trial.absent(renewed).await?;
    ensure!(absence == Absence::Superseded { successor }, "a mark in grace became {absence:?}");
    let absence = trial.absent(ended).await?;
    ensure!(
        matches!(absence, Absence::Ended { concurrent: true, .. }),
        "a mark in grace became {absence:?}"
    );
    trial.clock().advance(MILLI);
    let purged = trial.store().purge().await?.purged;
    ensure!(purged == 2, "after grace {purged} of 2 marks were purged");
    Ok(())
}

pub(super) async fn purge_never_ends_a_live_session(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let mut live = Vec::new();
    for n in 0..20 {
        live.push(trial.login(&format!("user-{}", n % 3)).await?);
        live.push(trial.create(&[("n", n)]).await?);
    }
    trial.clock().advance(TIMEOUTS.idle.saturating_sub(MILLI));
    // The last one was active in time, though it is filed under its first deadline.
    let active = live[0];
    trial.committed(active, merge(&[("n", 1)])?).await?;
    let purged = trial.store().purge().await?.purged;
    ensure!(purged == 0, "a millisecond before their deadline {purged} were purged");
    for id in &live {
        trial.live(*id).await?;
    }
    trial.clock().advance(MILLI);
    let purged = trial.store().purge().await?.purged;
    ensure!(purged == 39, "at their deadline {purged} of 39 were purged");
    trial.live(active).await?;
    trial.clock().advance(TIMEOUTS.idle.saturating_sub(MILLI));
    let purged = trial.store().purge().await?.purged;
    ensure!(purged == 1, "the last one, filed anew, was not purged");
    Ok(())
}

/// Small steps come to an end, whatever else goes on.
pub(super) async fn purge_comes_to_an_end(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for n in 0..30_u32 {
        let id = trial.login(&format!("user-{}", n % 2)).await?;
        if n % 3 == 0 {
            trial.committed(id, logout()).await?;
        }
    }
    trial.store().expire(Selector::user("user-0")).await?;
    trial.clock().advance(GRACE);
    let kept = trial.login("user-0").await?;
    let racing = trial.clone();
    let at = trial.now();
    let (removed, ()) = race_two(
        {
            let trial = trial.clone();
            async move {
                let mut removed = 0;
                for _ in 0..10_000 {
                    let swept = trial.handle(0).sweep(Sweep { at, limit: 1, purge: true }).await?;
                    removed += swept.removed;
                    if !swept.more {
                        return Ok(removed);
                    }
                }
                Err(Failure::new("purging comes to no end"))
            }
        },
        async move {
            for n in 0..20 {
                let op = merge(&[("n", n)])?;
                super::trial::committed(racing.commit_on(1, kept, op).await?)?;
                racing.handle(1).touch(&kept, &access(racing.now()));
            }
            Ok(())
        },
    )
    .await?;
    // 15 of user-0, and the 5 of user-1 that logged out.
    ensure!(removed == 20, "20 were over, {removed} were removed");
    trial.live(kept).await?;
    Ok(())
}

/// However many rows a step may remove, a purge of many takes exactly those that are over, and a
/// user's sessions are listed throughout.
pub(super) async fn purge_of_many_takes_exactly_what_is_over(suite: Suite) -> Verdict {
    for limit in [7, 100, 100_000] {
        let trial = suite.trial()?;
        let user = |n: u64| format!("user-{}", n % 5);
        let (mut idle, mut active) = (Vec::new(), Vec::new());
        for n in 0..200_u64 {
            let id =
                if n % 4 == 0 { trial.create(&[]).await? } else { trial.login(&user(n)).await? };
            if n % 3 == 0 { active.push(id) } else { idle.push(id) }
        }
        trial.clock().advance(TIMEOUTS.idle.saturating_sub(MILLI));
        for id in &active {
            trial.committed(*id, merge(&[("n", 1)])?).await?;
        }
        trial.clock().advance(MILLI);
        let at = trial.now();
        let (mut removed, mut steps) = (0, 0);
        while {
            let swept = trial.store().sweep(Sweep { at, limit, purge: true }).await?;
            removed += swept.removed;
            steps += 1;
            swept.more
        } {
            ensure!(steps < 10_000, "purging comes to no end");
            for n in 0..5 {
                let listed = trial.store().sessions_of(&user(n)).await?;
                let live = |id| active.contains(id) || idle.contains(id);
                ensure!(listed.iter().all(|session| live(&session.id)), "listed {listed:?}");
            }
        }
        let over = idle.len() as u64;
        ensure!(removed == over, "in steps of {limit}: {over} were over, {removed} were removed");
        for id in &active {
            trial.live(*id).await?;
        }
        for id in &idle {
            ensure!(trial.record(*id).await?.is_none(), "a record that is over was left");
        }
        let mut listed = 0;
        for n in 0..5 {
            listed += trial.store().sessions_of(&user(n)).await?.len();
        }
        let signed_in = 200_usize.div_ceil(3) - 200_usize.div_ceil(12);
        ensure!(listed == signed_in, "{listed} of {signed_in} live sessions are listed by user");
        let records = trial.store().stats().await?.records;
        ensure!(records == active.len() as u64, "{records} records are left");
    }
    Ok(())
}

/// Sessions that are created, merged and renewed while a purge runs are all there afterwards.
pub(super) async fn purge_beside_traffic_takes_nothing_live(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for round in 0..suite.rounds / 4 {
        for _ in 0..3 {
            let id = trial.create(&[]).await?;
            trial
                .committed(
                    id,
                    crate::store::Op::End {
                        by: crate::record::EndedBy::Application,
                        grace: Duration::ZERO,
                    },
                )
                .await?;
        }
        let (one, other) = (trial.clone(), trial.clone());
        let (_, live) = race_two(async move { Ok(one.handle(0).purge().await?) }, async move {
            let id = super::trial::new_id()?;
            super::trial::committed(
                other.commit_on(1, id, super::trial::create_login("alice", None)).await?,
            )?;
            super::trial::committed(other.commit_on(1, id, merge(&[("n", 1)])?).await?)?;
            let next = sibling_of(id)?;
            super::trial::committed(other.commit_on(1, id, renew(next)).await?)?;
            Ok(next)
        })
        .await?;
        ensure!(trial.is_live(live).await?, "round {round}: a live session was purged");
        let listed = trial.store().sessions_of("alice").await?;
        ensure!(listed.len() == 1 && listed[0].id == live, "round {round}: listed {listed:?}");
        trial.committed(live, logout()).await?;
        trial.clock().advance(GRACE);
    }
    Ok(())
}
