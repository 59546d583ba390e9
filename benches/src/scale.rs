//! What stays quick as sessions add up.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fastsession::store::{Access, Query};
use fastsession::{Clock, Filter, RedbStore, SessionId, SessionStore, SessionToken, Timestamp};
use rand::Rng;
use tempfile::TempDir;

use crate::bare::{Key, Loop, Touching};
use crate::durable::{CACHE_BYTES, update};
use crate::overhead::fill_in_order;
use crate::processes::{BARE_WRITER, WRITER};
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

/// Of ours, and of redb alone with rows of the same size.
struct Times {
    ours: Steps,
    bare: Steps,
    resident: f64,
    /// To read a page of the file from the kernel's memory.
    page: f64,
}

struct Steps {
    load: Step,
    commit: Step,
    list: Step,
    /// In microseconds, after a process that wrote was killed.
    open: f64,
}

struct Step {
    microseconds: f64,
    /// Calls that read and that write, nearly all of them the file's pages.
    reads: f64,
    writes: f64,
}

pub(crate) fn run(report: &mut Report, effort: Effort) {
    let wanted = std::env::var(MANY).ok().and_then(|text| text.parse().ok());
    let many = wanted.unwrap_or(effort.pick(1_000_000, 30_000));
    report.heading(&format!("{FEW} sessions and {many}, RedbStore, shared"));
    let few = times(FEW, effort);
    let more = times(many, effort);
    let add = |report: &mut Report, name: &str, many: f64, few: f64, goal| {
        let mut rounds = Rounds::default();
        rounds.add(many, few);
        report.add(rounds.row(name, format!("{FEW} sessions"), "µs", goal));
    };
    let mut calls = String::from("\nCalls that read and write, of ours and of redb alone:\n");
    type Of = fn(&Steps) -> &Step;
    let steps: [(&str, f64, Of); 3] = [
        ("load", 4.0, |steps| &steps.load),
        ("commit", 3.0, |steps| &steps.commit),
        ("list, a page of 100", 2.0, |steps| &steps.list),
    ];
    for (name, goal, of) in steps {
        let (ours, bare) = ((of(&more.ours), of(&few.ours)), (of(&more.bare), of(&few.bare)));
        let goal = Goal::AtMost(goal);
        add(report, name, ours.0.microseconds, ours.1.microseconds, goal);
        let alone = format!("redb alone: {name}");
        add(report, &alone, bare.0.microseconds, bare.1.microseconds, Goal::Report);
        for (rows, ours, bare) in [(FEW, ours.1, bare.1), (many, ours.0, bare.0)] {
            let _ = writeln!(
                calls,
                "- {name}, {rows} sessions: {:.1} and {:.1}; redb {:.1} and {:.1}",
                ours.reads, ours.writes, bare.reads, bare.writes
            );
        }
    }
    add(report, "the kernel alone: a page of the file", more.page, few.page, Goal::Report);
    let open = "open after kill -9";
    add(report, open, more.ours.open, few.ours.open, Goal::AtMost(2.0));
    let alone = format!("redb alone: {open}");
    add(report, &alone, more.bare.open, few.bare.open, Goal::Report);
    let mut rounds = Rounds::default();
    rounds.add(more.resident, bytes(MOST_RESIDENT));
    report.add(rounds.row("resident memory", "cache and 100 MB", "bytes", Goal::AtMost(1.0)));
    report.note(&calls);
}

fn times(rows: usize, effort: Effort) -> Times {
    let (runtime, folder) = (load::runtime(), TempDir::new().expect("a folder"));
    let path = folder.path().join("ours.redb");
    let store = RedbStore::open(&path).expect("a store");
    let ids = runtime.block_on(fill_in_order(&store, rows));
    let count = effort.pick(3000, 200);
    runtime.block_on(async {
        let load = step(count * 10, || load_one(&store, pick(&ids))).await;
        let commit = step(count, || update(&store, pick(&ids))).await;
        let list = step(count, || list(&store, pick(&ids))).await;
        store.close().await.expect("it closes");
        drop(store);
        let open = || RedbStore::open(&path).expect("a store");
        let close = async |store: RedbStore| store.close().await.expect("it closes");
        let open = opening(&path, WRITER, open, close).await;
        let ours = Steps { load, commit, list, open };
        let (resident, page) = (resident_of_another(&path), page_of(&path, count * 10));
        std::fs::remove_file(&path).expect("it is there");
        Times { ours, bare: alone(&folder, &ids, count).await, resident, page }
    })
}

async fn alone(folder: &TempDir, ids: &[SessionId], count: u32) -> Steps {
    let mut keys: Vec<Key> = ids.iter().map(|id| *id.as_bytes()).collect();
    keys.sort_unstable();
    let path = folder.path().join("bare.redb");
    let bare = Loop::open(&path, false, CACHE_BYTES, &keys);
    let key = || *pick(ids).as_bytes();
    let load = step(count * 10, async || drop(bare.get(&key()))).await;
    let commit = step(count, || bare.put(key(), Touching::One)).await;
    let list = step(count, async || drop(bare.page(&key(), 100))).await;
    drop(bare);
    let open = || Loop::open(&path, false, CACHE_BYTES, &[]);
    let open = opening(&path, BARE_WRITER, open, async |bare| drop(bare)).await;
    Steps { load, commit, list, open }
}

/// The mean time to open a file after a process that wrote to it was killed.
async fn opening<T>(
    path: &Path,
    writer: &str,
    open: impl Fn() -> T,
    close: impl AsyncFn(T),
) -> f64 {
    const TIMES: u32 = 5;
    let mut total = Duration::ZERO;
    for _ in 0..TIMES {
        kill_a_writer(path, writer);
        let start = Instant::now();
        let opened = open();
        total += start.elapsed();
        close(opened).await;
    }
    total.as_secs_f64() * 1e6 / f64::from(TIMES)
}

/// The mean time of reading any page of the file.
fn page_of(path: &Path, count: u32) -> f64 {
    const PAGE: u64 = 4096;
    let file = File::open(path).expect("a file");
    let pages = file.metadata().expect("its length").len() / PAGE;
    let mut page = [0; PAGE as usize];
    let start = Instant::now();
    for _ in 0..count {
        let place = rand::rng().random_range(0..pages) * PAGE;
        file.read_exact_at(&mut page, place).expect("a page");
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(count)
}

/// Means of `count` times `op`, after as many that fill redb's cache with what it reads: by its own
/// thread, whose memory the allocator asks of the kernel page by page until then.
async fn step<O: Future<Output = ()>>(count: u32, mut op: impl FnMut() -> O) -> Step {
    load::latency(count, &mut op).await;
    let (reads, writes) = calls();
    let microseconds = load::latency(count, op).await;
    let (after_reads, after_writes) = calls();
    let mean = |before: u64, after: u64| bytes(after - before) / f64::from(count);
    Step { microseconds, reads: mean(reads, after_reads), writes: mean(writes, after_writes) }
}

/// What this process has called so far to read and to write.
fn calls() -> (u64, u64) {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let field = |name: &str| {
        io.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0)
    };
    (field("syscr:"), field("syscw:"))
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
fn kill_a_writer(path: &Path, writer: &str) {
    let mut writer = Command::new(std::env::current_exe().expect("this program"))
        .arg(writer)
        .arg(path)
        .args(["16", "60000"])
        .spawn()
        .expect("a process");
    std::thread::sleep(Duration::from_millis(700));
    let _ = writer.kill();
    let _ = writer.wait();
}
