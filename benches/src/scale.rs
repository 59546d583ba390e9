//! What stays quick as sessions add up.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use fastsession::store::{Access, Query};
use fastsession::{Clock, Filter, RedbStore, SessionId, SessionStore, SessionToken, Timestamp};
use rand::Rng;
use tempfile::TempDir;

use crate::durable::update;
use crate::overhead::fill_in_order;
use crate::report::{Goal, Report, Rounds};
use crate::space::{bytes, resident_bytes};
use crate::{Effort, load};

const FEW: usize = 10_000;
/// Sessions of the full run; set it to 10,000,000 for the long one.
const MANY: &str = "FASTSESSION_BENCH_SESSIONS";

/// First argument of the process whose memory is measured.
pub(crate) const RESIDENT: &str = "resident";
/// What a store may take: its cache, by default, and 100 MB.
const MOST_RESIDENT: u64 = 64 * 1024 * 1024 + 100_000_000;

struct Times {
    load: f64,
    commit: f64,
    list: f64,
    open: f64,
    resident: f64,
}

pub(crate) fn run(report: &mut Report, effort: Effort) {
    let wanted = std::env::var(MANY).ok().and_then(|text| text.parse().ok());
    let many = wanted.unwrap_or(effort.pick(1_000_000, 30_000));
    report.heading(&format!("{FEW} sessions and {many}, RedbStore, shared"));
    let few = times(FEW, effort);
    let more = times(many, effort);
    for (name, few, many, goal) in [
        ("load", few.load, more.load, 4.0),
        ("commit", few.commit, more.commit, 3.0),
        ("list, a page of 100", few.list, more.list, 2.0),
        ("open after kill -9", few.open, more.open, 2.0),
    ] {
        let mut rounds = Rounds::default();
        rounds.add(many, few);
        report.add(rounds.row(name, format!("{FEW} sessions"), "µs", Goal::AtMost(goal)));
    }
    let mut rounds = Rounds::default();
    rounds.add(more.resident, bytes(MOST_RESIDENT));
    report.add(rounds.row("resident memory", "cache and 100 MB", "bytes", Goal::AtMost(1.0)));
}

fn times(rows: usize, effort: Effort) -> Times {
    let (runtime, folder) = (load::runtime(), TempDir::new().expect("a folder"));
    let path = folder.path().join("ours.redb");
    let store = RedbStore::open(&path).expect("a store");
    let ids = runtime.block_on(fill_in_order(&store, rows));
    let count = effort.pick(3000, 200);
    runtime.block_on(async {
        let loaded = load::latency(count * 10, || load_one(&store, pick(&ids))).await;
        let committed = load::latency(count, || update(&store, pick(&ids))).await;
        let listed = load::latency(count / 10, || list(&store, pick(&ids))).await;
        store.close().await.expect("it closes");
        drop(store);
        let mut opened = 0.0;
        for _ in 0..5 {
            kill_a_writer(&path);
            let start = Instant::now();
            let store = RedbStore::open(&path).expect("a store");
            opened += start.elapsed().as_secs_f64() * 1e6 / 5.0;
            store.close().await.expect("it closes");
        }
        let resident = resident_of_another(&path);
        Times { load: loaded, commit: committed, list: listed, open: opened, resident }
    })
}

fn pick(ids: &[SessionId]) -> SessionId {
    ids[rand::rng().random_range(0..ids.len())]
}

async fn load_one(store: &RedbStore, id: SessionId) {
    let access = Access::at(store.clock().now());
    store.load(&id, &access).await.expect("a session");
}

async fn list(store: &RedbStore, after: SessionId) {
    let at = store.clock().now();
    let query = Query { filter: Filter::new(), after: Some(after), limit: 100, at };
    store.page(&query).await.expect("a page");
}

/// Of a process that reads and writes all over the file.
fn resident_of_another(path: &Path) -> f64 {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .arg(RESIDENT)
        .arg(path)
        .output()
        .expect("a process");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number")
}

/// What the process for [`resident_of_another`] does.
pub(crate) fn roam(path: &str) {
    let store = RedbStore::open(path).expect("a store");
    load::runtime().block_on(async {
        // More pages than the cache has room for, if there are as many.
        for place in 0..20_000 {
            let after = SessionToken::generate().expect("randomness").id();
            let query = Query { filter: Filter::new(), after: Some(after), limit: 1, at: now() };
            for session in store.page(&query).await.expect("a page").sessions {
                load_one(&store, session.id).await;
                if place % 20 == 0 {
                    update(&store, session.id).await;
                }
            }
        }
    });
    println!("{}", resident_bytes());
}

fn now() -> Timestamp {
    Clock::system().now()
}

/// A process that is killed while it writes to the file.
fn kill_a_writer(path: &Path) {
    let mut writer = Command::new(std::env::current_exe().expect("this program"))
        .arg(crate::processes::WRITER)
        .arg(path)
        .args(["16", "60000"])
        .spawn()
        .expect("a process");
    std::thread::sleep(std::time::Duration::from_millis(700));
    let _ = writer.kill();
    let _ = writer.wait();
}
