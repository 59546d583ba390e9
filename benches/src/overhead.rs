//! What a session adds to a request: time through the layer minus the same through a bare router.
//!
//! In memory, where one thread does everything, it is that thread's processor time: what else the
//! machine does is not counted.

use std::future::poll_fn;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request};
use fastsession::record::Changes;
use fastsession::store::{Access, Commit, Draft, Op};
use fastsession::{MemoryStore, RedbStore, SessionStore, SessionToken, Timeouts};
use rustix::time::{ClockId, clock_gettime};
use sqlx::sqlite::SqliteSynchronous;
use tempfile::TempDir;
use tower::Service;
use tower_sessions::MemoryStore as TowerMemoryStore;

use crate::Effort;
use crate::apps::{self, floor, keeping, minimal, ours, plain};
use crate::browser::{Browser, Template};
use crate::load;
use crate::peers::{self, Redis};
use crate::report::{Goal, Report, Rounds};

/// Sessions that requests take turns with.
const SESSIONS: usize = 100;

pub(crate) fn run(report: &mut Report, effort: Effort) {
    report.heading("Overhead of a request, in process, one at a time");
    memory(report, effort);
    least(report, effort);
    for (rows, name) in effort.pick(&[(20_000, "20k"), (1_000_000, "1M")][..], &[(20_000, "20k")]) {
        redb(report, effort, *rows, name);
    }
}

/// A kind of request.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) path: &'static str,
    pub(crate) has_cookie: bool,
    goal: f64,
}

pub(crate) const KINDS: [Kind; 4] = [
    Kind { name: "handler ignores the session", path: "/ignore", has_cookie: true, goal: 0.2 },
    Kind { name: "read", path: "/read", has_cookie: true, goal: 1.0 / 3.0 },
    Kind { name: "write", path: "/write", has_cookie: true, goal: 1.0 / 3.0 },
    Kind { name: "new session", path: "/write", has_cookie: false, goal: 1.0 / 3.0 },
];

/// Part of our overhead is what axum itself asks for any layer with an extractor.
fn least(report: &mut Report, effort: Effort) {
    let runtime = load::single();
    let mut rounds = Rounds::default();
    let ours = ours::router(MemoryStore::new().expect("a store"));
    let cookies = runtime.block_on(cookies(&ours, true));
    for _ in 0..effort.pick(21, 5) {
        let apps = [&ours, &minimal::router()].map(|app| (app.clone(), cookies.clone()));
        let [ours, least] = runtime.block_on(added(apps, "/ignore", effort));
        rounds.add(ours, least);
    }
    report.add(rounds.row(
        "MemoryStore: handler ignores the session",
        "a layer that inserts one extension",
        "ns",
        Goal::Report,
    ));
}

fn memory(report: &mut Report, effort: Effort) {
    let runtime = load::single();
    for kind in &KINDS {
        let [mut rounds, mut least, mut keeping] = [(); 3].map(|()| Rounds::default());
        for _ in 0..effort.pick(21, 5) {
            // Each round has stores of its own: new sessions add up.
            let apps = [
                ours::router(MemoryStore::new().expect("a store")),
                floor::router(),
                keeping::router(),
                apps::tower_sessions::router(TowerMemoryStore::default()),
            ];
            let apps = apps.map(|app| {
                let cookies = runtime.block_on(cookies(&app, kind.has_cookie));
                (app, cookies)
            });
            let [ours, floor, kept, theirs] = runtime.block_on(added(apps, kind.path, effort));
            rounds.add(ours, theirs);
            least.add(floor, theirs);
            keeping.add(kept, theirs);
        }
        let measure = format!("MemoryStore: {}", kind.name);
        let reference = "tower-sessions MemoryStore, signed";
        report.add(rounds.row(measure, reference, "ns", Goal::AtMost(kind.goal)));
        let measure = format!("the least that any layer can do: {}", kind.name);
        report.add(least.row(measure, reference, "ns", Goal::Report));
        let measure = format!("the least that keeps what a session promises: {}", kind.name);
        report.add(keeping.row(measure, reference, "ns", Goal::Report));
    }
}

