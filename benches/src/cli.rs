//! Whole commands of the tool on a file of 2 million sessions, half of which are over.
//!
//! Every command runs in a process of its own and is timed from its start to its end. SQLite's
//! table holds the same IDs and instants and as many bytes, with an index by expiry.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fastsession::record::{Header, Record};
use fastsession::store::{Import, Op, Outcome};
use fastsession::{MemoryStore, RedbStore, SessionId, SessionStore, SessionToken, Timeouts};
use tempfile::TempDir;

use crate::overhead::{commit, draft};
use crate::report::{Goal, Report, Rounds};
use crate::{Effort, load};

mod beside;

pub(crate) use beside::app;

/// First argument of a process that is the tool.
pub(crate) const TOOL: &str = "tool";
/// First argument of a process that serves.
pub(crate) const APP: &str = "app";

/// Sessions; another number for a trial.
const SESSIONS: &str = "FASTSESSION_BENCH_SESSIONS";
/// Records taken in by one commit while the file is made.
const BATCH: usize = 20_000;
/// Every session, as SQLite prints it too.
const LISTING: &[&str] = &["list", "--state", "all", "--format", "jsonl"];
/// The user of every live session.
const MANY: &str = "many";

/// The tool in this process.
pub(crate) fn tool(args: &[String]) {
    let args = std::iter::once("fastsession".to_owned()).chain(args.iter().cloned());
    let code = fastsession::cli::run(args);
    // What a code is made of cannot be read back.
    std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
}

pub(crate) fn run(report: &mut Report, effort: Effort) {
    let wanted = std::env::var(SESSIONS).ok().and_then(|text| text.parse().ok());
    let sessions: usize = wanted.unwrap_or(effort.pick(2_000_000, 20_000));
    let folder = TempDir::new().expect("a folder");
    let files = Files::make(folder.path(), sessions);
    report.heading(&format!("Commands on {sessions} sessions of 300 bytes, half of them over"));
    small(report, effort, &files);
    listing(report, effort, &files);
    ending(report, effort, &files);
    purging(report, effort, &files);
    beside::backup(report, &files);
    let over = folder.path().join("over.redb");
    make_over(&over, sessions);
    beside::purge(report, effort, &over);
}

struct Files<'a> {
    folder: &'a Path,
    sessions: usize,
    live: Vec<SessionId>,
    now: i64,
}

impl<'a> Files<'a> {
    fn make(folder: &'a Path, sessions: usize) -> Self {
        let list = std::fs::File::create(folder.join("rows.csv")).expect("a file");
        let mut list = BufWriter::new(list);
        let (mut live, mut number) = (Vec::new(), 0);
        let template = load::runtime().block_on(template());
        let now = fastsession::Clock::system().now();
        fill(&folder.join("ours.redb"), sessions, |id| {
            let record = record(&template, number, now);
            let expires = record.expires_at().as_secs();
            writeln!(list, "{id},{expires},{}", record.size_bytes()).expect("a line");
            if number.is_multiple_of(2) {
                live.push(id);
            }
            number += 1;
            record
        });
        list.flush().expect("a file");
        sqlite(
            folder,
            "theirs.sqlite",
            "PRAGMA journal_mode=WAL;\n\
             CREATE TABLE r(id TEXT, expiry INTEGER, size INTEGER);\n\
             .mode csv\n.import rows.csv r\n\
             CREATE TABLE s(id TEXT PRIMARY KEY, expiry INTEGER, size INTEGER, data BLOB);\n\
             INSERT INTO s SELECT id, expiry, size, randomblob(300) FROM r;\n\
             CREATE INDEX e ON s(expiry);\nDROP TABLE r;\nVACUUM;\n\
             PRAGMA wal_checkpoint(TRUNCATE);\n",
        );
        Self { folder, sessions, live, now: now.as_secs() }
    }

