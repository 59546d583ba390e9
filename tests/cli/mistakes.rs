//! What is said of a mistake, and what it exits with.

use std::fmt::Write as _;

use redb::ReadableTable as _;

use crate::desk::{Desk, redacted};
use crate::golden::{compare, in_pipes, on_terminal};
use crate::terminal::{Terminal, piped};

fn all(name: &str, lines: &[&str]) {
    compare(name, &lines.iter().map(|line| in_pipes(line, "")).collect::<String>());
}

#[test]
fn a_slip_of_the_finger_is_answered_with_what_may_be_meant() {
    all(
        "did_you_mean",
        &[
            "lst",
            "lisst",
            "purg",
            "key rotat",
            "list --usr alice",
            "list --format jsn",
            "list --state expird",
            "list --sort age",
            "expire --al",
            "completions bsh",
        ],
    );
}

#[test]
fn usage_is_exit_code_2() {
    all(
        "usage",
        &[
            "list --json --format csv",
            "list --anonymous --user alice",
            "list --watch",
            "expire",
            "expire --except 1a2b",
            "expire 1a2b --user alice",
            "expire --all --user alice",
            "expire 1",
            "expire xyz",
            "expire --user alice",
            "inspect",
            "inspect xyz",
            "inspect --cookie abc",
            "purge --state live",
            "key retire xyz",
            "export --with-keys",
            "restore backup.redb",
            "check --repair",
            "stats --format csv",
        ],
    );
}

#[test]
fn a_time_or_a_number_that_makes_no_sense_is_exit_code_2() {
    all(
        "times",
        &[
            "list --idle-for -5m",
            "list --idle-for=-5m",
            "list --older-than 5",
            "list --idle-for 5y",
            "list --newer-than 99999999999999999999d",
            "list --older-than 99999999999999w",
            "list --older-than 2026-02-30T00:00:00Z",
            "list --older-than yesterday",
            "list --limit -1",
            "list --limit 99999999999999999999",
            "list --wait -5s",
            "list --wait 9999999999w --format ids",
            "key rotate --retire-after -1h",
            "list --older-than 9999999999999w --format ids",
        ],
    );
}

#[test]
fn what_is_not_there_is_exit_code_3() {
    all(
        "missing",
        &[
            "inspect ffff",
            "inspect 1a",
            "expire ffff",
            "expire 1a2",
            "expire ffff 2222",
            "list --except ffff",
            "key retire 00000000",
            "inspect ffff 2222 --format ids",
        ],
    );
}

#[test]
fn what_fails_is_exit_code_1_and_says_what_to_do() {
    all(
        "failures",
        &[
            "list --db nothing.redb",
            "list --db more.jsonl",
            "list --db .",
            "list --db /dev/null",
            "list --db=",
            "init",
            "import nothing.jsonl --db new.redb",
            "import . --db new.redb",
            "backup backup.redb",
            "backup nowhere/copy.redb",
            "restore nothing.redb --yes",
            "restore more.jsonl --yes",
            "export -o more.jsonl",
            "export -o nowhere/all.jsonl",
            "key import --file nothing",
            "check --db nothing.redb",
            "backup sessions.redb",
            "restore sessions.redb --yes",
        ],
    );
}

#[test]
fn a_file_in_use_is_exit_code_4_and_names_its_holder() {
    let desk = Desk::new();
    let file = desk.file("sessions.redb");
    let run = |line: &str| {
        let args: Vec<_> = line.split(' ').collect();
        let ran = piped(desk.path(), &args, "").with_code(4);
        assert_eq!(ran.out, "");
        let holder = format!("process {} (", std::process::id());
        assert!(ran.err.contains(&holder), "{line}: {}", ran.err);
        // A process that another test is about to start may have it for a moment, too.
        let line_of = |said: &str| {
            let is_holder = said.starts_with("  process ");
            if is_holder { "  process N (NAME)\n".to_owned() } else { format!("{said}\n") }
        };
        let said: String = ran.err.lines().map(line_of).collect();
        format!("$ {line}\n{said}[exit code 4]\n\n")
    };
    let store = fastsession::RedbStore::builder(&file).exclusive().open().unwrap();
    let mut text = String::from("A process has the file for itself.\n\n");
    for line in ["list --wait 0s", "expire 1a2b --wait 0s", "check", "compact", "backup copy.redb"]
    {
        text += &run(line);
    }
    drop(store);
    // Closed by a thread of the store's own.
    let shared = loop {
        match fastsession::RedbStore::open(&file) {
            Ok(store) => break store,
            Err(error) => assert!(error.is_in_use(), "{error}"),
        }
    };
    text += "A process serves from the file.\n\n";
    for line in ["compact", "check --repair --yes", "restore backup.redb --yes"] {
        text += &run(line);
    }
    piped(desk.path(), &["list"], "").with_code(0);
    drop(shared);
    compare("in_use", &redacted(&text));
}

