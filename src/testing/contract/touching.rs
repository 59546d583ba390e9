//! Rule 14: a touch records activity and nothing else.

use super::trial::{
    DAY, HOUR, MILLI, SECOND, TIMEOUTS, Trial, access, committed, compare_and_set, ensure,
    eventually, logout, merge, merge_unseen, number_of, race_two, renew, sibling_of,
};
use super::{Failure, Suite, Verdict};
use crate::expiry::Timestamp;
use crate::id::SessionId;
use crate::record::{Record, State};
use crate::store::{
    Access, Commit, DEFAULT_MAX_DATA_BYTES, Draft, Filter, Loaded, Op, Query, Selector,
    SessionStore,
};

async fn seen_at(trial: &Trial, id: SessionId, at: Timestamp) -> Verdict<Record> {
    eventually("a touch is recorded", || async move {
        Ok(trial.record(id).await?.is_some_and(|record| record.last_seen_at() == at))
    })
    .await?;
    trial.record(id).await?.ok_or_else(|| Failure::new("it is gone"))
}

/// Waits until every touch made so far has been carried out, in the order they came in.
async fn touches_done(trial: &Trial) -> Verdict {
    let sentinel = trial.create(&[]).await?;
    let at = trial.now().saturating_add(MILLI);
    trial.store().touch(&sentinel, &access(at));
    seen_at(trial, sentinel, at).await?;
    Ok(())
}

pub(super) async fn rule_14_a_touch_moves_last_seen_only(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = trial.login("alice").await?;
    let before = trial.committed(id, merge(&[("n", 1)])?).await?;
    trial.clock().advance(HOUR);
    trial.store().touch(&id, &trial.access());
    let after = seen_at(&trial, id, trial.now()).await?;
    let mut expected = before.header();
    expected.last_seen_at = trial.now();
    expected.bucket = after.bucket();
    ensure!(after.header() == expected, "{before:?} became {after:?}");
    ensure!(after.data() == before.data(), "a touch rewrote data");
    trial.clock().advance(TIMEOUTS.idle.saturating_sub(MILLI));
    trial.live(id).await?;
    Ok(())
}

pub(super) async fn rule_14_a_touch_never_runs_backwards(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = trial.create(&[]).await?;
    let seen = trial.now();
    trial.store().touch(&id, &access(seen.saturating_sub(HOUR)));
    touches_done(&trial).await?;
    let record = trial.live(id).await?;
    ensure!(record.last_seen_at() == seen, "last seen moved to {:?}", record.last_seen_at());
    Ok(())
}

pub(super) async fn rule_14_a_touch_revives_nothing(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let expired = trial.create(&[]).await?;
    trial.clock().advance(TIMEOUTS.idle);
    let ended = trial.create(&[]).await?;
    trial.committed(ended, logout()).await?;
    let renewed = trial.create(&[]).await?;
    trial.committed(renewed, renew(sibling_of(renewed)?)).await?;
    let by_ending = trial.login("alice").await?;
    trial.store().expire(Selector::user("alice")).await?;
    let unknown = super::trial::new_id()?;
    let all = [expired, ended, renewed, by_ending, unknown];
    for id in &all {
        trial.store().touch(id, &trial.access());
        trial.store().touch(id, &Access::at(trial.now().saturating_add(SECOND)));
    }
    touches_done(&trial).await?;
    let states = [
        Some(State::Expired),
        Some(State::Ended),
        Some(State::Superseded),
        Some(State::Ended),
        None,
    ];
    for (id, expected) in all.into_iter().zip(states) {
        let state = trial.state(id).await?;
        ensure!(state == expected, "touched, {expected:?} became {state:?}");
        trial.absent(id).await?;
    }
    Ok(())
}

/// A deadline of the layer that asks counts, too.
pub(super) async fn rule_14_a_touch_keeps_to_configured_timeouts(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = trial.create(&[]).await?;
    let seen = trial.now();
    trial.clock().advance(HOUR);
    let short = crate::expiry::Timeouts::new(HOUR, DAY);
    let over = Access { timeouts: Some(short), ..trial.access() };
    trial.store().touch(&id, &over);
    touches_done(&trial).await?;
    let record = trial.record(id).await?.ok_or_else(|| Failure::new("it is gone"))?;
    ensure!(record.last_seen_at() == seen, "a session that is over was touched");
    Ok(())
}