    /// A copy that a measurement may spoil. It is on the disk: what of it were not, the first sync
    /// of whoever is measured would have to write.
    fn copy(&self, name: &str) -> std::path::PathBuf {
        let copy = self.folder.join(format!("copy-{name}"));
        let _ = std::fs::remove_file(&copy);
        std::fs::copy(self.folder.join(name), &copy).expect("a copy");
        std::fs::File::open(&copy).and_then(|file| file.sync_all()).expect("it is on the disk");
        copy
    }
}

/// A file in which every session is over.
fn make_over(path: &Path, sessions: usize) {
    let template = load::runtime().block_on(template());
    let (now, mut number) = (fastsession::Clock::system().now(), 1);
    fill(path, sessions, |_| {
        number += 2;
        record(&template, number, now)
    });
}

/// Makes a file of so many sessions, by their IDs in order. It is not swept meanwhile.
fn fill(path: &Path, sessions: usize, mut record: impl FnMut(SessionId) -> Record) {
    let mut ids: Vec<_> =
        (0..sessions).map(|_| SessionToken::generate().expect("randomness").id()).collect();
    ids.sort_unstable();
    let runtime = load::runtime();
    let store = RedbStore::builder(path).without_sweeping().open().expect("a store");
    for ids in ids.chunks(BATCH) {
        let records = ids.iter().map(|id| (*id, record(*id))).collect();
        let done = runtime.block_on(store.import(Import { records })).expect("an import");
        assert_eq!(done.imported, ids.len() as u64);
    }
    runtime.block_on(store.close()).expect("it closes");
}

/// A session with the payload, to take its data from.
async fn template() -> Record {
    let store = MemoryStore::new().expect("a store");
    let id = SessionToken::generate().expect("randomness").id();
    let op = Op::Create { realm: None, draft: draft(), login: None };
    match store.commit(commit(&store, id, op)).await.expect("a session") {
        Outcome::Committed(record) => record,
        other => panic!("{other:?}"),
    }
}

/// Every other one is over, each a little longer than the next.
fn record(template: &Record, number: usize, now: fastsession::Timestamp) -> Record {
    let spread = Duration::from_secs((number as u64).wrapping_mul(7919) % 40_000);
    let age =
        if number.is_multiple_of(2) { spread } else { spread + Duration::from_secs(48 * 3600) };
    let began = now.saturating_sub(age);
    let mut header = Header::new(began, &Timeouts::default());
    header.authenticated_at = Some(began);
    let user =
        if number.is_multiple_of(2) { MANY.into() } else { format!("user-{}", number % 100_000) };
    header.user = Some(user.into());
    Record::new(&header, template.data()).expect("a record")
}

fn sqlite(folder: &Path, file: &str, script: &str) {
    let mut process = Command::new("sqlite3")
        .arg(file)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("sqlite3");
    let mut input = process.stdin.take().expect("its input");
    input.write_all(script.as_bytes()).expect("a script");
    drop(input);
    assert!(process.wait().expect("it ends").success());
}

