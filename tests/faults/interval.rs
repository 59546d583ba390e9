//! `Durability::Interval`: what a power cut may take, and what it may not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastsession::{Clock, Durability, RedbStore, SessionId, SessionStore};

use crate::disk::{Call, Disk};
use crate::model::{self, Action, World};
use crate::random::Random;
use crate::run::{START, WAIT, fresh_file};

fn open(disk: &Disk, interval: Duration) -> RedbStore {
    let disk = disk.clone();
    RedbStore::builder("memory")
        .storage(move || Ok(disk.handle()))
        .exclusive()
        .durability(Durability::Interval(interval))
        .clock(Clock::manual(START))
        .without_sweeping()
        .open()
        .unwrap()
}

fn id(number: u8) -> SessionId {
    SessionId::from_bytes([number; 32])
}

/// What is read after a power cut now.
async fn after_power_cut(disk: &Disk, random: &mut Random, asked: &World) -> World {
    let left = Disk::new(disk.after_power_cut(random));
    let store = open(&left, Duration::from_secs(3600));
    model::read(&store, &Clock::manual(START), asked).await.unwrap()
}

struct Fixture {
    disk: Disk,
    store: RedbStore,
    world: World,
}

impl Fixture {
    fn new(interval: Duration) -> Self {
        let disk = Disk::new(fresh_file(true));
        let store = open(&disk, interval);
        Self { disk, store, world: World { ring_version: 1, sessions: BTreeMap::new() } }
    }

    async fn run(&mut self, action: Action) {
        action.run(&self.store, &Clock::manual(START)).await.unwrap();
        action.apply(&mut self.world);
    }

    async fn merge(&mut self, number: u8, value: u8) {
        let value = vec![value; 50];
        self.run(Action::Merge { id: id(number), key: "k".into(), value }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_interval_what_ends_a_session_takes_all_before_it_to_the_disk() {
    let mut fixture = Fixture::new(Duration::from_secs(3600));
    for number in 1..=4 {
        let value = vec![0; 50];
        fixture.run(Action::Create { id: id(number), user: None, value }).await;
    }
    let critical = [
        Action::Destroy { id: id(1) },
        Action::Renew { id: id(2), new_id: id(12), login: None },
        Action::Renew { id: id(3), new_id: id(13), login: Some("alice".into()) },
        Action::ExpireIds { ids: vec![id(13)] },
        Action::Rotate { version: fixture.world.ring_version + 1 },
        Action::Create { id: id(20), user: Some("bob".into()), value: vec![1] },
        Action::ExpireUser { user: "bob".into(), except: None },
        Action::ExpireEveryone { except: Some(id(4)) },
    ];
    let mut random = Random::new(1);
    for (step, action) in (1_u8..).zip(critical) {
        let at_least = 20 * step;
        fixture.merge(4, at_least).await;
        fixture.run(action).await;
        let durable = fixture.world.clone();
        for later in 1..=10 {
            let found = after_power_cut(&fixture.disk, &mut random, &fixture.world).await;
            let mut but_for_data = (found.clone(), durable.clone());
            for world in [&mut but_for_data.0, &mut but_for_data.1] {
                let data = &mut world.sessions.get_mut(&id(4)).unwrap().as_mut().unwrap().data;
                let value = data.remove("k").unwrap();
                assert!(value[0] >= at_least, "an older value came back");
            }
            assert_eq!(but_for_data.0, but_for_data.1);
            fixture.merge(4, at_least + later).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_interval_what_was_answered_is_on_the_disk_when_it_is_over() {
    let mut fixture = Fixture::new(Duration::from_millis(20));
    let value = vec![0; 50];
    fixture.run(Action::Create { id: id(1), user: None, value }).await;
    let mut random = Random::new(1);
    let since = Instant::now();
    while after_power_cut(&fixture.disk, &mut random, &fixture.world).await != fixture.world {
        assert!(since.elapsed() < WAIT, "never written down");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fixture.merge(1, 9).await;
    fixture.store.close().await.unwrap();
    let found = after_power_cut(&fixture.disk, &mut random, &fixture.world).await;
    assert_eq!(found, fixture.world);
}

/// A batch that began without it may be left unsynced; one that it joined may not.
#[tokio::test(flavor = "multi_thread")]
async fn with_an_interval_a_login_that_joins_a_batch_takes_it_to_the_disk() {
    let disk = Disk::new(fresh_file(true));
    let store = open(&disk, Duration::from_secs(3600));
    let clock = Clock::manual(START);
    let syncs = Arc::new(AtomicU64::new(0));
    let counted = syncs.clone();
    disk.watch(move |call, _| {
        counted.fetch_add(u64::from(call == Call::Sync), Ordering::SeqCst);
    });
    let stop = Arc::new(AtomicBool::new(false));
    let mut visitors = tokio::task::JoinSet::new();
    for number in 1..=32 {
        let (store, clock, stop) = (store.clone(), clock.clone(), stop.clone());
        visitors.spawn(async move {
            let value = vec![0; 300];
            Action::Create { id: id(number), user: None, value }.run(&store, &clock).await.unwrap();
            for value in (0..=255).cycle() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let value = vec![value; 300];
                let action = Action::Merge { id: id(number), key: "k".into(), value };
                action.run(&store, &clock).await.unwrap();
            }
        });
    }
    for number in 0..1000_u32 {
        let mut bytes = [0xff; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        let (id, user) = (SessionId::from_bytes(bytes), Some("alice".into()));
        let before = syncs.load(Ordering::SeqCst);
        Action::Create { id, user, value: vec![1] }.run(&store, &clock).await.unwrap();
        assert!(syncs.load(Ordering::SeqCst) > before, "login {number} was not synced");
    }
    stop.store(true, Ordering::Relaxed);
    visitors.join_all().await;
    store.close().await.unwrap();
}
