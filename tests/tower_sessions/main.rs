//! tower-sessions and axum-login on the stores of this crate.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "../common/mod.rs"]
mod common;
mod http;
mod login;
mod published;

use std::time::{Duration, SystemTime};

use axum_login::tower_sessions::session::{Id, Record};
use axum_login::tower_sessions::{ExpiredDeletion, SessionStore as TowerStore};
use fastsession::tower_sessions::{REALM, Store, axum_login_user};
use fastsession::{
    Clock, Filter, MemoryStore, RedbStore, Selector, SessionStore, State, Timestamp,
};
use serde_json::json;
use time::OffsetDateTime;

/// By the system's clock, which tower-sessions reads.
fn memory() -> Store<MemoryStore> {
    Store::for_axum_login(MemoryStore::new().unwrap())
}

fn record(expires_in: Duration) -> Record {
    // Finer than our own deadlines.
    let now = OffsetDateTime::now_utc().replace_nanosecond(123_456_789).unwrap();
    let data = [("k".into(), json!({"a": [1, -2, 3.5, null, "ü", true], "b": {}}))];
    Record { id: Id::default(), data: data.into(), expiry_date: now + expires_in }
}

const HOUR: Duration = Duration::from_secs(3600);

async fn summaries<S: SessionStore>(store: &S) -> Vec<fastsession::Summary> {
    let (filter, at) = (Filter::new(), store.clock().now());
    let query = fastsession::store::Query { filter, after: None, limit: 1000, at };
    store.page(&query).await.unwrap().sessions
}

#[tokio::test]
async fn what_is_created_comes_back_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sessions.redb");
    let mut written = record(HOUR);
    {
        let store = Store::new(RedbStore::open(&file).unwrap());
        store.create(&mut written).await.unwrap();
        assert_eq!(store.load(&written.id).await.unwrap(), Some(written.clone()));
        written.data.insert("more".into(), json!(u64::MAX));
        written.data.remove("k");
        written.expiry_date += HOUR;
        store.save(&written).await.unwrap();
        store.get_ref().close().await.unwrap();
    }
    let store = Store::new(RedbStore::open(&file).unwrap());
    assert_eq!(store.load(&written.id).await.unwrap(), Some(written));
    assert_eq!(store.load(&Id::default()).await.unwrap(), None);
}

#[tokio::test]
async fn the_key_that_holds_the_rest_of_the_date_is_refused_and_nothing_changed() {
    let store = memory();
    let mut kept = record(HOUR);
    store.create(&mut kept).await.unwrap();
    let mut clash = kept.clone();
    clash.data.insert("tower-sessions.expiry_ns".into(), json!(1));
    assert!(store.save(&clash).await.is_err());
    assert!(store.create(&mut clash).await.is_err());
    assert_eq!(store.load(&kept.id).await.unwrap(), Some(kept));
}

#[tokio::test]
async fn a_taken_id_is_exchanged_and_the_other_session_left_alone() {
    let store = memory();
    let mut first = record(HOUR);
    store.create(&mut first).await.unwrap();
    let mut second = record(HOUR);
    second.id = first.id;
    second.data.insert("k".into(), json!("other"));
    store.create(&mut second).await.unwrap();
    assert_ne!(second.id, first.id);
    assert_eq!(store.load(&first.id).await.unwrap(), Some(first));
    assert_eq!(store.load(&second.id).await.unwrap(), Some(second));
}

#[tokio::test]
async fn rule_07_saving_a_session_that_is_gone_is_an_error_and_revives_nothing() {
    let store = memory();
    let mut gone = record(HOUR);
    assert!(store.save(&gone).await.is_err(), "never there");
    store.create(&mut gone).await.unwrap();
    store.delete(&gone.id).await.unwrap();
    assert!(store.save(&gone).await.is_err());
    assert_eq!(store.load(&gone.id).await.unwrap(), None);
    store.delete(&gone.id).await.unwrap();
    store.delete(&Id::default()).await.unwrap();

    // Not under its old ID, either.
    let before = gone.id;
    store.create(&mut gone).await.unwrap();
    assert_ne!(gone.id, before);
    assert_eq!(store.load(&before).await.unwrap(), None);
}

#[tokio::test]
async fn rule_12_a_deleted_session_leaves_a_mark_without_data() {
    let store = memory();
    let mut gone = record(HOUR);
    store.create(&mut gone).await.unwrap();
    let id = summaries(store.get_ref()).await[0].id;
    store.delete(&gone.id).await.unwrap();
    let left = store.get_ref().inspect(&id).await.unwrap().unwrap();
    assert!(left.record.data().is_empty());
    let now = store.get_ref().clock().now();
    assert_eq!(left.record.state(now, &left.endings), State::Ended);
}

