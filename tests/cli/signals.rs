//! Work that takes its time: what a person sees of it, and Ctrl-C at any moment.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use fastsession::record::{Data, Header, Record};
use fastsession::store::Import;
use fastsession::{RedbStore, SessionId, SessionStore, Timeouts};
use rustix::fs::{CWD, FileType, mknodat};
use rustix::process::Signal;

use crate::desk::{Desk, export_of};
use crate::terminal::{Ran, Terminal, piped};

/// Enough for the slowest verb to be met in the middle.
const SESSIONS: u32 = 6000;

/// A desk with many sessions, every other one over.
pub(crate) fn crowded() -> Desk {
    let desk = Desk::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = RedbStore::open(desk.file("sessions.redb")).unwrap();
        let now = store.clock().now();
        let record = |number: u32| {
            let age = Duration::from_secs(if number.is_multiple_of(2) { 60 } else { 200_000 });
            let mut header = Header::new(now.saturating_sub(age), &Timeouts::default());
            header.user = number.is_multiple_of(3).then(|| "many".into());
            let mut id = [7; 32];
            id[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
            (SessionId::from_bytes(id), Record::new(&header, Data::EMPTY).unwrap())
        };
        let records: Vec<_> = (0..SESSIONS).map(record).collect();
        store.import(Import { records }).await.unwrap();
        store.close().await.unwrap();
    });
    std::fs::remove_file(desk.file("backup.redb")).unwrap();
    piped(desk.path(), &["backup", "backup.redb"], "").with_code(0);
    std::fs::remove_file(desk.file("more.jsonl")).unwrap();
    piped(desk.path(), &["export", "-o", "more.jsonl"], "").with_code(0);
    desk
}

/// What each command leaves: whether all records are still there.
const VERBS: [(&str, bool); 11] = [
    ("check", true),
    ("check --repair --yes", true),
    ("backup copy.redb", true),
    ("restore backup.redb --yes", true),
    ("compact", true),
    ("export -o all.jsonl", true),
    ("import more.jsonl", true),
    ("expire --anonymous --yes", true),
    ("list --sort user --json", true),
    ("stats --full", true),
    ("purge", false),
];

fn random(seed: u64) -> u64 {
    let mut bits = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits ^ bits >> 31
}

/// `FASTSESSION_SIGNALS` says how often each command is interrupted.
#[test]
fn a_command_interrupted_at_any_moment_says_how_far_it_came_and_leaves_a_whole_file() {
    let rounds = std::env::var("FASTSESSION_SIGNALS").map_or(3, |text| text.parse().unwrap());
    let base = crowded();
    let ids = base.ids();
    let desk = Desk::new();
    let mut told = 0;
    for (line, keeps_all) in VERBS {
        let args: Vec<_> = line.split(' ').collect();
        for round in 0..rounds {
            for name in ["copy.redb", "all.jsonl"] {
                let _ = std::fs::remove_file(desk.file(name));
            }
            for name in ["sessions.redb", "backup.redb", "more.jsonl"] {
                std::fs::copy(base.file(name), desk.file(name)).unwrap();
            }
            let signal = if round % 3 == 2 { Signal::TERM } else { Signal::INT };
            let terminal = Terminal::start(desk.path(), &args, 100, &[]);
            std::thread::sleep(Duration::from_micros(random(round) % 120_000));
            terminal.signal(signal);
            let ran = terminal.end();
            told += u32::from(is_told(line, &ran, signal));
            piped(desk.path(), &["check"], "").with_code(0);
            if keeps_all {
                assert_eq!(desk.ids(), ids, "{line}");
            }
            // Nothing half done has the name of something whole.
            if desk.file("copy.redb").exists() {
                piped(desk.path(), &["check", "--db", "copy.redb"], "").with_code(0);
            }
            if let Ok(export) = std::fs::read_to_string(desk.file("all.jsonl")) {
                // Killed before it listened, it leaves what it had.
                assert!(ran.status.code().is_none() || export.ends_with("}}\n"), "{line}");
            }
        }
    }
    println!("{told} of {} commands were met in the middle", VERBS.len() as u64 * rounds);
}

/// Whether it says that it was interrupted; else it was done, or had not begun.
fn is_told(line: &str, ran: &Ran, signal: Signal) -> bool {
    let code = if signal == Signal::TERM { 143 } else { 130 };
    match ran.status.code() {
        Some(found) if found == code => {
            assert!(ran.out.contains("interrupted"), "{line}: {}", ran.out);
            true
        }
        Some(found) => {
            assert_eq!(found, 0, "{line}: {}", ran.out);
            false
        }
        None => {
            assert!(!ran.out.contains("panicked"), "{line}: {}", ran.out);
            false
        }
    }
}

