//! Commands of the tool beside an application that commits at full speed.
//!
//! The application is a process with 64 clients. Each goes through sessions of its own, in one
//! order, round by round, and commits to one after the other: at any moment those it has been to
//! in this round come first, and have one commit more than the others. It does not sweep, so that
//! what is removed is the tool's work.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastsession::{RedbStore, SessionId, SessionStore};
use tokio::sync::Barrier;

use super::{Files, command};
use crate::report::{Goal, Report, Rounds};
use crate::{Effort, load};

const CLIENTS: usize = 64;
/// Sessions of one client.
const OWN: usize = 80;

/// How long an application is measured without the tool.
fn quiet_time(effort: Effort) -> Duration {
    Duration::from_secs(effort.pick(20, 1))
}

/// All of the file is over, so that there is enough to remove for longer than 20 seconds.
pub(super) fn purge(report: &mut Report, effort: Effort, db: &Path) {
    let app = App::start(db);
    std::thread::sleep(quiet_time(effort));
    let quiet = app.stop();
    let app = App::start(db);
    let (purged, elapsed) = super::purge(db);
    let busy = app.stop();
    let mut row = row(report);
    let speed = purged as f64 / elapsed;
    row("purge beside an application", speed, 50_000.0, "bound", "rows/s", Goal::AtLeast(1.0));
    row("the same, how long", elapsed, 20.0, "bound", "s", Goal::AtLeast(1.0));
    let name = "commits of an application during a purge";
    row(name, busy.rate, quiet.rate, "without", "1/s", Goal::AtLeast(0.7));
    row("the same, 99th percentile", busy.late, quiet.late, "without", "µs", Goal::AtMost(3.0));
}

pub(super) fn backup(report: &mut Report, files: &Files<'_>) {
    let db = files.copy("ours.redb");
    let copy = files.folder.join("backup.redb");
    let path = copy.to_str().expect("a path");
    let app = App::start(&db);
    let ids = app.ids.clone();
    let start = Instant::now();
    assert!(command(&db, &["backup", path]).status().expect("a process").success());
    let elapsed = start.elapsed().as_secs_f64();
    let busy = app.stop();
    assert!(command(&copy, &["check", "--quiet"]).status().expect("a process").success());
    assert_is_a_moment(&copy, &ids, files.sessions);
    let mut row = row(report);
    let name = "backup beside an application, checked, equals a moment";
    row(name, elapsed, elapsed, "itself", "s", Goal::Report);
    let name = "commits of an application during a backup";
    row(name, busy.rate, 10_000.0, "bound", "1/s", Goal::AtLeast(1.0));
    std::fs::remove_file(copy).expect("it is there");
}

/// Of each client, the copy has all commits up to one and none after it, and all other sessions.
fn assert_is_a_moment(copy: &Path, ids: &[SessionId], others: usize) {
    let runtime = load::runtime();
    let store = RedbStore::open(copy).expect("it opens");
    for client in 0..CLIENTS {
        let versions: Vec<u64> = (client..ids.len())
            .step_by(CLIENTS)
            .map(|number| runtime.block_on(store.inspect(&ids[number])).expect("it can be read"))
            .map(|found| found.expect("a session").record.version())
            .collect();
        let (first, last) = (versions[0], versions[versions.len() - 1]);
        let is_prefix = versions.is_sorted_by(|before, after| before >= after);
        assert!(is_prefix && first - last <= 1, "of no moment: {versions:?}");
        assert!(first > 1, "a commit before the backup is not in it");
    }
    let stats = runtime.block_on(store.stats()).expect("it can be counted");
    assert_eq!(stats.records, (others + ids.len()) as u64);
    runtime.block_on(store.close()).expect("it closes");
}

fn row<'a>(
    report: &'a mut Report,
) -> impl FnMut(&str, f64, f64, &str, &'static str, Goal) + use<'a> {
    |name, ours, reference, whose, unit, goal| {
        let mut rounds = Rounds::default();
        rounds.add(ours, reference);
        report.add(rounds.row(name, whose, unit, goal));
    }
}

/// An application that serves until it is stopped.
struct App {
    process: Child,
    output: BufReader<ChildStdout>,
    /// Its sessions, those of one client 64 apart.
    ids: Vec<SessionId>,
}

/// What it did.
struct Served {
    /// Commits a second.
    rate: f64,
    /// The 99th percentile of their times, in microseconds.
    late: f64,
}

impl App {
    /// Returns when it has made its sessions and been to each once, and goes on.
    fn start(db: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .arg(super::APP)
            .arg(db)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let mut output = BufReader::new(process.stdout.take().expect("its output"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a sign");
        let ids = line.split_whitespace().map(|id| id.parse().expect("an ID")).collect();
        Self { process, output, ids }
    }

    fn stop(mut self) -> Served {
        drop(self.process.stdin.take());
        let mut text = String::new();
        self.output.read_to_string(&mut text).expect("its figures");
        assert!(self.process.wait().expect("it ends").success());
        let mut figures = text.split_whitespace().map(|word| word.parse().expect("a figure"));
        let mut next = || figures.next().expect("a figure");
        Served { rate: next(), late: next() }
    }
}

/// What the application does, until its standard input is closed.
pub(crate) fn app(db: &str) {
    let runtime = load::runtime();
    let store = RedbStore::builder(PathBuf::from(db)).without_sweeping().open().expect("a store");
    let ids = Arc::new(runtime.block_on(crate::overhead::fill(&store, CLIENTS * OWN)));
    let stopped = Arc::new(AtomicBool::new(false));
    let warm = Arc::new(Barrier::new(CLIENTS + 1));
    let tasks: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (store, ids) = (store.clone(), ids.clone());
            runtime.spawn(serve(store, ids, client, warm.clone(), stopped.clone()))
        })
        .collect();
    runtime.block_on(warm.wait());
    let start = Instant::now();
    let words: Vec<_> = ids.iter().map(ToString::to_string).collect();
    println!("{}", words.join(" "));
    std::io::stdout().flush().expect("an output");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    stopped.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    for task in tasks {
        times.extend(runtime.block_on(task).expect("no panic"));
    }
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    times.sort_unstable();
    println!("{rate} {}", times[times.len() * 99 / 100]);
}

/// One client. How long each of its commits took, in microseconds, after its first round.
async fn serve(
    store: RedbStore,
    ids: Arc<Vec<SessionId>>,
    client: usize,
    warm: Arc<Barrier>,
    stopped: Arc<AtomicBool>,
) -> Vec<u64> {
    for id in ids.iter().skip(client).step_by(CLIENTS) {
        crate::durable::update(&store, *id).await;
    }
    warm.wait().await;
    let mut times = Vec::new();
    for number in (client..ids.len()).step_by(CLIENTS).cycle() {
        if stopped.load(Ordering::Relaxed) {
            break;
        }
        let start = Instant::now();
        crate::durable::update(&store, ids[number]).await;
        times.push(start.elapsed().as_micros() as u64);
    }
    times
}
