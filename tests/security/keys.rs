//! Keys, across handles as across processes.

use std::time::{Duration, Instant};

use fastsession::store::KeyChange;
use fastsession::{RedbStore, SessionStore};

use crate::app;
use crate::support::Browser;

#[tokio::test]
async fn security_14_a_retired_key_is_refused_through_every_handle_within_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sessions.redb");
    let stores = [0, 1].map(|_| RedbStore::open(&file).unwrap());
    let apps = stores.clone().map(app);
    let mut browser = Browser::new(&apps[0]);
    browser.get("/login").await;
    let there = Browser { app: apps[1].clone(), jar: browser.jar.clone() };
    assert_eq!(there.peek("/user").await.body, "alice");

    let former = stores[0].keys(fastsession::store::Freshness::Current).await.unwrap();
    let rotate = KeyChange::Rotate { at: stores[0].clock().now(), retire_after: None };
    stores[0].change_keys(rotate).await.unwrap();
    assert_eq!(there.peek("/user").await.body, "alice", "it is retiring, not retired");
    stores[0].change_keys(KeyChange::Retire { key: former.active().id() }).await.unwrap();
    assert_eq!(browser.peek("/origin").await.body, "bad_signature", "at once where it was done");
    let since = Instant::now();
    while there.peek("/origin").await.body != "bad_signature" {
        assert!(since.elapsed() < Duration::from_secs(1), "the retired key still verifies");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for store in stores {
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn security_13_a_refused_change_leaves_the_ring_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = RedbStore::open(dir.path().join("sessions.redb")).unwrap();
    let app = app(store.clone());
    let mut browser = Browser::new(&app);
    browser.get("/login").await;
    let before = store.keys(fastsession::store::Freshness::Current).await.unwrap();
    let active = KeyChange::Retire { key: before.active().id() };
    assert!(store.change_keys(active).await.unwrap_err().is_invalid());
    let at = store.clock().now();
    let rotate = KeyChange::Rotate { at, retire_after: Some(Duration::from_secs(3600)) };
    let full = loop {
        if let Err(error) = store.change_keys(rotate.clone()).await {
            break error;
        }
    };
    assert!(full.is_full());
    assert_eq!(browser.peek("/user").await.body, "alice");
    store.close().await.unwrap();
}