#[tokio::test]
async fn rule_13_what_is_past_its_date_is_not_found() {
    let clock = Clock::manual(SystemTime::now().into());
    let store = Store::new(MemoryStore::builder().clock(clock.clone()).build().unwrap());
    let mut short = record(HOUR);
    let start = clock.now();
    store.create(&mut short).await.unwrap();
    // A save moves the date, in both directions.
    clock.advance(std::time::Duration::from_secs(1800));
    short.expiry_date += HOUR;
    store.save(&short).await.unwrap();
    let deadline = |record: &Record| Timestamp::from(SystemTime::from(record.expiry_date));
    clock.set(Timestamp::from_millis(deadline(&short).as_millis() - 1));
    assert_eq!(store.load(&short.id).await.unwrap(), Some(short.clone()));
    clock.set(deadline(&short));
    assert_eq!(store.load(&short.id).await.unwrap(), None);
    assert!(store.save(&short).await.is_err());

    clock.set(start);
    short.expiry_date -= HOUR + HOUR / 2;
    store.save(&short).await.unwrap();
    clock.set(deadline(&short));
    assert_eq!(store.load(&short.id).await.unwrap(), None);

    let mut over = record(HOUR);
    over.expiry_date = OffsetDateTime::UNIX_EPOCH;
    store.create(&mut over).await.unwrap();
    assert_eq!(store.load(&over.id).await.unwrap(), None);
}

#[tokio::test]
async fn rule_15_what_is_over_leaves_by_itself() {
    let clock = Clock::manual(SystemTime::now().into());
    let store = Store::new(MemoryStore::builder().clock(clock.clone()).build().unwrap());
    for _ in 0..50 {
        store.create(&mut record(HOUR)).await.unwrap();
    }
    let mut longer = record(HOUR);
    store.create(&mut longer).await.unwrap();
    longer.expiry_date += 10 * HOUR;
    store.save(&longer).await.unwrap();
    clock.advance(3 * HOUR);
    store.delete_expired().await.unwrap();
    assert_eq!(store.get_ref().stats().await.unwrap().records, 1);
    assert!(store.load(&longer.id).await.unwrap().is_some());
}

#[tokio::test]
async fn rule_11_users_are_listed_and_ended() {
    let store = memory();
    let login = |user: serde_json::Value| {
        let mut record = record(HOUR);
        let data = json!({"user_id": user, "auth_hash": [1, 2]});
        record.data.insert("axum-login.data".into(), data);
        record
    };
    let (mut alice, mut seven) = (login(json!("alice")), login(json!(7)));
    let mut nobody = login(json!(null));
    for record in [&mut alice, &mut seven, &mut nobody] {
        store.create(record).await.unwrap();
    }
    assert_eq!(store.get_ref().sessions_of("alice").await.unwrap().len(), 1);
    let of_seven = store.get_ref().sessions_of("7").await.unwrap();
    assert_eq!(of_seven.len(), 1);
    assert_eq!(of_seven[0].realm.as_deref(), Some(REALM));

    store.get_ref().expire(Selector::user("7")).await.unwrap();
    assert_eq!(store.load(&seven.id).await.unwrap(), None);
    assert!(store.save(&seven).await.is_err());
    assert!(store.load(&alice.id).await.unwrap().is_some());

    // Signing in without a new ID is refused.
    nobody.data.insert("axum-login.data".into(), json!({"user_id": "mallory"}));
    assert!(store.save(&nobody).await.is_err());
    assert_eq!(store.get_ref().sessions_of("mallory").await.unwrap().len(), 0);
}

#[test]
fn users_are_told_from_what_axum_login_writes() {
    let of = |data| axum_login_user(&[("axum-login.data".into(), data)].into());
    assert_eq!(of(json!({"user_id": 7})), Some("7".into()));
    assert_eq!(of(json!({"user_id": "alice"})), Some("alice".into()));
    assert_eq!(of(json!({"user_id": {"a": 1}})), Some("{\"a\":1}".into()));
    assert_eq!(of(json!({"user_id": null})), None);
    assert_eq!(of(json!({})), None);
    assert_eq!(axum_login_user(&[].into()), None);
}

#[tokio::test]
async fn rule_19_too_much_is_refused_and_the_old_state_intact() {
    let store = memory().with_max_data_bytes(1000);
    let mut kept = record(HOUR);
    store.create(&mut kept).await.unwrap();
    let mut larger = kept.clone();
    larger.data.insert("x".into(), json!("y".repeat(2000)));
    assert!(store.save(&larger).await.is_err());
    larger.data.remove("x");
    larger.data.insert("k".repeat(300), json!(1));
    assert!(store.save(&larger).await.is_err());
    assert_eq!(store.load(&kept.id).await.unwrap(), Some(kept));
}

#[tokio::test]
async fn security_21_the_file_holds_no_id_a_cookie_could_carry() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sessions.redb");
    let store = Store::new(RedbStore::open(&file).unwrap());
    let mut record = record(HOUR);
    store.create(&mut record).await.unwrap();
    store.get_ref().close().await.unwrap();
    let bytes = std::fs::read(&file).unwrap();
    for needle in [
        record.id.0.to_le_bytes().to_vec(),
        record.id.0.to_be_bytes().to_vec(),
        record.id.to_string().into_bytes(),
        record.id.0.to_string().into_bytes(),
    ] {
        assert!(!bytes.windows(needle.len()).any(|window| window == needle));
    }
}
