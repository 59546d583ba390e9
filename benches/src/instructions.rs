//! Instructions a request takes, counted by callgrind: a figure that no busy machine changes.
//!
//! Each app is run twice in a process of its own, with few and with many requests; the difference
//! leaves out start and end. Valgrind's processor has no instructions for SHA-256, which are
//! therefore counted as the software takes them, several times too many.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use fastsession::MemoryStore;

use crate::apps::{floor, keeping, minimal, ours, plain};
use crate::browser::Template;
use crate::overhead::{self, KINDS};
use crate::report::{Goal, Report, Rounds};
use crate::{Effort, load};

/// First argument of the command that callgrind runs.
pub(crate) const REQUESTS: &str = "requests";

const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt");

pub(crate) fn run(report: &mut Report, effort: Effort) {
    if Command::new("valgrind").arg("--version").output().is_err() {
        report.note("\n## Instructions a request: skipped, valgrind is not installed");
        return;
    }
    report.heading("Instructions a request, MemoryStore");
    let mut record = String::from(
        "# Instructions a request, by `cargo run --release -p fastsession-benches -- \
         instructions`.\n# Overhead is ours less the bare router; least, that of a layer that can do no\n# less; keeping promises, that of one by hand which does what a session has to.\n",
    );
    for kind in &KINDS {
        let count = |app| count(app, kind.name, effort);
        let (Some(bare), Some(ours)) = (count("bare"), count("ours")) else {
            report.skipped(kind.name, "callgrind failed");
            return;
        };
        let mut rounds = Rounds::default();
        rounds.add(ours, bare);
        report.add(rounds.row(kind.name, "bare router", "instructions", Goal::Report));
        // The layers by hand are for the record only.
        if effort.quick {
            continue;
        }
        let (Some(floor), Some(keeping)) = (count("floor"), count("keeping")) else {
            report.skipped(kind.name, "callgrind failed");
            return;
        };
        let [overhead, keeping, floor] = [ours, keeping, floor].map(|count| count - bare);
        let _ = writeln!(
            record,
            "{:<30} ours {ours:>6.0}   bare {bare:>6.0}   overhead {overhead:>6.0}   least {floor:>6.0}   \
             keeping promises {keeping:>6.0}",
            kind.name
        );
    }
    if !effort.quick
        && let Err(error) = std::fs::write(RECORD, record)
    {
        report.note(&format!("{RECORD}: {error}"));
    }
}

fn count(app: &str, kind: &str, effort: Effort) -> Option<f64> {
    let (few, many) = effort.pick((500, 2500), (100, 300));
    let counted = |requests: u32| -> Option<f64> {
        let out = tempfile::NamedTempFile::new().ok()?;
        let output = Command::new("valgrind")
            .args(["--tool=callgrind"])
            .arg(format!("--callgrind-out-file={}", out.path().display()))
            .arg(std::env::current_exe().ok()?)
            .args([REQUESTS, app, kind, &requests.to_string()])
            .output()
            .ok()?;
        total(out.path()).filter(|_| output.status.success())
    };
    // At once: what else a processor does is not counted.
    let (few_counted, many_counted) = std::thread::scope(|scope| {
        let few_counted = scope.spawn(|| counted(few));
        let many_counted = counted(many);
        (few_counted.join().ok().flatten(), many_counted)
    });
    Some((many_counted? - few_counted?) / f64::from(many - few))
}

fn total(path: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("summary: "))?.trim().parse().ok()
}

/// Makes `count` requests of a kind, which is all that the process does.
pub(crate) fn requests(app: &str, kind: &str, count: &str) {
    let kind = KINDS.iter().find(|known| known.name == kind).expect("a kind of request");
    let count: usize = count.parse().expect("a number");
    load::single().block_on(async {
        let sessions = match app {
            "floor" => floor::router(),
            "keeping" => keeping::router(),
            _ => ours::router(MemoryStore::new().expect("a store")),
        };
        let cookies = overhead::cookies(&sessions, kind.has_cookie).await;
        let mut app = match app {
            "ours" | "floor" | "keeping" => sessions,
            "least" => minimal::router(),
            _ => plain::router(),
        };
        let templates: Vec<_> =
            cookies.iter().map(|cookie| Template::new(kind.path, cookie.clone())).collect();
        for template in templates.iter().cycle().take(count) {
            overhead::send(&mut app, template).await;
        }
    });
}
