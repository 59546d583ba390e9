//! More of everything than anybody means well with. Figures are printed, not asserted.

use std::time::{Duration, Instant};

use axum::http::HeaderValue;
use fastsession::record::{Changes, EndedBy};
use fastsession::store::{Access, Commit, Draft, Import, Login, Op, Outcome, Query};
use fastsession::{
    Filter, MemoryStore, RedbStore, Selector, SessionCap, SessionId, SessionStore, SessionToken,
    Timeouts,
};

use crate::support::{Browser, Probe, START, clock, memory, with_cookies};
use crate::{app, flood};

async fn records(store: &impl SessionStore) -> u64 {
    store.stats().await.unwrap().records
}

#[tokio::test]
async fn security_28_visitors_without_cookies_cost_no_row_and_no_cookie() {
    let store = Probe::new(&clock());
    let app = app(store.clone());
    let browser = Browser::new(&app);
    let (count, began) = (flood(2000), Instant::now());
    for n in 0..count {
        // Half of them read, which finds nothing.
        let path = if n % 2 == 0 { "/user" } else { "/plain" };
        let reply = browser.peek(path).await;
        assert!(reply.cookies().is_empty());
    }
    assert_eq!((store.counts.calls(), records(&store.inner).await), (0, 0));
    println!("{count} visitors without a cookie: no call, no row, {:?}", began.elapsed());
}

#[tokio::test]
async fn security_28_bad_cookies_cost_no_load_and_no_row() {
    let store = Probe::new(&clock());
    let app = app(store.clone());
    let mut browser = Browser::new(&app);
    browser.get("/login").await;
    let value = browser.jar.0["sid"].clone();
    let loads = store.counts.loads();
    let (count, began) = (flood(2000), Instant::now());
    for n in 0..count {
        let mut bad = value.clone().into_bytes();
        let place = n % (bad.len() - 11) + 11;
        bad[place] = if bad[place] == b'A' { b'B' } else { b'A' };
        let cookie = [b"sid=", &bad[..]].concat();
        let reply = with_cookies(&app, "/user", &[&cookie]).await;
        assert!(reply.body.is_empty() && reply.cookies().is_empty());
    }
    // The last character of a token has bits that mean nothing, and is refused for that.
    assert_eq!((store.counts.loads(), records(&store.inner).await), (loads, 1));
    println!("{count} bad cookies: no load, no row, {:?}", began.elapsed());
}

/// Linear: what is ten times as long is not looked at a hundred times as long. Past the bound it
/// is not looked at.
#[tokio::test]
async fn security_30_giant_cookies_are_not_looked_at() {
    let app = app(memory(&clock()));
    for giant in [
        format!("sid={}", "a".repeat(1 << 20)),
        ";".repeat(1 << 20),
        "=;".repeat(1 << 19),
        "sid=1;".repeat(1 << 17),
        format!("{}sid=1", " ".repeat(1 << 20)),
    ] {
        assert!(HeaderValue::from_bytes(giant.as_bytes()).is_ok());
        let reply = with_cookies(&app, "/origin", &[giant.as_bytes()]).await;
        assert_eq!((reply.status.as_u16(), reply.body.as_str()), (200, "malformed"));
    }
    let header: &[u8] = b"sid=1";
    let reply = with_cookies(&app, "/origin", &vec![header; 1000]).await;
    assert_eq!(reply.body, "malformed", "more candidates than allowed");
}

#[tokio::test]
async fn security_31_giant_data_and_depth_are_refused_and_cost_nothing() {
    use axum::Router;
    use axum::routing::get;
    use fastsession::Session;
    let nested = |depth: usize| {
        let mut value = serde_json::Value::Null;
        for _ in 0..depth {
            value = serde_json::Value::Array(vec![value]);
        }
        value
    };
    let judge = async |session: Session, key: String, value: serde_json::Value| {
        let inserted = match session.insert(&key, &value).await {
            Ok(()) => session.save().await,
            refused => refused,
        };
        inserted.err().map_or("kept", |e| if e.is_too_large() { "large" } else { "refused" })
    };
    let routes = Router::new()
        .route("/small", get(async move |s: Session| judge(s, "k".into(), nested(10)).await))
        .route("/deep", get(async move |s: Session| judge(s, "k".into(), nested(100)).await))
        .route(
            "/large",
            get(async move |s: Session| judge(s, "k".into(), "x".repeat(1 << 20).into()).await),
        )
        .route(
            "/key",
            get(async move |s: Session| judge(s, "k".repeat(257), serde_json::Value::Null).await),
        );
    let store = memory(&clock());
    let mut browser = Browser::new(&routes.layer(crate::support::layer(store.clone())));
    for (path, verdict) in [("/deep", "refused"), ("/large", "large"), ("/key", "large")] {
        assert_eq!(browser.get(path).await.body, verdict, "{path}");
        assert_eq!(records(&store).await, 0);
    }
    assert_eq!(browser.get("/small").await.body, "kept");
}

fn new_id() -> SessionId {
    SessionToken::generate().unwrap().id()
}

pub(crate) fn create(
    at: fastsession::Timestamp,
    user: Option<&str>,
    cap: Option<SessionCap>,
) -> Commit {
    let mut changes = Changes::new();
    changes.set("k", vec![0xc4, 200].into_iter().chain([7; 200]).collect()).unwrap();
    let draft = Draft { changes, ..Draft::default() };
    let login = user.map(|user| Login { user: user.into(), cap });
    let access = Access { timeouts: Some(Timeouts::default()), ..Access::at(at) };
    Commit {
        id: new_id(),
        access,
        max_data_bytes: 65_536,
        op: Op::Create { realm: None, draft, login },
    }
}