#[test]
fn damage_is_exit_code_5() {
    let desk = Desk::new();
    let file = desk.file("sessions.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    // In the label of one record, which its checksum does not cover any more.
    let places = bytes.windows(16).enumerate().filter(|(_, part)| *part == b"Firefox on Linux");
    let places: Vec<_> = places.map(|(place, _)| place).collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place] = b'f';
    }
    std::fs::write(&file, bytes).unwrap();
    let mut text = String::new();
    for line in ["list --format ids", "stats --json", "inspect 1a2b", "expire 1a2b", "export -q"] {
        let args: Vec<_> = line.split(' ').collect();
        let ran = piped(desk.path(), &args, "").with_code(5);
        let _ = writeln!(text, "$ {line}\n{}[exit code 5]\n", ran.err);
    }
    let found = piped(desk.path(), &["check", "--format", "ids"], "").with_code(5);
    assert_eq!(found.out, "1a2b".repeat(16) + "\n", "{}", found.err);
    compare("damage", &redacted(&text));
}

#[test]
fn a_file_of_a_newer_version_is_exit_code_6_and_left_alone() {
    let desk = Desk::new();
    make_newer(&desk.file("sessions.redb"));
    std::fs::copy(desk.file("sessions.redb"), desk.file("backup.redb")).unwrap();
    let before = std::fs::read(desk.file("sessions.redb")).unwrap();
    let lines = [
        "list",
        "inspect 1a2b",
        "expire 1a2b",
        "purge",
        "stats",
        "key rotate",
        "migrate",
        "export",
        "import more.jsonl",
        "restore backup.redb --yes --db new.redb",
    ];
    let mut text = String::new();
    for line in lines {
        let args: Vec<_> = line.split(' ').collect();
        let ran = piped(desk.path(), &args, "").with_code(6);
        assert_eq!(ran.out, "", "{line}");
        let _ = writeln!(text, "$ {line}\n{}[exit code 6]\n", ran.err);
        assert!(std::fs::read(desk.file("sessions.redb")).unwrap() == before, "{line}");
    }
    compare("newer", &redacted(&text));
}

/// Gives the file a schema, and an oldest reader, of some later version.
fn make_newer(file: &std::path::Path) {
    use twox_hash::XxHash3_64;
    const META: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("meta-1");
    let database = redb::Database::create(file).unwrap();
    let txn = database.begin_write().unwrap();
    {
        let mut meta = txn.open_table(META).unwrap();
        let mut state = meta.get("state").unwrap().unwrap().value()[8..].to_vec();
        state[..4].copy_from_slice(&9_u32.to_le_bytes());
        state[4..8].copy_from_slice(&8_u32.to_le_bytes());
        let seed = XxHash3_64::oneshot(&state);
        let sum = XxHash3_64::oneshot_with_seed(seed, b"state").to_le_bytes();
        meta.insert("state", [&sum[..], &state].concat().as_slice()).unwrap();
    }
    txn.commit().unwrap();
}

/// What a person is asked, and what becomes of each answer.
#[test]
fn a_question_is_answered_with_yes_or_nothing_is_done() {
    let questions = [
        "expire --user alice",
        "expire --all",
        "restore backup.redb",
        "check --repair",
        "key rotate --retire-after 0s",
    ];
    let mut text = String::new();
    for line in questions {
        for answer in ["y\n", "YES\n", "n\n", "\n", "\u{4}"] {
            let desk = Desk::new();
            let args: Vec<_> = line.split(' ').collect();
            let terminal = Terminal::start(desk.path(), &args, 200, &[]);
            terminal.wait_for("[y/N] ");
            terminal.types(answer);
            let ran = terminal.end();
            let _ = writeln!(text, "$ {line}\n{}[exit code {}]\n", ran.out, ran.code());
            if ran.code() != 0 {
                assert_eq!(desk.ids().len(), 8, "{line}");
            }
        }
    }
    compare("questions", &redacted(&text).replace("^D\u{8}\u{8}", ""));
}

#[test]
fn a_mistake_on_a_terminal_is_red_unless_colour_is_not_wanted() {
    let lines = ["lst", "inspect ffff", "list --usr x", "expire"];
    let text = lines.iter().flat_map(|line| {
        [on_terminal(line, 100, &[]), on_terminal(line, 100, &[("NO_COLOR", "1")])]
    });
    compare("mistakes_terminal", &text.collect::<String>());
}
