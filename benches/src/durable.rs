//! Writes that are answered once they are on disk.

use std::sync::Arc;
use std::time::Duration;

use fastsession::store::{Login, Op};
use fastsession::{RedbStore, SessionId, SessionStore, SessionToken};
use rand::Rng;
use sqlx::sqlite::SqliteSynchronous;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::apps::{self, ours};
use crate::bare::{Key, Loop, Touching};
use crate::browser::Browser;
use crate::overhead::{FILLERS, commit, draft, fill, fill_theirs};
use crate::peers::{self, Redis, SQLX_DEFAULT};
use crate::report::{Goal, Report, Rounds};
use crate::{Effort, load};

/// Clients that keep the processors busy, and not the disk alone.
const MANY: usize = 256;

/// Of ours and of the bare loop.
pub(crate) const CACHE_BYTES: usize = 64 * 1024 * 1024;

pub(crate) fn run(report: &mut Report, effort: Effort) {
    report.heading("Durable writes a second, at the store's own API");
    let sizes: &[(usize, &str)] =
        effort.pick(&[(20_000, "20k"), (1_000_000, "1M")], &[(20_000, "20k")]);
    for (rows, name) in sizes {
        for exclusive in [false, true] {
            against_bare(report, effort, *rows, name, exclusive);
        }
    }
    report.heading("Durable writes a second, through the router");
    for exclusive in [false, true] {
        through_router(report, effort, exclusive);
    }
}

fn mode(exclusive: bool) -> &'static str {
    if exclusive { "exclusive" } else { "shared" }
}

fn open(folder: &TempDir, exclusive: bool) -> RedbStore {
    let builder = RedbStore::builder(folder.path().join("ours.redb")).cache_size(CACHE_BYTES);
    let builder = if exclusive { builder.exclusive() } else { builder };
    builder.open().expect("a store")
}

/// Ours and the bare loop, with the same rows.
struct Pair {
    store: RedbStore,
    bare: Arc<Loop>,
    ids: Arc<Vec<SessionId>>,
}

impl Pair {
    fn new(runtime: &Runtime, folder: &TempDir, rows: usize, exclusive: bool) -> Self {
        let store = open(folder, exclusive);
        let ids = Arc::new(runtime.block_on(fill(&store, rows)));
        let path = folder.path().join("bare.redb");
        let bare = Arc::new(Loop::open(&path, exclusive, CACHE_BYTES, &[]));
        runtime.block_on(Self::fill_alike(bare.clone(), ids.clone()));
        Self { store, bare, ids }
    }

    /// By as many clients as ours: what is free in the file is then where ours has it, and a commit
    /// is in as many places of it.
    async fn fill_alike(bare: Arc<Loop>, ids: Arc<Vec<SessionId>>) {
        load::each(FILLERS, ids.len(), move |number| {
            let (bare, key): (_, Key) = (bare.clone(), *ids[number].as_bytes());
            async move { bare.put(key, Touching::All).await }
        })
        .await;
    }

    async fn updates(&self, clients: usize, time: Duration) -> f64 {
        update_any(&self.store, &self.ids, clients, time).await
    }

    async fn bare_updates(&self, clients: usize, time: Duration, touching: Touching) -> f64 {
        let (bare, ids) = (self.bare.clone(), self.ids.clone());
        load::rate(clients, time, move |client, _| {
            let (bare, id) = (bare.clone(), pick(&ids, client, clients));
            async move { bare.put(*id.as_bytes(), touching).await }
        })
        .await
    }

    async fn creations(&self, clients: usize, time: Duration) -> f64 {
        let store = self.store.clone();
        load::rate(clients, time, move |_, _| {
            let store = store.clone();
            async move {
                let id = SessionToken::generate().expect("randomness").id();
                let login = Some(Login { user: format!("{id:.16}").into(), cap: None });
                let op = Op::Create { realm: None, draft: draft(), login };
                store.commit(commit(&store, id, op)).await.expect("a new session");
            }
        })
        .await
    }

