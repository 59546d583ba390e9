//! Keys, statistics, timing, closing, and that the caller is never kept waiting.

use super::trial::{DAY, HOUR, SECOND, START, ensure, eventually, merge, number_of, race, racer};
use super::{Failure, Suite, Verdict};
use crate::expiry::Timeouts;
use crate::keyring::{KeyId, KeyRing, KeyState};
use crate::record::EndedBy;
use crate::store::{
    Access, Commit, Draft, End, Filter, Freshness, KeyChange, Loaded, Query, SessionStore, Sweep,
    Target,
};

fn ids_of(ring: &KeyRing) -> Vec<KeyId> {
    ring.keys().map(crate::keyring::Key::id).collect()
}

pub(super) async fn keys_rotate_and_retire(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let first = trial.store().keys(Freshness::Current).await?;
    ensure!(first.keys().count() == 1, "a new store has {} keys", first.keys().count());
    let retire_after = Some(HOUR);
    let rotated = trial.store().change_keys(KeyChange::Rotate { at: START, retire_after }).await?;
    ensure!(rotated.version() > first.version(), "a rotation left the version as it was");
    ensure!(rotated.active().id() != first.active().id(), "a rotation left the active key");
    let former = rotated.get(first.active().id()).map(crate::keyring::Key::state);
    let retiring = matches!(former, Some(KeyState::Retiring { until, .. }) if until == START.saturating_add(HOUR));
    ensure!(retiring, "the former key is {former:?}");
    for store in trial.handles() {
        let ring = store.keys(Freshness::Current).await?;
        ensure!(ids_of(&ring) == ids_of(&rotated), "a handle does not see the rotation");
    }
    let change = KeyChange::Retire { key: first.active().id() };
    let retired = trial.store().change_keys(change).await?;
    ensure!(ids_of(&retired) == [rotated.active().id()], "retired, but {:?}", ids_of(&retired));
    for store in trial.handles() {
        eventually("every handle's recent ring is the current one", || async {
            Ok(ids_of(&store.keys(Freshness::Recent).await?) == ids_of(&retired))
        })
        .await?;
    }
    Ok(())
}

pub(super) async fn keys_are_not_lost_to_a_mistake(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let ring = trial.store().keys(Freshness::Current).await?;
    let active = KeyChange::Retire { key: ring.active().id() };
    match trial.store().change_keys(active).await {
        Err(error) if error.is_invalid() => {}
        other => return Err(Failure::new(format!("retiring the active key: {other:?}"))),
    }
    let mut unknown = *ring.active().id().as_bytes();
    unknown[0] ^= 1;
    let unknown = KeyChange::Retire { key: KeyId::from_bytes(unknown) };
    match trial.store().change_keys(unknown).await {
        Err(error) if error.is_not_found() => {}
        other => return Err(Failure::new(format!("retiring an unknown key: {other:?}"))),
    }
    for _ in 1..KeyRing::MAX_KEYS {
        let rotate = KeyChange::Rotate { at: START, retire_after: Some(DAY) };
        trial.store().change_keys(rotate).await?;
    }
    let full = trial.store().keys(Freshness::Current).await?;
    match trial.store().change_keys(KeyChange::Rotate { at: START, retire_after: Some(DAY) }).await
    {
        Err(error) if error.is_full() => {}
        other => return Err(Failure::new(format!("one key more than fit: {other:?}"))),
    }
    let after = trial.store().keys(Freshness::Current).await?;
    ensure!(ids_of(&after) == ids_of(&full), "a refused rotation changed the ring");
    Ok(())
}

pub(super) async fn keys_rotated_at_once_are_all_kept(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for _ in 0..suite.rounds.min(100) {
        let before = trial.store().keys(Freshness::Current).await?;
        let racers = (0..3).map(|n| {
            let trial = trial.clone();
            racer(async move {
                let rotate = KeyChange::Rotate { at: trial.now(), retire_after: Some(HOUR) };
                Ok(trial.handle(n).change_keys(rotate).await?.active().id())
            })
        });
        let active = race(racers.collect()).await?;
        let ring = trial.store().keys(Freshness::Current).await?;
        ensure!(ring.version() == before.version() + 3, "3 rotations: {}", ring.version());
        for key in active {
            ensure!(ring.get(key).is_some(), "a key that was answered is not in the ring");
        }
        trial.clock().advance(HOUR);
    }
    Ok(())
}

