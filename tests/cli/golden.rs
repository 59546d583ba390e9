//! What every verb says in every format, on and off a terminal, with and without colour.
//!
//! `SNAPSHOTS=overwrite cargo test --test cli` writes the files in `tests/cli/golden` anew.

use std::fmt::Write as _;
use std::path::Path;

use snapbox::Data;

use crate::desk::{Desk, redacted};
use crate::terminal::{Terminal, piped};

const FORMATS: [&str; 5] = ["table", "json", "jsonl", "csv", "ids"];
const COLUMNS: u16 = 100;

/// Compares with `tests/cli/golden/NAME.txt`.
pub(crate) fn compare(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/golden");
    let expected = Data::read_from(&path.join(format!("{name}.txt")), None).raw();
    snapbox::Assert::new().action_env("SNAPSHOTS").eq(Data::text(text.to_owned()).raw(), expected);
}

/// A command and what it did, in pipes.
pub(crate) fn in_pipes(line: &str, stdin: &str) -> String {
    let desk = Desk::new();
    let args: Vec<_> = line.split_whitespace().collect();
    let ran = piped(desk.path(), &args, stdin);
    let mut text = format!("$ {line} | cat\n{}", ran.out);
    if !ran.err.is_empty() {
        let _ = write!(text, "[standard error]\n{}", ran.err);
    }
    let _ = writeln!(text, "[exit code {}]\n", ran.code());
    redacted(&text)
}

/// The same on a terminal.
pub(crate) fn on_terminal(line: &str, columns: u16, env: &[(&str, &str)]) -> String {
    let desk = Desk::new();
    let args: Vec<_> = line.split_whitespace().collect();
    let ran = Terminal::start(desk.path(), &args, columns, env).end();
    let set: Vec<_> = env.iter().map(|(name, value)| format!("{name}={value} ")).collect();
    let set = set.concat();
    redacted(&format!("$ {set}{line}\n{}[exit code {}]\n\n", ran.out, ran.code()))
}

/// Every format of a command, each way.
fn all_ways(line: &str, columns: u16) -> String {
    let mut text = String::new();
    for format in FORMATS {
        let line = format!("{line} --format {format}");
        text += &in_pipes(&line, "");
        text += &on_terminal(&line, columns, &[]);
        text += &on_terminal(&line, columns, &[("NO_COLOR", "1")]);
    }
    text
}

macro_rules! golden {
    ($($name:ident: $line:literal,)*) => {
        $(#[test]
        fn $name() {
            compare(stringify!($name), &all_ways($line, COLUMNS));
        })*
    };
}

golden! {
    list: "list",
    list_all: "list --state all",
    list_sorted: "list --sort user --reverse --limit 3",
    list_nothing: "list --user nobody",
    inspect: "inspect 1a2b",
    inspect_hostile: "inspect 7777",
    inspect_over: "inspect 4444",
    inspect_redacted: "inspect 1a2b --redact",
    inspect_several: "inspect 1a2b 2222",
    expire: "expire 2222",
    expire_by_filter: "expire --user alice --yes",
    expire_dry_run: "expire --all --dry-run",
    purge: "purge",
    purge_dry_run: "purge --dry-run",
    stats: "stats",
    check: "check",
    compact: "compact",
    migrate: "migrate",
    init: "init --db new.redb",
    backup: "backup copy.redb",
    restore: "restore backup.redb --yes",
    export: "export",
    export_to_file: "export -o all.jsonl",
    import: "import more.jsonl",
}

/// These have columns as wide as names of this machine, or as the time since the file was made.
#[test]
fn log_and_keys() {
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let user = piped(Desk::new().path(), &["log", "--format", "csv"], "").with_code(0).out;
    let user = user.lines().nth(1).unwrap().split(',').nth(2).unwrap().to_owned();
    for verb in ["log", "key list", "key rotate"] {
        let text = on_any_machine(&all_ways(verb, 300), &machine, &user);
        compare(&verb.replace(' ', "_"), &text);
    }
}

fn on_any_machine(text: &str, machine: &str, user: &str) -> String {
    let mut text = text.replace(&format!(",{user},,{machine},"), ",user,,host,");
    for (name, value) in [("user", user), ("host", machine)] {
        for colon in [":", ": "] {
            let field = |value: &str| format!("\"{name}\"{colon}\"{value}\"");
            text = text.replace(&field(value), &field(name));
        }
    }
    let word = |word: &str| match word {
        word if word == machine => "host".into(),
        word if word == user => "user".into(),
        word if word.ends_with(" ago") => "now".into(),
        // A day less what has passed, if the clock has ticked since.
        "in 1d" => "in 23h".into(),
        word => word.to_owned(),
    };
    let line = |line: &str| {
        let words = line.split("  ").map(str::trim).filter(|word| !word.is_empty());
        let words: Vec<_> = words.map(word).collect();
        if line.starts_with(' ') { line.to_owned() } else { words.join("  ") }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n") + "\n"
}

#[test]
fn a_narrow_terminal_gets_whole_rows() {
    let lines = ["list --state all", "stats", "inspect 1a2b"];
    let columns = [80, 60, 40];
    let text =
        columns.iter().flat_map(|columns| lines.map(|line| on_terminal(line, *columns, &[])));
    let text: String = text.collect();
    compare("narrow", &text);
}

#[test]
fn colour_is_always_or_never_when_asked_for() {
    let mut text = in_pipes("inspect 1a2b --color always", "");
    text += &in_pipes("inspect ffff --color always", "");
    text += &on_terminal("inspect 1a2b --color never", COLUMNS, &[]);
    text += &on_terminal("inspect ffff", COLUMNS, &[("NO_COLOR", "")]);
    compare("color", &text);
}

#[test]
fn quiet_leaves_data_and_errors() {
    let lines =
        ["list -q", "purge -q", "expire 2222 -q", "key rotate -q", "check -q", "inspect ff -q"];
    compare("quiet", &lines.iter().map(|line| in_pipes(line, "")).collect::<String>());
}

/// Scripts and manuals are the same wherever they go.
#[test]
fn completions_and_the_manual_know_no_terminal() {
    let desk = Desk::new();
    for line in ["completions bash", "completions zsh", "completions fish", "man"] {
        let args: Vec<_> = line.split(' ').collect();
        let out = piped(desk.path(), &args, "").with_code(0).out;
        let shown = Terminal::start(desk.path(), &args, COLUMNS, &[]).end().with_code(0).out;
        assert_eq!(out, shown, "{line}");
        for word in ["list", "expire", "purge", "restore", "migrate"] {
            assert!(out.contains(word), "{line} lacks {word}");
        }
    }
}