    async fn bare_creations(&self, clients: usize, time: Duration) -> f64 {
        let bare = self.bare.clone();
        load::rate(clients, time, move |_, _| {
            let (bare, key) = (bare.clone(), rand::rng().random());
            async move { bare.put(key, Touching::All).await }
        })
        .await
    }
}

/// Updates a second, of clients with sessions of their own.
pub(crate) async fn update_any(
    store: &RedbStore,
    ids: &Arc<Vec<SessionId>>,
    clients: usize,
    time: Duration,
) -> f64 {
    let (store, ids) = (store.clone(), ids.clone());
    load::rate(clients, time, move |client, _| {
        let (store, id) = (store.clone(), pick(&ids, client, clients));
        async move { update(&store, id).await }
    })
    .await
}

/// One of the client's own sessions.
fn pick(ids: &[SessionId], client: usize, clients: usize) -> SessionId {
    let number = rand::rng().random_range(0..ids.len() / clients);
    ids[number * clients + client]
}

pub(crate) async fn update(store: &RedbStore, id: SessionId) {
    let commit = commit(store, id, Op::Merge(draft()));
    store.commit(commit).await.expect("a change");
}

fn against_bare(report: &mut Report, effort: Effort, rows: usize, name: &str, exclusive: bool) {
    let (runtime, folder) = (load::runtime(), TempDir::new().expect("a folder"));
    let pair = Pair::new(&runtime, &folder, rows, exclusive);
    let time = effort.pick(Duration::from_secs(1), Duration::from_millis(250));
    // One client measures the disk, whose rate varies the most.
    let rounds_of = |clients| if clients == 1 { effort.pick(11, 1) } else { effort.pick(3, 1) };
    let clients: &[usize] = effort.pick(&[1, 16, 64, 256, 1024], &[1, 64]);
    let place = format!("{name}, {}", mode(exclusive));
    for &clients in clients {
        let [mut rounds, mut merging] = [(); 2].map(|()| Rounds::default());
        for _ in 0..rounds_of(clients) {
            let ours = runtime.block_on(pair.updates(clients, time));
            let bare = |touching| runtime.block_on(pair.bare_updates(clients, time, touching));
            rounds.add(ours, bare(Touching::One));
            if clients >= MANY {
                merging.add(ours, bare(Touching::OneMerged));
            }
        }
        let measure = format!("update, {clients} clients, {place}");
        report.add(rounds.row(&measure, "bare redb, one table", "1/s", Goal::AtLeast(0.9)));
        if clients >= MANY {
            let reference = "the same, merging into the row";
            report.add(merging.row(measure, reference, "1/s", Goal::Report));
        }
    }
    for &clients in clients {
        let mut rounds = Rounds::default();
        for _ in 0..rounds_of(clients) {
            let ours = runtime.block_on(pair.creations(clients, time));
            rounds.add(ours, runtime.block_on(pair.bare_creations(clients, time)));
        }
        let measure = format!("create with login, {clients} clients, {place}");
        report.add(rounds.row(measure, "bare redb, three tables", "1/s", Goal::AtLeast(0.9)));
    }
    let mut rounds = Rounds::default();
    for _ in 0..effort.pick(11, 3) {
        let count = effort.pick(500, 50);
        let (store, ids) = (&pair.store, &pair.ids);
        let ours = load::latency(count, || update(store, pick(ids, 0, 1)));
        let ours = runtime.block_on(ours);
        let bare =
            load::latency(count, || pair.bare.put(*pick(ids, 0, 1).as_bytes(), Touching::One));
        rounds.add(ours, runtime.block_on(bare));
    }
    let measure = format!("latency of a lone update, {place}");
    report.add(rounds.row(measure, "bare redb commit", "µs", Goal::AtMost(1.2)));
}