/// Turns of a round: a processor whose speed varies is then as quick for each app.
const TURNS: u32 = 20;

/// Nanoseconds that the layer of each app adds to a request with these cookies.
async fn added<const N: usize>(
    apps: [(Router, Vec<Option<HeaderValue>>); N],
    path: &'static str,
    effort: Effort,
) -> [f64; N] {
    let requests = effort.pick(1_000, 150);
    let plain = plain::router();
    let mut added = [0.0; N];
    for _ in 0..TURNS {
        for ((app, cookies), added) in apps.iter().zip(&mut added) {
            let base = busy(&plain, path, cookies, requests).await;
            *added += busy(app, path, cookies, requests).await - base;
        }
    }
    added.map(|added| added / f64::from(TURNS))
}

fn redb(report: &mut Report, effort: Effort, rows: usize, name: &str) {
    let runtime = load::runtime();
    let folder = TempDir::new().expect("a folder");
    let store = RedbStore::open(folder.path().join("ours.redb")).expect("a store");
    runtime.block_on(fill(&store, rows));
    let ours = ours::router(store);
    let own_cookies = runtime.block_on(cookies(&ours, true));

    let sqlite = runtime.block_on(async {
        let path = folder.path().join("theirs.sqlite");
        let filler = peers::sqlite(&path, SqliteSynchronous::Off, 1).await;
        fill_theirs(&filler, rows).await;
        drop(filler);
        let pool = peers::SQLX_DEFAULT;
        apps::tower_sessions::router(peers::sqlite(&path, SqliteSynchronous::Full, pool).await)
    });
    let redis = runtime.block_on(Redis::start());
    let redis_app = redis.as_ref().map(|redis| apps::tower_sessions::router(redis.store()));

    let peers = [("tower-sessions + SQLite FULL", Some(sqlite)), ("+ Redis", redis_app)];
    let goal = if rows > 100_000 { 0.1 } else { 1.0 / 15.0 };
    for (peer, app) in peers {
        let measure = format!("RedbStore, shared, read of {name}, beside {peer}");
        let Some(app) = app else {
            report.skipped(&measure, "redis-server is not installed");
            continue;
        };
        let their_cookies = runtime.block_on(cookies(&app, true));
        let mut rounds = Rounds::default();
        for _ in 0..effort.pick(11, 3) {
            let (own, their) = (effort.pick(20_000, 3_000), effort.pick(2_000, 300));
            // Their connections live on the runtime that opened them.
            runtime.block_on(async {
                let base = time(&plain::router(), "/read", &own_cookies, own).await;
                let ours = time(&ours, "/read", &own_cookies, own).await - base;
                let theirs = time(&app, "/read", &their_cookies, their).await - base;
                rounds.add(ours, theirs);
            });
        }
        report.add(rounds.row(measure, peer, "ns", Goal::AtMost(goal)));
    }
}

/// Cookies of sessions made on `app`; none if requests are to come without.
pub(crate) async fn cookies(app: &Router, wanted: bool) -> Vec<Option<HeaderValue>> {
    if !wanted {
        return vec![None];
    }
    let mut cookies = Vec::new();
    for _ in 0..SESSIONS {
        let mut browser = Browser::new(app);
        browser.get("/write").await;
        cookies.push(browser.cookie());
    }
    cookies
}

/// Nanoseconds a request, by the clock on the wall.
async fn time(
    app: &Router,
    path: &'static str,
    cookies: &[Option<HeaderValue>],
    requests: u32,
) -> f64 {
    time_by(ClockId::Monotonic, app, path, cookies, requests).await
}

/// Nanoseconds of this thread's processor time that a request takes.
async fn busy(
    app: &Router,
    path: &'static str,
    cookies: &[Option<HeaderValue>],
    requests: u32,
) -> f64 {
    time_by(ClockId::ThreadCPUTime, app, path, cookies, requests).await
}

