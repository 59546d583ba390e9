//! Pipes that are closed early, or never filled; standard streams that are not there.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use crate::desk::{Desk, export_of};
use crate::terminal::{command, piped};

/// Everything that writes something to standard output.
const PRINTING: [&str; 24] = [
    "list",
    "list --json",
    "list --format csv",
    "list --format ids",
    "list --sort user",
    "inspect 1a2b",
    "inspect 1a2b --json",
    "expire 2222",
    "purge",
    "stats",
    "stats --json",
    "log",
    "key list",
    "key rotate",
    "check --json",
    "compact",
    "migrate",
    "init --db new.redb",
    "backup copy.redb",
    "restore backup.redb --yes",
    "export",
    "import more.jsonl",
    "completions bash",
    "man",
];

#[test]
fn a_pipe_closed_early_is_exit_code_0_without_a_word() {
    for line in PRINTING {
        let desk = Desk::new();
        let args: Vec<_> = line.split(' ').collect();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut tool = command(desk.path(), &args);
        let output = tool.stdin(Stdio::null()).stdout(writer).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{line}: {said}");
        assert!(!said.contains("error") && !said.contains("panicked"), "{line}: {said}");
        assert!(desk.ids().len() >= 6, "{line}");
    }
}

#[test]
fn a_full_device_is_told() {
    for line in PRINTING {
        let desk = Desk::new();
        let args: Vec<_> = line.split(' ').collect();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut tool = command(desk.path(), &args);
        let output = tool.stdin(Stdio::null()).stdout(full).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{line}: {said}");
        let expected = "error: the output cannot be written\n  No space left on device";
        assert!(said.contains(expected), "{line}: {said}");
    }
}

#[test]
fn a_closed_standard_error_loses_no_data() {
    for line in ["list --format ids", "export", "purge"] {
        let desk = Desk::new();
        let args: Vec<_> = line.split(' ').collect();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut tool = command(desk.path(), &args);
        let output = tool.stdin(Stdio::null()).stderr(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{line}");
        assert!(!output.stdout.is_empty(), "{line}");
    }
}

#[test]
fn an_empty_standard_input_is_nothing_to_do_or_a_mistake() {
    let desk = Desk::new();
    let run = |line: &str| {
        let args: Vec<_> = line.split(' ').collect();
        piped(desk.path(), &args, "")
    };
    assert_eq!(run("expire -").with_code(0).out, "ended 0 sessions\n");
    let nothing = run("inspect --cookie -").with_code(2).err;
    assert!(nothing.starts_with("error: there is nothing on standard input\n"), "{nothing}");
    let none = run("import -").with_code(1).err;
    assert!(none.starts_with("error: line 1 cannot be imported: an export begins"), "{none}");
    assert_eq!(desk.ids().len(), 8);
}

#[test]
fn a_closed_standard_input_is_an_empty_one() {
    let desk = Desk::new();
    for line in ["list", "expire -", "expire --user alice", "import -", "inspect --cookie -"] {
        let script = format!("exec \"$0\" {line} <&-");
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &script, crate::terminal::TOOL]).current_dir(desk.path());
        let output = shell.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(matches!(output.status.code(), Some(0..=2)), "{line}: {said}");
        assert!(!said.contains("panicked"), "{line}: {said}");
    }
    assert_eq!(desk.ids().len(), 8);
}

#[test]
fn a_list_that_waits_for_its_reader_pins_nothing_and_holds_nobody_up() {
    let desk = Desk::new();
    let mut tool = command(desk.path(), &["list", "--state", "all", "--json"]);
    let mut slow = tool.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = slow.stdout.take().unwrap();
    out.read_exact(&mut [0; 1]).unwrap();
    // Others need the file alone only once it is closed; ending and purging goes on meanwhile.
    piped(desk.path(), &["expire", "--all", "--yes"], "").with_code(0);
    piped(desk.path(), &["purge"], "").with_code(0);
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(slow.wait().unwrap().success());
}

#[test]
fn ids_from_a_listing_are_ended_by_the_line() {
    let desk = Desk::new();
    let table = piped(desk.path(), &["list", "--user", "alice"], "").with_code(0).out;
    let rows: Vec<_> = table.lines().skip(1).collect();
    let report = piped(desk.path(), &["expire", "-", "--json"], &rows.join("\n")).with_code(0).out;
    assert!(report.contains("\"ended\": 2"), "{report}");
    let said = piped(desk.path(), &["expire", "-"], "2222\n\nnothing\nffff\n").err;
    assert!(said.contains("line 3: what was given is not a session ID"), "{said}");
    assert!(said.contains("line 4: no session has an ID that begins with ffff"), "{said}");
}

#[test]
fn an_import_reads_a_named_pipe() {
    let desk = Desk::new();
    let pipe = desk.file("pipe");
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, 0o600.into(), 0).unwrap();
    let writer = std::thread::spawn(move || std::fs::write(pipe, export_of(8)));
    let said = piped(desk.path(), &["import", "pipe", "--db", "new.redb"], "").with_code(0).out;
    assert_eq!(said, "imported 8 sessions\n");
    writer.join().unwrap().unwrap();
}
