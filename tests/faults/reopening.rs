//! How the store closes a handle that failed and opens the file again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastsession::store::{Freshness, Loaded};
use fastsession::{Clock, RedbStore, SessionStore};

use crate::disk::{Disk, Fault, Plan};
use crate::model::{Action, Lane};
use crate::run::{BACK_WITHIN, START, Scenario, WAIT, fresh_file, quieten_engine};

struct Fixture {
    disk: Disk,
    clock: Clock,
    store: RedbStore,
    lane: Lane,
}

impl Fixture {
    fn new(exclusive: bool) -> Self {
        quieten_engine();
        let disk = Disk::new(fresh_file(exclusive));
        let clock = Clock::manual(START);
        // Without a cache, so that every read reaches the disk.
        let scenario = Scenario { seed: 0, exclusive, rounds: 0, neighbour: false };
        let store = scenario.open(&disk, &clock).unwrap();
        Self { disk, clock, store, lane: Lane::new(1) }
    }

    fn fail(&self, fault: Fault, lasting: bool) {
        self.disk.plan(Plan { from: 0, fault, lasting });
    }

    async fn create(&mut self) -> fastsession::Result<Action> {
        let action = self.lane.create();
        action.run(&self.store, &self.clock).await?;
        Ok(action)
    }

    /// Waits for service.
    async fn come_back(&mut self) {
        let since = Instant::now();
        while let Err(error) = self.create().await {
            assert!(since.elapsed() < BACK_WITHIN, "not back: {error:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_on_a_failing_disk_answers_everybody_at_once() {
    for exclusive in [false, true] {
        let mut fixture = Fixture::new(exclusive);
        fixture.create().await.unwrap();
        fixture.fail(Fault::Io, true);
        let since = Instant::now();
        let mut asked = Vec::new();
        for _ in 0..100 {
            let action = fixture.lane.create();
            let (store, clock) = (fixture.store.clone(), fixture.clock.clone());
            asked.push(tokio::spawn(async move { action.run(&store, &clock).await }));
            tokio::task::yield_now().await;
        }
        fixture.store.touch(&fastsession::SessionId::from_bytes([1; 32]), &access(&fixture.clock));
        let _ = fixture.store.close().await;
        for asked in asked {
            asked.await.unwrap().unwrap_err();
        }
        assert!(since.elapsed() < WAIT / 2, "took {:?}", since.elapsed());
        assert_eq!(fixture.disk.open(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_while_the_file_is_being_reopened_answers_everybody_at_once() {
    for attempt in 0..50 {
        let mut fixture = Fixture::new(attempt % 2 == 0);
        fixture.fail(Fault::Io, true);
        fixture.create().await.unwrap_err();
        let since = Instant::now();
        let mut asked = Vec::new();
        for _ in 0..20 {
            let action = fixture.lane.create();
            let (store, clock) = (fixture.store.clone(), fixture.clock.clone());
            asked.push(tokio::spawn(async move { action.run(&store, &clock).await }));
        }
        let _ = fixture.store.close().await;
        for asked in asked {
            asked.await.unwrap().unwrap_err();
        }
        assert!(since.elapsed() < WAIT / 2, "took {:?}", since.elapsed());
        assert_eq!(fixture.disk.open(), 0);
    }
}

fn access(clock: &Clock) -> fastsession::store::Access {
    fastsession::store::Access::at(clock.now())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_fault_costs_one_reopening_however_many_read() {
    for exclusive in [false, true] {
        let mut fixture = Fixture::new(exclusive);
        let Action::Create { id, .. } = fixture.create().await.unwrap() else { unreachable!() };
        let done = Arc::new(AtomicBool::new(false));
        let mut readers = Vec::new();
        for _ in 0..8 {
            let (store, clock, done) = (fixture.store.clone(), fixture.clock.clone(), done.clone());
            readers.push(tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    let _ = store.load(&id, &access(&clock)).await;
                    tokio::task::yield_now().await;
                }
            }));
        }
        for _ in 0..10 {
            let opened = fixture.disk.opened();
            fixture.fail(Fault::Read, false);
            while fixture.disk.opened() == opened {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            fixture.come_back().await;
            tokio::time::sleep(Duration::from_millis(30)).await;
            assert_eq!(fixture.disk.opened(), opened + 1);
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_a_file_that_took_the_place_of_another_are_its_own() {
    for exclusive in [false, true] {
        let mut fixture = Fixture::new(exclusive);
        let before = fixture.store.keys(Freshness::Current).await.unwrap();
        let other = {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("other.redb");
            let store = RedbStore::open(&path).unwrap();
            store.close().await.unwrap();
            std::fs::read(&path).unwrap()
        };
        fixture.disk.replace(other);
        fixture.fail(Fault::Read, false);
        let _ = fixture.create().await;
        fixture.come_back().await;
        let after = fixture.store.keys(Freshness::Current).await.unwrap();
        assert_eq!(after.version(), before.version(), "else this tests nothing");
        assert_ne!(after.active().id(), before.active().id());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_means_that_no_thread_is_in_the_file_any_more() {
    let mut fixture = Fixture::new(false);
    let Action::Create { id, .. } = fixture.create().await.unwrap() else { unreachable!() };
    tokio::time::sleep(Duration::from_millis(100)).await;
    fixture.disk.slow_down(Duration::from_millis(300));
    // The reading thread is in the middle of beginning a transaction.
    let asked = {
        let (store, clock) = (fixture.store.clone(), fixture.clock.clone());
        tokio::spawn(async move { store.load(&id, &access(&clock)).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    fixture.store.close().await.unwrap();
    assert_eq!(fixture.disk.open(), 0);
    let _ = asked.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_17_one_read_that_fails_anywhere_is_no_absence() {
    for exclusive in [false, true] {
        let mut fixture = Fixture::new(exclusive);
        let Action::Create { id, .. } = fixture.create().await.unwrap() else { unreachable!() };
        // So that its row is not on the page that every table starts with.
        for _ in 0..50 {
            fixture.create().await.unwrap();
        }
        for call in 1..=30 {
            // Neither a lease nor what the last fault left is read from.
            tokio::time::sleep(Duration::from_millis(15)).await;
            let from = fixture.disk.calls() + call;
            fixture.disk.plan(Plan { from, fault: Fault::Read, lasting: false });
            match fixture.store.load(&id, &access(&fixture.clock)).await {
                Ok(loaded) => assert!(matches!(loaded, Loaded::Live(_)), "{loaded:?}"),
                Err(error) => assert!(error.is_unavailable(), "{error:?}"),
            }
            fixture.disk.heal();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_after_an_unknown_outcome_stays_so() {
    let mut unknown = 0;
    for call in 0..60 {
        let mut fixture = Fixture::new(false);
        fixture.create().await.unwrap();
        let from = fixture.disk.calls() + call;
        fixture.disk.plan(Plan { from, fault: Fault::Panic, lasting: false });
        let action = fixture.lane.create();
        let Action::Create { id, .. } = action else { unreachable!() };
        let Err(error) = action.run(&fixture.store, &fixture.clock).await else { continue };
        unknown += u32::from(error.is_unknown_outcome());
        let load = || fixture.store.load(&id, &access(&fixture.clock));
        let read = load().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let Ok(read) = read else { continue };
        let later = load().await.unwrap();
        let lives = |loaded: &Loaded| matches!(loaded, Loaded::Live(_));
        assert_eq!(lives(&read), lives(&later), "call {call}: {error:?}");
    }
    assert!(unknown > 0, "else this tests nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn service_returns_by_itself_after_a_fault_that_lasts() {
    for exclusive in [false, true] {
        let mut fixture = Fixture::new(exclusive);
        fixture.fail(Fault::Io, true);
        let since = Instant::now();
        while since.elapsed() < Duration::from_millis(300) {
            let asked = Instant::now();
            assert!(fixture.create().await.unwrap_err().is_store_failure());
            assert!(asked.elapsed() < WAIT / 4, "nobody waits for a file that does not open");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        fixture.disk.heal();
        fixture.come_back().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_last_clone_writes_down_touches_and_closes() {
    for exclusive in [false, true] {
        let mut fixture = Fixture::new(exclusive);
        let Action::Create { id, .. } = fixture.create().await.unwrap() else { unreachable!() };
        fixture.clock.advance(Duration::from_secs(60));
        fixture.store.touch(&id, &access(&fixture.clock));
        let Fixture { disk, clock, store, .. } = fixture;
        drop(store);
        let since = Instant::now();
        while disk.open() > 0 {
            assert!(since.elapsed() < WAIT, "still open");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let scenario = Scenario { seed: 0, exclusive, rounds: 0, neighbour: false };
        let store = scenario.open(&disk, &clock).unwrap();
        let inspected = store.inspect(&id).await.unwrap().unwrap();
        assert_eq!(inspected.record.last_seen_at(), clock.now());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_19_a_full_disk_does_not_keep_sessions_from_being_read() {
    for exclusive in [false, true] {
        let mut fixture = Fixture::new(exclusive);
        let Action::Create { id, .. } = fixture.create().await.unwrap() else { unreachable!() };
        fixture.fail(Fault::NoSpace, true);
        while fixture.create().await.is_ok() {}
        let refused = Arc::new(AtomicU64::new(0));
        let reader = {
            let (store, clock, refused) =
                (fixture.store.clone(), fixture.clock.clone(), refused.clone());
            tokio::spawn(async move {
                for _ in 0..300 {
                    let loaded = store.load(&id, &access(&clock)).await;
                    refused.fetch_add(u64::from(loaded.is_err()), Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
        };
        let mut failed = 0;
        while !reader.is_finished() {
            if let Err(error) = fixture.create().await {
                assert!(error.is_full() || error.is_unknown_outcome(), "{error:?}");
                failed += 1;
            }
        }
        assert!(failed > 10, "{failed} sign-ins were refused");
        reader.await.unwrap();
        let refused = refused.load(Ordering::Relaxed);
        assert!(refused < 30, "{refused} of 300 reads were refused");
        fixture.disk.heal();
        fixture.come_back().await;
    }
}

/// A refusal for want of room is a definite one.
#[tokio::test(flavor = "multi_thread")]
async fn rule_19_what_a_full_disk_refuses_was_not_done() {
    for exclusive in [false, true] {
        let mut fixture = Fixture::new(exclusive);
        fixture.fail(Fault::NoGrowth, true);
        let mut refused = 0;
        while refused < 20 {
            let action = fixture.lane.create();
            let Action::Create { id, .. } = action else { unreachable!() };
            let Err(error) = action.run(&fixture.store, &fixture.clock).await else { continue };
            assert!(error.is_full() || error.is_unavailable(), "{error:?}");
            refused += 1;
            let loaded = fixture.store.load(&id, &access(&fixture.clock)).await;
            assert!(!matches!(loaded, Ok(Loaded::Live(_))), "{loaded:?}");
        }
    }
}
