//! Two processes on one file.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use fastsession::RedbStore;
use rand::Rng;
use tempfile::TempDir;

use crate::bare::{Key, Loop, Touching};
use crate::durable::{CACHE_BYTES, update_any};
use crate::overhead::fill;
use crate::report::{Goal, Report, Rounds};
use crate::{Effort, load};

/// First argument of a writing process.
pub(crate) const WRITER: &str = "writer";
/// The same, of one that has the bare loop.
pub(crate) const BARE_WRITER: &str = "bare-writer";

/// Of sessions, or rows, that each process adds and writes to.
const ROWS: usize = 5_000;

pub(crate) fn run(report: &mut Report, effort: Effort) {
    report.heading("Two processes writing to one file, 64 clients together");
    let folder = TempDir::new().expect("a folder");
    let millis = effort.pick(2000, 400);
    for (writer, measure, goal) in [
        (WRITER, "two processes", Goal::AtLeast(0.7)),
        (BARE_WRITER, "a bare redb loop, two processes", Goal::Report),
    ] {
        let path = folder.path().join(writer);
        let start = |clients| start(writer, &path, clients, millis);
        let mut rounds = Rounds::default();
        for _ in 0..effort.pick(5, 2) {
            let one = rate(start(64));
            let two: f64 = [start(32), start(32)].into_iter().map(rate).sum();
            rounds.add(two, one);
        }
        report.add(rounds.row(measure, "one process", "1/s", goal));
    }
}

fn start(writer: &str, path: &Path, clients: usize, millis: u64) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .arg(writer)
        .arg(path)
        .args([clients.to_string(), millis.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process")
}

fn rate(process: Child) -> f64 {
    let output = process.wait_with_output().expect("a process ends");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a rate")
}

/// What a writing process does.
pub(crate) fn write(path: &str, clients: &str, millis: &str) {
    let clients: usize = clients.parse().expect("a number");
    let time = Duration::from_millis(millis.parse().expect("a number"));
    let runtime = load::runtime();
    let store = RedbStore::open(path).expect("a store");
    let ids = runtime.block_on(fill(&store, ROWS)).into();
    println!("{}", runtime.block_on(update_any(&store, &ids, clients, time)));
}

/// What a process with the bare loop does.
pub(crate) fn write_bare(path: &str, clients: &str, millis: &str) {
    let clients: usize = clients.parse().expect("a number");
    let time = Duration::from_millis(millis.parse().expect("a number"));
    let keys: Arc<[Key]> = (0..ROWS).map(|_| rand::random()).collect();
    let bare = Arc::new(Loop::open(Path::new(path), false, CACHE_BYTES, &keys));
    println!(
        "{}",
        load::runtime().block_on(load::rate(clients, time, move |_, _| {
            let (bare, key) = (bare.clone(), keys[rand::rng().random_range(0..ROWS)]);
            async move { bare.put(key, Touching::One).await }
        }))
    );
}
