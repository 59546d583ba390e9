//! How much memory and file a session takes.

use std::process::Command;

use fastsession::store::{Op, Stats};
use fastsession::{MemoryStore, RedbStore, Selector, SessionStore, SessionToken};
use tempfile::TempDir;

use crate::apps::PAYLOAD_BYTES;
use crate::overhead::{commit, draft, fill, fill_by};
use crate::report::{Goal, Report, Rounds};
use crate::{Effort, load};

/// First argument of the process whose memory is measured.
pub(crate) const MEMORY: &str = "memory";

/// Visitors at a time, once the store is filled: a large batch rewrites most of a small file, and
/// needs its size again.
const CLIENTS: usize = 64;
/// How often sessions leave and others come.
const CHURNS: usize = 8;

pub(crate) fn run(report: &mut Report, effort: Effort) {
    report.heading("Space for a session of 300 bytes");
    memory(report, effort.pick(300_000, 100_000));
    file(report, effort.pick(200_000, 5_000));
}

/// In a process of its own, where nothing else was freed before.
fn memory(report: &mut Report, sessions: u32) {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args([MEMORY, &sessions.to_string()])
        .output()
        .expect("a process");
    let bytes_each: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number");
    let mut rounds = Rounds::default();
    rounds.add(bytes_each, bytes(PAYLOAD_BYTES as u64));
    report.add(rounds.row("memory, MemoryStore", "payload", "bytes", Goal::AtMost(1.6)));
}

/// What the process for [`memory`] does.
pub(crate) fn fill_memory(sessions: &str) {
    let sessions: u32 = sessions.parse().expect("a number");
    let store = MemoryStore::new().expect("a store");
    let before = resident_bytes();
    load::single().block_on(async {
        for _ in 0..sessions {
            let id = SessionToken::generate().expect("randomness").id();
            let op = Op::Create { realm: None, draft: draft(), login: None };
            store.commit(commit(&store, id, op)).await.expect("a new session");
        }
    });
    println!("{}", (resident_bytes() - before) / f64::from(sessions));
}

/// A fifth of the sessions is ended, purged and replaced by new ones, several times.
fn file(report: &mut Report, sessions: usize) {
    let (runtime, folder) = (load::runtime(), TempDir::new().expect("a folder"));
    let store = RedbStore::open(folder.path().join("ours.redb")).expect("a store");
    let stats: Stats = runtime.block_on(async {
        let mut ids = fill(&store, sessions).await;
        for _ in 0..CHURNS {
            let leaving = ids.split_off(ids.len() * 4 / 5);
            let count = leaving.len();
            store.expire(Selector::ids(leaving)).await.expect("sessions end");
            store.purge().await.expect("rows go");
            ids.extend(fill_by(CLIENTS, &store, count).await);
        }
        store.stats().await.expect("statistics")
    });
    let mut rounds = Rounds::default();
    let file = bytes(stats.file_bytes.unwrap_or_default()) / bytes(sessions as u64);
    rounds.add(file, bytes(PAYLOAD_BYTES as u64));
    report.add(rounds.row("file, RedbStore, after churn", "payload", "bytes", Goal::AtMost(2.2)));
}

#[allow(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
pub(crate) fn bytes(bytes: u64) -> f64 {
    bytes as f64
}

/// Memory of this process.
pub(crate) fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes * 1024.0
}