/// A background job keeps nobody's session alive.
pub(super) async fn rule_14_what_is_merged_without_a_layer_is_no_activity(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let label = Draft { label: Some(Some("job".into())), ..Draft::default() };
    for op in [
        merge(&[("n", 1)])?,
        merge_unseen(None, &[("n", 1)])?,
        compare_and_set("n", Some(0), 1),
        Op::Merge(label),
    ] {
        let id = trial.create(&[("n", 0)]).await?;
        let before = trial.live(id).await?;
        trial.clock().advance(HOUR);
        let access = Access::at(trial.now());
        let max_data_bytes = DEFAULT_MAX_DATA_BYTES;
        let commit = Commit { id, access, max_data_bytes, op: op.clone() };
        committed(trial.store().commit(commit).await?)?;
        let after = trial.live(id).await?;
        ensure!(after.version() == before.version() + 1, "it was not committed: {after:?}");
        ensure!(
            (after.last_seen_at(), after.expires_at())
                == (before.last_seen_at(), before.expires_at()),
            "{op:?} without a layer moved {before:?} to {after:?}"
        );
        let after = trial.committed(id, merge(&[("m", 1)])?).await?;
        ensure!(after.last_seen_at() == trial.now(), "that of a layer is activity: {after:?}");
    }
    Ok(())
}

pub(super) async fn rule_14_a_touch_loses_no_concurrent_merge(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for round in 0..suite.rounds {
        let id = trial.create(&[("n", 0)]).await?;
        let seen = trial.now().saturating_add(SECOND);
        let (one, other) = (trial.clone(), trial.clone());
        race_two(
            async move {
                for _ in 0..4 {
                    one.handle(0).touch(&id, &access(seen));
                    tokio::task::yield_now().await;
                }
                Ok(())
            },
            async move {
                for n in 1..=4 {
                    super::trial::committed(other.commit_on(1, id, merge(&[("n", n)])?).await?)?;
                }
                Ok(())
            },
        )
        .await?;
        if round % 100 == 0 {
            touches_done(&trial).await?;
        }
        let record = trial.record(id).await?.ok_or_else(|| Failure::new("it is gone"))?;
        let last = number_of(&record, "n");
        ensure!(last == Some(4), "round {round}: a touch brought {last:?} back");
        ensure!(record.version() == 5, "round {round}: version {}", record.version());
    }
    Ok(())
}

/// Whoever selects by idleness allows for activity that was not recorded yet.
pub(super) async fn rule_14_idle_filters_allow_for_the_touch_interval(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = trial.create(&[]).await?;
    let seen = trial.now();
    let interval = 5 * 60 * SECOND;
    // A layer makes itself known with what it commits.
    let other = super::trial::new_id()?;
    let commit = crate::store::Commit {
        id: other,
        access: Access { touch_interval: interval, ..trial.access() },
        max_data_bytes: 1000,
        op: super::trial::create(crate::store::Draft::default()),
    };
    super::trial::committed(trial.store().commit(commit).await?)?;
    let timing = trial.store().timing().await?;
    ensure!(timing.touch_interval == interval, "the touch interval is {timing:?}");
    trial.clock().advance(HOUR);
    let selected = |since: Timestamp| {
        let trial = &trial;
        async move {
            let query = Query {
                filter: Filter::new().idle_since(since),
                after: None,
                limit: 10,
                at: trial.now(),
            };
            let page = trial.store().page(&query).await?;
            Ok::<_, Failure>(page.sessions.iter().any(|session| session.id == id))
        }
    };
    let until = seen.saturating_add(interval);
    ensure!(!selected(until).await?, "someone who may have been active was selected");
    ensure!(selected(until.saturating_add(MILLI)).await?, "an idle one was not selected");
    let early = Filter::new().idle_since(until);
    let ended = trial.store().expire(Selector::filter(early)).await?.ended;
    ensure!(ended == Some(0), "someone who may have been active was ended");
    let idle = Filter::new().idle_since(until.saturating_add(MILLI));
    let ended = trial.store().expire(Selector::filter(idle)).await?.ended;
    ensure!(ended == Some(2), "{ended:?} of 2 idle ones were ended");
    let loaded = trial.store().load(&id, &trial.access()).await?;
    ensure!(matches!(loaded, Loaded::Absent(_)), "an idle one was not ended");
    Ok(())
}