fn through_router(report: &mut Report, effort: Effort, exclusive: bool) {
    let (runtime, folder) = (load::runtime(), TempDir::new().expect("a folder"));
    let store = open(&folder, exclusive);
    runtime.block_on(fill(&store, 20_000));
    let ours = ours::router(store);
    let sqlite = folder.path().join("theirs.sqlite");
    let [sqlite, single] = runtime.block_on(async {
        fill_theirs(&peers::sqlite(&sqlite, SqliteSynchronous::Off, 1).await, 20_000).await;
        let full = SqliteSynchronous::Full;
        [peers::sqlite(&sqlite, full, SQLX_DEFAULT).await, peers::sqlite(&sqlite, full, 1).await]
            .map(apps::tower_sessions::router)
    });
    let redis = runtime.block_on(Redis::start());
    let redis = redis.as_ref().map(|redis| apps::tower_sessions::router(redis.store()));
    let times = if exclusive { 20.0 } else { 16.0 };
    let peers = [
        (64, "tower-sessions + SQLite FULL, pool of 10", Some(&sqlite), Goal::AtLeast(times)),
        (64, "tower-sessions + SQLite FULL, one connection", Some(&single), Goal::Report),
        (64, "tower-sessions + Redis, appendfsync always", redis.as_ref(), Goal::Report),
        (256, "tower-sessions + Redis, appendfsync always", redis.as_ref(), Goal::Report),
    ];
    for (clients, peer, app, goal) in peers {
        let measure = format!("write, {clients} clients, 20k, {}", mode(exclusive));
        let Some(app) = app else {
            report.skipped(&measure, "redis-server is not installed");
            continue;
        };
        let mut rounds = Rounds::default();
        let time = effort.pick(Duration::from_secs(2), Duration::from_millis(400));
        for _ in 0..effort.pick(5, 1) {
            let ours = runtime.block_on(writes(&ours, clients, time));
            rounds.add(ours, runtime.block_on(writes(app, clients, time)));
        }
        report.add(rounds.row(measure, peer, "1/s", goal));
    }
    bare_beside(report, effort, exclusive, &folder, &sqlite);
}

/// What is within reach of any layer on redb: the engine alone, without requests, cookies or
/// sessions, beside the same peer.
fn bare_beside(
    report: &mut Report,
    effort: Effort,
    exclusive: bool,
    folder: &TempDir,
    peer: &axum::Router,
) {
    const CLIENTS: usize = 64;
    let runtime = load::runtime();
    let keys: Arc<Vec<Key>> = Arc::new((0..20_000).map(|_| rand::rng().random()).collect());
    let path = folder.path().join("limit.redb");
    let bare = Arc::new(Loop::open(&path, exclusive, CACHE_BYTES, &keys));
    let mut rounds = Rounds::default();
    let time = effort.pick(Duration::from_secs(2), Duration::from_millis(400));
    for _ in 0..effort.pick(5, 1) {
        let (bare, keys) = (bare.clone(), keys.clone());
        let puts = load::rate(CLIENTS, time, move |_, _| {
            let bare = bare.clone();
            let key = keys[rand::rng().random_range(0..keys.len())];
            async move { bare.put(key, Touching::One).await }
        });
        rounds.add(runtime.block_on(puts), runtime.block_on(writes(peer, CLIENTS, time)));
    }
    let measure = format!("bare redb, no layer, {CLIENTS} clients, 20k, {}", mode(exclusive));
    report.add(rounds.row(
        measure,
        "tower-sessions + SQLite FULL, pool of 10",
        "1/s",
        Goal::Report,
    ));
}

/// Requests a second that write, of clients with a session of 300 bytes each.
async fn writes(app: &axum::Router, clients: usize, time: Duration) -> f64 {
    let mut browsers = Vec::new();
    for _ in 0..clients {
        let mut browser = Browser::new(app);
        browser.get("/fill").await;
        browsers.push(browser);
    }
    let browsers = Arc::new(browsers);
    load::rate(clients, time, move |client, _| {
        let browsers = browsers.clone();
        async move {
            let response = browsers[client].peek("/write").await;
            assert!(response.status().is_success(), "{}", response.status());
        }
    })
    .await
}
