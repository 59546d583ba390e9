//! What goes wrong with a server, and what the caller is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastsession::store::{Access, Commit, Draft, Loaded, Op, Outcome, SessionStore as _};
use fastsession::{Clock, EndedBy, Error, RedisStore, Result, SessionId, SessionToken, Timestamp};

use crate::server::{self, Node};

/// Short, so that a test need not wait long for what does not come.
const WAIT: Duration = Duration::from_millis(600);

/// By the stores' own clock: another one may be some milliseconds ahead of it, and what ended a
/// moment from now is not purged.
fn now() -> Timestamp {
    Clock::system().now()
}

fn connect(url: &str) -> Result<RedisStore> {
    RedisStore::builder(url).wait(WAIT).connect()
}

fn commit(id: SessionId, op: Op) -> Commit {
    Commit { id, access: Access::at(now()), max_data_bytes: 1 << 20, op }
}

fn create(bytes: usize) -> Op {
    let mut draft = Draft::default();
    draft.changes.set("blob", vec![0xc0; bytes]).unwrap();
    Op::Create { realm: None, draft, login: None }
}

fn number(value: u64) -> Vec<u8> {
    [&[0xcf], &value.to_be_bytes()[..]].concat()
}

pub async fn created(store: &RedisStore) -> SessionId {
    let id = SessionToken::generate().unwrap().id();
    let outcome = store.commit(commit(id, create(1))).await.unwrap();
    assert!(matches!(outcome, Outcome::Committed(_)));
    id
}

pub async fn is_live(store: &RedisStore, id: SessionId) -> Result<bool> {
    Ok(matches!(store.load(&id, &Access::at(now())).await?, Loaded::Live(_)))
}

pub async fn count(store: &RedisStore, id: SessionId) -> Result<u64> {
    let Loaded::Live(record) = store.load(&id, &Access::at(now())).await? else { return Ok(0) };
    let digits = record.data().get("n").map(|value| value[1..].try_into().unwrap());
    Ok(digits.map_or(0, u64::from_be_bytes))
}

