//! Rule 13: idle and absolute timeouts, to the millisecond.

use std::time::Duration;

use super::trial::{
    DAY, GRACE, HOUR, MILLI, SECOND, START, TIMEOUTS, Trial, create, ensure, merge, new_id,
    refused, renew_login, sibling_of,
};
use super::{Failure, Suite, Verdict};
use crate::expiry::{Timeouts, Timestamp};
use crate::id::SessionId;
use crate::record::Absence;
use crate::store::{
    Access, Commit, DEFAULT_MAX_DATA_BYTES, Draft, Loaded, Op, Outcome, SessionStore,
};

/// Live a millisecond before `deadline`, over at it, for loads and commits.
async fn over_at(
    trial: &Trial,
    id: SessionId,
    deadline: Timestamp,
    timeouts: Option<Timeouts>,
) -> Verdict {
    let store = trial.store();
    let access = |at| Access { at, timeouts, touch_interval: Duration::ZERO };
    let before = access(deadline.saturating_sub(MILLI));
    let loaded = store.load(&id, &before).await?;
    ensure!(matches!(loaded, Loaded::Live(_)), "a millisecond before its deadline: {loaded:?}");
    for at in [deadline, deadline.saturating_add(DAY), Timestamp::MAX] {
        let loaded = store.load(&id, &access(at)).await?;
        ensure!(
            matches!(loaded, Loaded::Absent(Absence::Expired)),
            "{:?} after its deadline: {loaded:?}",
            at.saturating_since(deadline)
        );
        let commit =
            |op| Commit { id, access: access(at), max_data_bytes: DEFAULT_MAX_DATA_BYTES, op };
        for op in [merge(&[("late", 1)])?, super::trial::renew(sibling_of(id)?)] {
            let absence = refused(&store.commit(commit(op)).await?)?;
            ensure!(absence == Absence::Expired, "a late commit was told {absence:?}");
        }
    }
    let loaded = store.load(&id, &before).await?;
    ensure!(matches!(loaded, Loaded::Live(_)), "being asked too late ended it: {loaded:?}");
    Ok(())
}

async fn created_under(trial: &Trial, timeouts: Timeouts, draft: Draft) -> Verdict<SessionId> {
    let id = new_id()?;
    let access = Access { timeouts: Some(timeouts), ..trial.access() };
    let op = create(draft);
    let max_data_bytes = DEFAULT_MAX_DATA_BYTES;
    super::trial::committed(
        trial.store().commit(Commit { id, access, max_data_bytes, op }).await?,
    )?;
    Ok(id)
}

pub(super) async fn rule_13_now_equal_idle_deadline_is_over(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = trial.create(&[]).await?;
    let deadline = trial.now().saturating_add(TIMEOUTS.idle);
    over_at(&trial, id, deadline, Some(TIMEOUTS)).await?;
    over_at(&trial, id, deadline, None).await
}

pub(super) async fn rule_13_now_equal_absolute_deadline_is_over(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let timeouts = Timeouts::new(DAY, HOUR);
    let id = created_under(&trial, timeouts, Draft::default()).await?;
    let deadline = trial.now().saturating_add(HOUR);
    over_at(&trial, id, deadline, Some(timeouts)).await?;
    over_at(&trial, id, deadline, None).await
}

pub(super) async fn rule_13_activity_moves_the_idle_deadline_only(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = trial.create(&[]).await?;
    for _ in 0..3 {
        trial.clock().advance(TIMEOUTS.idle.saturating_sub(SECOND));
        trial.committed(id, merge(&[("n", 1)])?).await?;
    }
    over_at(&trial, id, trial.now().saturating_add(TIMEOUTS.idle), Some(TIMEOUTS)).await?;
    let absolute = START.saturating_add(TIMEOUTS.absolute);
    while trial.now().saturating_add(TIMEOUTS.idle) < absolute {
        trial.clock().advance(TIMEOUTS.idle.saturating_sub(SECOND));
        trial.committed(id, merge(&[("n", 1)])?).await?;
    }
    over_at(&trial, id, absolute, Some(TIMEOUTS)).await
}

pub(super) async fn rule_13_a_shorter_configured_timeout_wins(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = created_under(&trial, TIMEOUTS, Draft::default()).await?;
    let idle = Timeouts::new(HOUR, TIMEOUTS.absolute);
    over_at(&trial, id, trial.now().saturating_add(HOUR), Some(idle)).await?;
    let absolute = Timeouts::new(TIMEOUTS.idle, 2 * HOUR);
    over_at(&trial, id, trial.now().saturating_add(2 * HOUR), Some(absolute)).await
}

