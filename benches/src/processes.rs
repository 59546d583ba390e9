//! Two processes on one file.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fastsession::RedbStore;
use tempfile::TempDir;

use crate::durable::update_any;
use crate::overhead::fill;
use crate::report::{Goal, Report, Rounds};
use crate::{Effort, load};

/// First argument of a writing process.
pub(crate) const WRITER: &str = "writer";

pub(crate) fn run(report: &mut Report, effort: Effort) {
    report.heading("Two processes writing to one file, 64 clients together");
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("ours.redb");
    let mut rounds = Rounds::default();
    let millis = effort.pick(2000, 400);
    for _ in 0..effort.pick(5, 2) {
        let one = rate(start(&path, 64, millis));
        let pair = [start(&path, 32, millis), start(&path, 32, millis)];
        let two: f64 = pair.into_iter().map(rate).sum();
        rounds.add(two, one);
    }
    report.add(rounds.row("two processes", "one process", "1/s", Goal::AtLeast(0.7)));
}

fn start(path: &Path, clients: usize, millis: u64) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .arg(WRITER)
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
    let ids = runtime.block_on(fill(&store, 5_000)).into();
    println!("{}", runtime.block_on(update_any(&store, &ids, clients, time)));
}