/// Rotating logs nobody out: the former key verifies for the longest idle timeout in use.
pub(super) async fn keys_verify_for_the_longest_idle_timeout(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for (idle, longest) in [(9 * DAY, 9 * DAY), (DAY, 9 * DAY)] {
        let id = super::trial::new_id()?;
        let timeouts = Some(Timeouts::new(idle, 30 * DAY));
        let access = Access { timeouts, touch_interval: 3 * SECOND, ..trial.access() };
        let op = super::trial::create(Draft::default());
        let commit = Commit { id, access, max_data_bytes: 1000, op };
        super::trial::committed(trial.store().commit(commit).await?)?;
        let timing = trial.store().timing().await?;
        ensure!(
            timing.longest_idle == longest && timing.touch_interval == 3 * SECOND,
            "sessions of {idle:?}: {timing:?}"
        );
    }
    let first = trial.store().keys(Freshness::Current).await?.active().id();
    let rotate = KeyChange::Rotate { at: START, retire_after: None };
    let ring = trial.store().change_keys(rotate).await?;
    let former = ring.get(first).map(crate::keyring::Key::state);
    let until = START.saturating_add(9 * DAY);
    let kept = matches!(former, Some(KeyState::Retiring { until: kept, .. }) if kept >= until);
    ensure!(kept, "the former key is {former:?}");
    Ok(())
}

pub(super) async fn stats_count_records(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let empty = trial.store().stats().await?;
    ensure!(empty.records == 0, "an empty store has {} records", empty.records);
    let ids = [trial.create(&[("n", 1)]).await?, trial.login("alice").await?];
    let two = trial.store().stats().await?;
    let mut bytes = 0;
    for id in ids {
        bytes += trial.record(id).await?.map_or(0, |record| record.size_bytes() as u64);
    }
    ensure!(two.records == 2, "2 sessions are {} records", two.records);
    ensure!(two.stored_bytes >= bytes, "{bytes} bytes are called {}", two.stored_bytes);
    trial.committed(ids[0], super::trial::logout()).await?;
    ensure!(trial.store().stats().await?.records == 2, "a kept header does not count");
    trial.clock().advance(DAY);
    trial.store().purge().await?;
    let none = trial.store().stats().await?;
    ensure!(none.records == 0, "{} records after purging", none.records);
    Ok(())
}

pub(super) async fn close_keeps_touches_and_answers(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = trial.create(&[("n", 1)]).await?;
    trial.clock().advance(HOUR);
    trial.store().touch(&id, &trial.access());
    for store in trial.handles() {
        store.close().await?;
    }
    if let Some(store) = trial.reopen()? {
        let found = store.inspect(&id).await?.ok_or_else(|| Failure::new("closed and lost"))?;
        let record = found.record;
        ensure!(number_of(&record, "n") == Some(1), "data was lost in closing");
        ensure!(record.last_seen_at() == trial.now(), "a touch was lost in closing");
        store.close().await?;
    }
    Ok(())
}

pub(super) async fn close_is_final(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = trial.create(&[]).await?;
    let store = trial.store();
    store.close().await?;
    store.close().await?;
    store.touch(&id, &trial.access());
    let (at, access) = (trial.now(), trial.access());
    let op = merge(&[("n", 1)])?;
    let commit = Commit { id, access, max_data_bytes: 1000, op };
    let query = Query { filter: Filter::new(), after: None, limit: 1, at };
    let end = End { target: Target::Everyone, except: None, by: EndedBy::Cli, at };
    let rotate = KeyChange::Rotate { at, retire_after: None };
    let answers = [
        ("load", store.load(&id, &access).await.err()),
        ("commit", store.commit(commit).await.err()),
        ("inspect", store.inspect(&id).await.err()),
        ("page", store.page(&query).await.err()),
        ("end", store.end(end).await.err()),
        ("sweep", store.sweep(Sweep { at, limit: 1, purge: true }).await.err()),
        ("stats", store.stats().await.err()),
        ("timing", store.timing().await.err()),
        ("keys", store.keys(Freshness::Current).await.err()),
        ("change_keys", store.change_keys(rotate).await.err()),
    ];
    for (call, error) in answers {
        let refused = error.as_ref().is_some_and(crate::Error::is_unavailable);
        ensure!(refused, "{call} after closing: {error:?}");
    }
    Ok(())
}

/// An answer that is not awaited, or given up half-way, leaves the store as good as new.
pub(super) async fn contract_08_an_abandoned_call_harms_nothing(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = trial.create(&[("n", 0)]).await?;
    for n in 0..suite.rounds.min(200) {
        let op = merge(&[("n", u64::from(n))])?;
        let commit = Commit { id, access: trial.access(), max_data_bytes: 1000, op };
        let answer = trial.store().commit(commit);
        let brief = std::time::Duration::from_micros(u64::from(n));
        drop(tokio::time::timeout(brief, answer).await);
        drop(trial.store().load(&id, &trial.access()));
    }
    let record = trial.committed(id, merge(&[("last", 1)])?).await?;
    ensure!(record.data().get("n").is_some(), "a key was lost");
    let loaded = trial.store().load(&id, &trial.access()).await?;
    ensure!(matches!(loaded, Loaded::Live(found) if found == record), "not read back");
    Ok(())
}