/// A command of the tool on `db`.
fn command(db: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg(TOOL).arg("--db").arg(db).args(args).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Milliseconds a command takes.
fn millis(mut command: Command) -> f64 {
    let start = Instant::now();
    assert!(command.status().expect("a process").success());
    start.elapsed().as_secs_f64() * 1e3
}

fn small(report: &mut Report, effort: Effort, files: &Files<'_>) {
    let db = files.folder.join("ours.redb");
    let id = files.live[files.live.len() / 2].to_string();
    for (name, args, bound) in [
        ("list --limit 20", &["list", "--limit", "20"][..], 50.0),
        ("inspect", &["inspect", &id], 50.0),
        ("stats", &["stats", "--quiet"], 200.0),
    ] {
        let mut rounds = Rounds::default();
        for _ in 0..effort.pick(21, 5) {
            rounds.add(millis(command(&db, args)), bound);
        }
        report.add(rounds.row(name, "bound", "ms", Goal::AtMost(1.0)));
    }
}

fn listing(report: &mut Report, effort: Effort, files: &Files<'_>) {
    let db = files.folder.join("ours.redb");
    let rows = files.sessions as f64;
    let query = "SELECT id, size, expiry FROM s";
    let listed = command(&db, LISTING).stdout(Stdio::piped()).output().expect("a process");
    let lines = listed.stdout.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines, files.sessions, "not every session is listed");
    let (mut rounds, mut memory) = (Rounds::default(), Rounds::default());
    for _ in 0..effort.pick(7, 2) {
        let start = Instant::now();
        let mut process = command(&db, LISTING).spawn().expect("a process");
        let peak = peak_megabytes(&mut process);
        let ours = rows / start.elapsed().as_secs_f64();
        let mut theirs = Command::new("sqlite3");
        theirs.args(["-json", "theirs.sqlite", query]).current_dir(files.folder);
        theirs.stdout(Stdio::null());
        rounds.add(ours, rows / (millis(theirs) / 1e3));
        memory.add(peak, 64.0);
    }
    let name = "list --state all --format jsonl";
    report.add(rounds.row(name, "sqlite3 -json, 3 columns", "rows/s", Goal::AtLeast(1.0)));
    report.add(memory.row("the same, peak memory", "bound", "MiB", Goal::AtMost(1.0)));
}

/// The most memory a process had, looked at every few milliseconds until it ends.
fn peak_megabytes(process: &mut Child) -> f64 {
    let path = format!("/proc/{}/status", process.id());
    let mut peak = 0.0_f64;
    while process.try_wait().expect("a process").is_none() {
        let status = std::fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(kilobytes.unwrap_or(0.0) / 1024.0);
        std::thread::sleep(Duration::from_millis(5));
    }
    peak
}

fn ending(report: &mut Report, effort: Effort, files: &Files<'_>) {
    let mut rounds = Rounds::default();
    for _ in 0..effort.pick(3, 1) {
        let db = files.copy("ours.redb");
        rounds.add(millis(command(&db, &["expire", "--user", MANY, "--yes"])), 100.0);
        let listed = command(&db, &["list", "--format", "ids"]).stdout(Stdio::piped()).output();
        assert!(listed.expect("a process").stdout.is_empty(), "a session is still live");
    }
    let name = format!("expire --user, of {} sessions", files.live.len());
    report.add(rounds.row(name, "bound", "ms", Goal::AtMost(1.0)));
}

fn purging(report: &mut Report, effort: Effort, files: &Files<'_>) {
    let mut rounds = Rounds::default();
    let over = files.sessions - files.live.len();
    for _ in 0..effort.pick(2, 1) {
        let (ours, _) = (files.copy("ours.redb"), files.copy("theirs.sqlite"));
        let (removed, seconds) = purge(&ours);
        assert_eq!(removed, over, "not all of what is over was removed");
        let start = Instant::now();
        let script = format!("DELETE FROM s WHERE expiry <= {};\n", files.now);
        sqlite(files.folder, "copy-theirs.sqlite", &script);
        rounds.add(seconds * 1e3, start.elapsed().as_secs_f64() * 1e3);
    }
    let name = format!("purge of {over}");
    report.add(rounds.row(name, "SQLite's DELETE, indexed", "ms", Goal::AtMost(0.5)));
}

/// How many sessions `purge` removes from `db`, and how many seconds it takes.
fn purge(db: &Path) -> (usize, f64) {
    let start = Instant::now();
    let output = command(db, &["purge", "--json"]).stdout(Stdio::piped()).output();
    let elapsed = start.elapsed().as_secs_f64();
    let output = output.expect("a process");
    assert!(output.status.success());
    let report: fastsession::cli::report::Changed =
        serde_json::from_slice(&output.stdout).expect("a report");
    (usize::try_from(report.purged).expect("a count"), elapsed)
}