/// Creates `count` sessions, many at a time.
pub(crate) async fn fill(store: &(impl SessionStore + Clone), count: usize, user: Option<&str>) {
    let mut left = count;
    while left > 0 {
        let batch = left.min(1000);
        let answers: Vec<_> =
            (0..batch).map(|_| store.commit(create(store.clock().now(), user, None))).collect();
        for answer in answers {
            assert!(matches!(answer.await.unwrap(), Outcome::Committed(_)));
        }
        left -= batch;
    }
}

async fn crowd_of_one(store: impl SessionStore + Clone, name: &str) {
    let count = flood(2000);
    fill(&store, count, Some("mallory")).await;
    let bob = create(START, Some("bob"), None);
    let bob_id = bob.id;
    store.commit(bob).await.unwrap();

    let began = Instant::now();
    let refused =
        store.commit(create(START, Some("mallory"), Some(SessionCap::refuse_new(10)))).await;
    assert!(refused.unwrap_err().is_too_many_sessions());
    let refusing = began.elapsed();
    let began = Instant::now();
    let login = create(START, Some("mallory"), Some(SessionCap::end_oldest(10)));
    assert!(matches!(store.commit(login).await.unwrap(), Outcome::Committed(_)));
    let ending = began.elapsed();

    let began = Instant::now();
    let filter = Filter::new().user("mallory");
    let query = Query { filter, after: None, limit: 100, at: START };
    assert_eq!(store.page(&query).await.unwrap().sessions.len(), 100);
    let paged = began.elapsed();

    let began = Instant::now();
    // One commit, however many there are; beyond a thousand they are not counted first.
    let ended = store.expire(Selector::user("mallory")).await.unwrap().ended;
    assert!(ended.is_none_or(|ended| ended < count as u64), "the cap had ended none: {ended:?}");
    let expired = began.elapsed();
    assert!(store.sessions_of("mallory").await.unwrap().is_empty());
    let again = create(START, Some("mallory"), Some(SessionCap::refuse_new(1)));
    assert!(matches!(store.commit(again).await.unwrap(), Outcome::Committed(_)));
    let loaded = store.load(&bob_id, &Access::at(START)).await.unwrap();
    assert!(matches!(loaded, fastsession::store::Loaded::Live(_)));
    println!(
        "{count} sessions of one user, {name}: login refused by a cap {refusing:?}, and under one \
         that ends the oldest {ending:?}; first page {paged:?}, all ended {expired:?}"
    );
}

#[tokio::test]
async fn security_29_many_sessions_of_one_user_harm_nobody_else() {
    crowd_of_one(
        MemoryStore::builder().clock(clock()).max_bytes(4 << 30).build().unwrap(),
        "memory",
    )
    .await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sessions.redb");
    let store = RedbStore::builder(file).clock(clock()).without_sweeping().open().unwrap();
    crowd_of_one(store.clone(), "redb").await;
    store.close().await.unwrap();
}

/// As a service leaves them that signs in and out all day.
async fn ended_crowd_of_one(store: impl SessionStore + Clone, name: &str) {
    let count = flood(2000);
    let login = create(START, Some("robot"), None);
    let op = Op::End { by: EndedBy::Application, grace: Duration::ZERO };
    let logout = Commit { op, ..login.clone() };
    store.commit(login).await.unwrap();
    let Outcome::Committed(record) = store.commit(logout).await.unwrap() else { panic!() };
    for some in (0..count).collect::<Vec<_>>().chunks(1000) {
        let records = some.iter().map(|_| (new_id(), record.clone())).collect();
        let imported = store.import(Import { records }).await.unwrap().imported;
        assert_eq!(imported, some.len() as u64);
    }
    let began = Instant::now();
    let cap = SessionCap::refuse_new(1);
    let first = store.commit(create(START, Some("robot"), Some(cap))).await.unwrap();
    assert!(matches!(first, Outcome::Committed(_)));
    let capped = began.elapsed();
    let second = store.commit(create(START, Some("robot"), Some(cap))).await;
    assert!(second.unwrap_err().is_too_many_sessions());
    assert_eq!(store.sessions_of("robot").await.unwrap().len(), 1);
    println!("{count} ended sessions of one user, {name}: capped login {capped:?}");
}

#[tokio::test]
async fn security_29_ended_sessions_of_a_user_are_not_in_the_way_of_a_login() {
    let memory = MemoryStore::builder().clock(clock()).max_bytes(4 << 30);
    ended_crowd_of_one(memory.build().unwrap(), "memory").await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sessions.redb");
    let store = RedbStore::builder(file).clock(clock()).without_sweeping().open().unwrap();
    ended_crowd_of_one(store.clone(), "redb").await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn security_29_a_flood_of_new_sessions_pushes_no_member_out() {
    let bound = 1 << 20;
    let store = MemoryStore::builder().clock(clock()).max_bytes(bound).build().unwrap();
    let app = app(store.clone());
    let mut alice = Browser::new(&app);
    alice.get("/login").await;
    let visitor = Browser::new(&app);
    for _ in 0..flood(5000) {
        assert_eq!(visitor.peek("/set").await.status, 200);
    }
    assert_eq!(alice.get("/user").await.body, "alice");
    let stats = store.stats().await.unwrap();
    assert!(stats.stored_bytes <= bound as u64, "{stats:?}");
    assert!(stats.records > 100, "{stats:?}");
    println!("{} requests for a new session: {stats:?}", flood(5000));
}