async fn time_by(
    clock: ClockId,
    app: &Router,
    path: &'static str,
    cookies: &[Option<HeaderValue>],
    requests: u32,
) -> f64 {
    let templates: Vec<_> =
        cookies.iter().map(|cookie| Template::new(path, cookie.clone())).collect();
    let mut app = app.clone();
    for template in templates.iter().cycle().take(requests as usize / 10) {
        send(&mut app, template).await;
    }
    let start = nanoseconds(clock);
    for template in templates.iter().cycle().take(requests as usize) {
        send(&mut app, template).await;
    }
    (nanoseconds(clock) - start) / f64::from(requests)
}

#[allow(clippy::cast_precision_loss, reason = "a microsecond would do")]
fn nanoseconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

pub(crate) async fn send(app: &mut Router, template: &Template) {
    let request: Request<Body> = template.request();
    let Ok(()) = poll_fn(|context| Service::<Request<Body>>::poll_ready(app, context)).await;
    let Ok(response) = app.call(request).await;
    assert!(response.status().is_success(), "{}", response.status());
}

/// Clients that fill a file.
pub(crate) const FILLERS: usize = 2048;

/// Adds `rows` sessions of 300 bytes.
pub(crate) async fn fill(store: &RedbStore, rows: usize) -> Vec<fastsession::SessionId> {
    fill_by(FILLERS, store, rows).await
}

/// The same, by so many clients at a time.
pub(crate) async fn fill_by(
    clients: usize,
    store: &RedbStore,
    rows: usize,
) -> Vec<fastsession::SessionId> {
    let ids = new_ids(rows);
    create_all(clients, store, ids.clone()).await;
    ids
}

/// The same in two passes through the IDs in their order, for many: a batch then writes pages that
/// are neighbours, and the second pass splits them as arrivals in no order do.
pub(crate) async fn fill_in_order(store: &RedbStore, rows: usize) -> Vec<fastsession::SessionId> {
    let mut ids = new_ids(rows);
    ids.sort_unstable();
    for first in [0, 1] {
        create_all(FILLERS, store, ids.iter().skip(first).step_by(2).copied().collect()).await;
    }
    ids
}

fn new_ids(count: usize) -> Vec<fastsession::SessionId> {
    (0..count).map(|_| SessionToken::generate().expect("randomness").id()).collect()
}

async fn create_all(clients: usize, store: &RedbStore, ids: Vec<fastsession::SessionId>) {
    let (store, count) = (store.clone(), ids.len());
    load::each(clients, count, move |number| {
        let (store, id) = (store.clone(), ids[number]);
        async move {
            let op = Op::Create { realm: None, draft: draft(), login: None };
            store.commit(commit(&store, id, op)).await.expect("a new session");
        }
    })
    .await;
}

/// Changes one key, of 300 bytes.
pub(crate) fn draft() -> Draft {
    let mut changes = Changes::new();
    changes.set("payload", apps::payload().into_bytes()).expect("it fits");
    Draft { changes, ..Draft::default() }
}

pub(crate) fn commit(store: &impl SessionStore, id: fastsession::SessionId, op: Op) -> Commit {
    let timeouts = Timeouts::default();
    let access = Access {
        at: store.clock().now(),
        timeouts: Some(timeouts),
        touch_interval: timeouts.default_touch_interval(),
    };
    Commit { id, access, max_data_bytes: 64 * 1024, op }
}

pub(crate) async fn fill_theirs(store: &impl tower_sessions::SessionStore, rows: usize) {
    use tower_sessions::session::{Id, Record};
    for _ in 0..rows {
        let mut record = Record {
            id: Id::default(),
            data: [("payload".to_owned(), apps::payload().into())].into(),
            expiry_date: time::OffsetDateTime::now_utc() + time::Duration::days(1),
        };
        store.create(&mut record).await.expect("a new session");
    }
}