/// An import fed by a pipe takes as long as the test wants.
fn slow_import(desk: &Desk, args: &[&str]) -> (Terminal, File) {
    let pipe = desk.file("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, 0o600.into(), 0).unwrap();
    let terminal = Terminal::start(desk.path(), args, 80, &[]);
    let feed = File::options().write(true).open(pipe).unwrap();
    (terminal, feed)
}

#[test]
fn a_person_sees_how_far_long_work_is_and_stops_it() {
    let desk = Desk::new();
    let (terminal, mut feed) = slow_import(&desk, &["import", "pipe", "--db", "new.redb"]);
    let text = export_of(8);
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    feed.write_all(lines[..3].concat().as_bytes()).unwrap();
    // Nothing is drawn within the first second.
    std::thread::sleep(Duration::from_millis(1100));
    feed.write_all(lines[3].as_bytes()).unwrap();
    terminal.wait_for("importing ");
    terminal.wait_for("/s");
    terminal.signal(Signal::INT);
    // No further line is needed for that.
    let ran = terminal.end().with_code(130);
    assert!(ran.out.contains("interrupted: "), "{}", ran.out);
    assert!(ran.out.contains("what was done stays done"), "{}", ran.out);
    assert!(ran.out.contains("\r\u{1b}[K"), "the bar was not wiped: {}", ran.out);
    let there =
        piped(desk.path(), &["list", "--state", "all", "--format", "ids", "--db", "new.redb"], "");
    assert_eq!(there.with_code(0).out.lines().count(), 3);
    piped(desk.path(), &["import", "-", "--db", "new.redb"], &text).with_code(0);
}

#[test]
fn quiet_work_draws_nothing() {
    let desk = Desk::new();
    let (terminal, mut feed) = slow_import(&desk, &["import", "pipe", "--db", "new.redb", "-q"]);
    let text = export_of(8);
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    feed.write_all(lines[..3].concat().as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    feed.write_all(lines[3..].concat().as_bytes()).unwrap();
    drop(feed);
    assert_eq!(terminal.end().with_code(0).out, "");
}

#[test]
fn standard_input_that_says_nothing_is_left_on_ctrl_c() {
    for line in ["import -", "expire -", "inspect --cookie -"] {
        let desk = Desk::new();
        let args: Vec<_> = line.split(' ').collect();
        let terminal = Terminal::start(desk.path(), &args, 80, &[]);
        if line == "expire -" {
            terminal.types("2222\n");
        }
        std::thread::sleep(Duration::from_millis(300));
        // As the terminal sends it.
        terminal.types("\u{3}");
        let ran = terminal.end();
        assert!(matches!(ran.status.code(), None | Some(130)), "{line}: {ran:?}");
        if line == "expire -" {
            assert!(ran.out.contains("interrupted: ended 1 session"), "{}", ran.out);
        }
        assert_eq!(desk.ids().len(), 8);
    }
}

#[test]
fn a_question_is_left_on_ctrl_c() {
    for line in ["expire --user alice", "restore backup.redb", "key rotate --retire-after 0s"] {
        let desk = Desk::new();
        let args: Vec<_> = line.split(' ').collect();
        let terminal = Terminal::start(desk.path(), &args, 80, &[]);
        terminal.wait_for("[y/N] ");
        terminal.types("\u{3}");
        let ran = terminal.end();
        assert!(matches!(ran.status.code(), None | Some(130)), "{line}: {ran:?}");
        let live = piped(desk.path(), &["list", "--format", "ids"], "").with_code(0).out;
        assert_eq!(live.lines().count(), 5, "{line}");
    }
}

#[test]
fn a_watched_list_is_drawn_anew_until_ctrl_c() {
    let desk = Desk::new();
    let terminal = Terminal::start(desk.path(), &["list", "--watch"], 100, &[]);
    terminal.wait_for("alice");
    piped(desk.path(), &["expire", "--user", "bob", "--yes"], "").with_code(0);
    // The second picture has one row less; the first one was wiped.
    std::thread::sleep(Duration::from_millis(1200));
    terminal.types("\u{3}");
    let ran = terminal.end().with_code(0);
    let pictures: Vec<_> = ran.out.split("\u{1b}[H\u{1b}[J").collect();
    assert!(pictures.len() >= 3, "{}", ran.out);
    assert!(pictures[1].contains("bob") && !pictures.last().unwrap().contains("bob"));
}