/// Adds one, as `Session::update` does.
async fn increment(store: &RedisStore, id: SessionId) -> Result<()> {
    loop {
        let before = count(store, id).await?;
        let expected = (before > 0).then(|| number(before).into());
        let value = Some(number(before + 1).into());
        let op = Op::CompareAndSet { key: "n".into(), expected, value };
        match store.commit(commit(id, op)).await? {
            Outcome::Committed(_) => return Ok(()),
            Outcome::Changed(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Counts while something goes wrong: what was acknowledged, and what nobody can say.
pub async fn count_beside(
    store: &RedisStore,
    id: SessionId,
    trouble: impl FnOnce() + Send + 'static,
) -> (u64, u64, Vec<Error>) {
    let over = Arc::new(AtomicBool::new(false));
    let (done, unknown) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (store, over) = (store.clone(), over.clone());
            let (done, unknown) = (done.clone(), unknown.clone());
            tokio::spawn(async move {
                let mut errors = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    match increment(&store, id).await {
                        Ok(()) => drop(done.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => {
                            let open = u64::from(error.is_unknown_outcome());
                            unknown.fetch_add(open, Ordering::Relaxed);
                            errors.push(error);
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    }
                }
                errors
            })
        })
        .collect();
    tokio::task::spawn_blocking(trouble).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    over.store(true, Ordering::Relaxed);
    let mut errors = Vec::new();
    for worker in workers {
        errors.extend(worker.await.unwrap());
    }
    (done.load(Ordering::Relaxed), unknown.load(Ordering::Relaxed), errors)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_down_is_named_at_once() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = connect(&format!("redis://me:secret@127.0.0.1:{port}/")).unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
    let text = format!("{error} {error:?}");
    assert!(text.contains(&port.to_string()) && !text.contains("secret"), "{text}");
}

#[test]
fn what_is_no_url_is_refused_and_not_repeated() {
    for url in [
        "localhost",
        "http://me:secret@db/",
        "redis://:secret@db:port/",
        "rediss://:secret@db/#insecure",
    ] {
        let error = connect(url).unwrap_err();
        assert!(error.is_invalid() && !format!("{error:?}").contains("secret"), "{error:?}");
    }
    let builder = RedisStore::builder("redis://me:secret@db/");
    let text = format!("{builder:?}");
    assert!(text.contains("db:6379") && !text.contains("secret"), "{text}");
    for prefix in ["", "a b", "a{b}", &"x".repeat(65)] {
        let error = RedisStore::builder("redis://db/").prefix(prefix).connect().unwrap_err();
        assert!(error.is_invalid(), "{prefix}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_said_and_never_shown() {
    if !server::is_installed() {
        return;
    }
    let node = Node::start(&["--requirepass", "correct-horse"]);
    let at = |user: &str| format!("redis://{user}127.0.0.1:{}/", node.port);
    for user in ["", ":battery-staple@"] {
        let error = connect(&at(user)).unwrap_err();
        assert!(error.is_forbidden(), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("battery"), "{error:?}");
    }
    let store = connect(&at(":correct-horse@")).unwrap();
    assert!(!format!("{store:?}").contains("horse"));
    created(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_refused_and_a_primary_that_becomes_one_changes_nothing() {
    if !server::is_installed() {
        return;
    }
    let (primary, other) = (Node::start(&[]), Node::start(&[]));
    let store = connect(&primary.url()).unwrap();
    let id = created(&store).await;
    other.cli(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()]);
    let error = connect(&other.url()).unwrap_err();
    assert!(error.is_unavailable() && error.to_string().contains("replica"), "{error:?}");
    other.cli(&["REPLICAOF", "NO", "ONE"]);
    primary.cli(&["REPLICAOF", "127.0.0.1", &other.port.to_string()]);
    let end = Op::End { by: EndedBy::Application, grace: Duration::ZERO };
    let error = store.commit(commit(id, end)).await.unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
    // Nor is it asked what it knew: the new primary may have ended the session since.
    let error = is_live(&store, id).await.unwrap_err();
    assert!(error.is_unavailable() && error.to_string().contains("replica"), "{error:?}");
    primary.cli(&["REPLICAOF", "NO", "ONE"]);
    let began = Instant::now();
    while store.commit(commit(id, Op::Merge(Draft::default()))).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(10), "it does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_19_a_full_server_still_serves_and_ends_sessions() {
    if !server::is_installed() {
        return;
    }
    let node = Node::start(&["--maxmemory-policy", "noeviction"]);
    let store = connect(&node.url()).unwrap();
    let (one, two) = (created(&store).await, created(&store).await);
    node.cli(&["CONFIG", "SET", "maxmemory", "1000000"]);
    let id = SessionToken::generate().unwrap().id();
    let error = store.commit(commit(id, create(1000))).await.unwrap_err();
    assert!(error.is_full(), "{error:?}");
    assert!(is_live(&store, one).await.unwrap() && !is_live(&store, id).await.unwrap());
    let end = Op::End { by: EndedBy::Application, grace: Duration::ZERO };
    let outcome = store.commit(commit(one, end)).await.unwrap();
    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    store.expire(fastsession::Selector::everyone()).await.unwrap();
    assert!(!is_live(&store, two).await.unwrap());
    assert_eq!(store.purge().await.unwrap().purged, 2);
    node.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    created(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgotten_scripts_are_told_again() {
    if !server::is_installed() {
        return;
    }
    let node = Node::start(&[]);
    let store = connect(&node.url()).unwrap();
    let id = created(&store).await;
    for _ in 0..3 {
        node.cli(&["SCRIPT", "FLUSH"]);
        increment(&store, id).await.unwrap();
        node.cli(&["SCRIPT", "FLUSH"]);
        store.expire(fastsession::Selector::user("alice")).await.unwrap();
        store.stats().await.unwrap();
    }
    assert_eq!(count(&store, id).await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_17_a_slow_server_is_waited_for_no_longer_than_the_deadline() {
    if !server::is_installed() {
        return;
    }
    let node = Node::start(&[]);
    let store = connect(&node.url()).unwrap();
    let id = created(&store).await;
    node.cli(&["CLIENT", "PAUSE", "2000", "ALL"]);
    let began = Instant::now();
    let (load, write) = tokio::join!(is_live(&store, id), increment_blindly(&store, id));
    assert!(began.elapsed() < 2 * WAIT, "{:?}", began.elapsed());
    let (load, write) = (load.unwrap_err(), write.unwrap_err());
    assert!(load.is_unavailable(), "{load:?}");
    // It was sent: the server may carry it out once it goes on, or find the connection closed.
    assert!(write.is_unknown_outcome(), "{write:?}");
    let stored = counted(&store, id).await;
    assert!(stored <= 1, "{stored}");
}

/// The count, once the server answers again.
async fn counted(store: &RedisStore, id: SessionId) -> u64 {
    let began = Instant::now();
    loop {
        match count(store, id).await {
            Ok(count) => return count,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(10), "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn increment_blindly(store: &RedisStore, id: SessionId) -> Result<Outcome> {
    let mut draft = Draft::default();
    draft.changes.set("n", number(1)).unwrap();
    store.commit(commit(id, Op::Merge(draft))).await
}

/// Connections that break in the middle of commits are made again, and no commit is lost or
/// carried out twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_04_increments_add_up_over_broken_connections() {
    if !server::is_installed() {
        return;
    }
    let node = Arc::new(Node::start(&[]));
    let store = connect(&node.url()).unwrap();
    let id = created(&store).await;
    let killer = node.clone();
    let (done, unknown, errors) = count_beside(&store, id, move || {
        for _ in 0..50 {
            killer.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
            std::thread::sleep(Duration::from_millis(20));
        }
    })
    .await;
    assert!(done > 50, "hardly anything was done: {done}, {errors:?}");
    let stored = counted(&store, id).await;
    assert!((done..=done + unknown).contains(&stored), "{stored}: {done} done, {unknown} unknown");
    assert!(errors.iter().all(Error::is_store_failure), "{errors:?}");
}

/// A server that is killed and started again: what was acknowledged is there, what is reported as
/// not done is not, and service returns by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_17_a_killed_server_loses_nothing_that_was_acknowledged() {
    if !server::is_installed() {
        return;
    }
    let node = Arc::new(Node::start(&["--appendonly", "yes", "--appendfsync", "always"]));
    let store = connect(&node.url()).unwrap();
    let id = created(&store).await;
    let victim = node.clone();
    let (done, unknown, errors) = count_beside(&store, id, move || {
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(200));
            victim.kill();
            std::thread::sleep(Duration::from_millis(300));
            assert!(victim.run(), "it does not start again");
        }
    })
    .await;
    let stored = counted(&store, id).await;
    assert!((done..=done + unknown).contains(&stored), "{stored}: {done} done, {unknown} unknown");
    assert!(errors.iter().any(Error::is_unavailable), "an outage without an error: {errors:?}");
    assert!(errors.iter().all(Error::is_store_failure), "{errors:?}");
}