pub(super) async fn rule_13_a_longer_configured_timeout_extends_nothing(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let short = Timeouts::new(HOUR, 2 * HOUR);
    let id = created_under(&trial, short, Draft::default()).await?;
    let created = trial.now();
    over_at(&trial, id, created.saturating_add(HOUR), Some(TIMEOUTS)).await?;
    trial.clock().advance(HOUR.saturating_sub(SECOND));
    let record = trial.committed(id, merge(&[("n", 1)])?).await?;
    ensure!(record.idle_timeout() == HOUR, "a merge extended the idle timeout");
    trial.clock().advance(HOUR.saturating_sub(SECOND));
    trial.committed(id, merge(&[("n", 2)])?).await?;
    over_at(&trial, id, created.saturating_add(2 * HOUR), Some(TIMEOUTS)).await
}

pub(super) async fn rule_13_a_remembered_session_has_its_own_timeouts(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let own = Timeouts::new(20 * DAY, 30 * DAY);
    let remember = Draft { remember: Some(own), ..Draft::default() };
    let at_creation = created_under(&trial, TIMEOUTS, remember.clone()).await?;
    let later = trial.create(&[]).await?;
    let began = trial.now();
    trial.clock().advance(HOUR);
    trial.committed(later, Op::Merge(remember.clone())).await?;
    for (id, seen) in [(at_creation, began), (later, trial.now())] {
        over_at(&trial, id, seen.saturating_add(20 * DAY), Some(TIMEOUTS)).await?;
    }
    trial.clock().advance(15 * DAY);
    let record = trial.committed(later, merge(&[("n", 1)])?).await?;
    ensure!(record.is_remembered(), "a merge forgot the session's own timeouts");
    over_at(&trial, later, began.saturating_add(30 * DAY), Some(TIMEOUTS)).await?;

    let at_login = sibling_of(later)?;
    let login = Op::Renew {
        new_id: at_login,
        draft: remember,
        login: Some(super::trial::login("alice", None)),
        grace: GRACE,
    };
    let record = trial.committed(later, login).await?;
    let absolute = trial.now().saturating_add(own.absolute);
    ensure!(record.absolute_at() == absolute, "the absolute timeout does not count from login");
    let plain = sibling_of(at_login)?;
    let record = trial.committed(at_login, renew_login(plain, "alice")).await?;
    ensure!(!record.is_remembered(), "a later login without `remember` is still remembered");
    over_at(&trial, plain, trial.now().saturating_add(TIMEOUTS.idle), Some(TIMEOUTS)).await
}

/// Instants at the ends of their range, and a clock that runs backwards.
pub(super) async fn rule_15_no_instant_panics(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let instants = [
        Timestamp::MIN,
        Timestamp::from_millis(-1),
        Timestamp::from_millis(0),
        START,
        Timestamp::MAX,
    ];
    let forever = Timeouts::new(Duration::MAX, Duration::MAX);
    for created in instants {
        trial.clock().set(created);
        let remember = Draft { remember: Some(forever), ..Draft::default() };
        let id = created_under(&trial, forever, remember).await?;
        let last = trial.login("alice").await?;
        for now in instants {
            trial.clock().set(now);
            let store = trial.store();
            drop(store.load(&id, &trial.access()).await?);
            store.touch(&id, &trial.access());
            let outcome = trial.commit(id, merge(&[("n", 1)])?).await?;
            ensure!(!matches!(outcome, Outcome::Exists), "a merge was answered {outcome:?}");
            let moved = trial.target(last, true)?;
            drop(trial.commit(last, renew_login(moved, "bob")).await?);
            drop(trial.commit(moved, super::trial::logout()).await?);
            drop(store.sessions_of("alice").await?);
            store.stats().await?;
        }
    }
    Ok(())
}

/// A visitor from before the clock was stepped back can still sign in.
pub(super) async fn rule_15_a_clock_stepped_back_ends_nothing(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = trial.create(&[("n", 1)]).await?;
    trial.clock().set(START.saturating_sub(400 * DAY));
    trial.live(id).await?;
    let seen = trial.committed(id, merge(&[("n", 2)])?).await?.last_seen_at();
    ensure!(seen == START, "a clock stepped back moved the last activity to {seen:?}");
    let new_id = sibling_of(id)?;
    match trial.commit(id, renew_login(new_id, "alice")).await {
        Ok(Outcome::Committed(_)) => {}
        other => return Err(Failure::new(format!("signing in was answered {other:?}"))),
    }
    trial.live(new_id).await?;
    Ok(())
}
