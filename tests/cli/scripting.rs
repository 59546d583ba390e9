//! The machine formats, read with the public types, and the page that documents them.

use std::collections::BTreeSet;

use fastsession::cli::exit;
use fastsession::cli::report::{
    Changed, Compacted, Copied, Finding, Imported, Inspection, Key, LogEntry, Made, Migrated,
    Repaired, Restored, Session, Statistics, Verdict,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::desk::Desk;
use crate::terminal::piped;

const PAGE: &str = include_str!("../../docs/scripting.md");

fn json(line: &str) -> Value {
    let desk = Desk::new();
    let args: Vec<_> = line.split(' ').chain(["--json"]).collect();
    let ran = piped(desk.path(), &args, "");
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{line}: {error}: {ran:?}"))
}

/// Whether `T` holds all that is written, and nothing is written that it lacks.
fn is_a<T: DeserializeOwned + Serialize>(value: &Value, line: &str) {
    let read: T =
        serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{line}: {error}"));
    assert_eq!(serde_json::to_value(read).unwrap(), *value, "{line}");
}

fn is_list_of<T: DeserializeOwned + Serialize>(line: &str) {
    is_a::<Vec<T>>(&json(line), line);
}

#[test]
fn the_public_types_hold_all_that_is_written() {
    is_list_of::<Session>("list --state all");
    is_list_of::<Inspection>("inspect 1a2b 7777 4444");
    is_list_of::<Key>("key list");
    is_list_of::<Key>("key rotate");
    is_list_of::<LogEntry>("log");
    is_list_of::<Finding>("check");
    is_a::<Inspection>(&json("inspect 1a2b --redact"), "inspect");
    is_a::<Changed>(&json("expire 2222"), "expire");
    is_a::<Changed>(&json("purge"), "purge");
    is_a::<Statistics>(&json("stats"), "stats");
    is_a::<Made>(&json("init --db new.redb"), "init");
    is_a::<Copied>(&json("backup copy.redb"), "backup");
    is_a::<Restored>(&json("restore backup.redb --yes"), "restore");
    is_a::<Compacted>(&json("compact"), "compact");
    is_a::<Migrated>(&json("migrate"), "migrate");
    is_a::<Repaired>(&json("check --repair --yes"), "check --repair");
    is_a::<Imported>(&json("import more.jsonl"), "import");
    let desk = Desk::new();
    let said = piped(desk.path(), &["inspect", "--cookie", "-", "--json"], "sid=nonsense");
    is_a::<Verdict>(&serde_json::from_str(&said.with_code(3).out).unwrap(), "inspect --cookie");
}

#[test]
fn lines_of_json_and_of_csv_have_the_fields_of_the_array() {
    for line in ["list --state all", "key rotate", "log"] {
        let desk = Desk::new();
        let run = |format: &str| {
            let args: Vec<_> = line.split(' ').chain(["--format", format]).collect();
            piped(desk.path(), &args, "").with_code(0).out
        };
        let (lines, csv) = (run("jsonl"), run("csv"));
        let fields = csv.lines().next().unwrap();
        for row in lines.lines() {
            let row: serde_json::Map<String, Value> = serde_json::from_str(row).unwrap();
            let names: BTreeSet<_> = row.keys().map(String::as_str).collect();
            assert_eq!(names, fields.split(',').collect(), "{line}");
        }
    }
}

/// Names of all fields, but for those of an application's own data.
fn names_in(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| names_in(item, names)),
        Value::Object(map) => {
            for (name, value) in map {
                names.insert(name.clone());
                if name != "data" {
                    names_in(value, names);
                } else if let Some(Value::Object(stored)) =
                    value.as_object().and_then(|data| data.values().next())
                {
                    names.extend(stored.keys().cloned());
                }
            }
        }
        _ => {}
    }
}

#[test]
fn the_page_names_every_field_and_every_exit_code() {
    let mut names = BTreeSet::new();
    let lines = [
        "list --state all",
        "inspect 1a2b --redact",
        "inspect 4444",
        "key rotate",
        "log",
        "expire 2222",
        "purge",
        "stats",
        "init --db new.redb",
        "backup copy.redb",
        "restore backup.redb --yes",
        "compact",
        "migrate",
        "check --repair --yes",
        "import more.jsonl",
    ];
    for line in lines {
        names_in(&json(line), &mut names);
    }
    let desk = Desk::new();
    piped(desk.path(), &["export", "--with-keys", "-o", "all.jsonl"], "").with_code(0);
    let export = std::fs::read_to_string(desk.file("all.jsonl")).unwrap();
    for line in export.lines() {
        names_in(&serde_json::from_str(line).unwrap(), &mut names);
    }
    let cookie = piped(desk.path(), &["inspect", "--cookie", "-", "--json"], "sid=x").out;
    names_in(&serde_json::from_str(&cookie).unwrap(), &mut names);
    names.extend(["damage", "detail"].map(Into::into));
    let missing: Vec<_> = names
        .iter()
        .filter(|name| {
            !PAGE.contains(&format!("`{name}`")) && !PAGE.contains(&format!("\"{name}\""))
        })
        .collect();
    assert_eq!(missing, [""; 0], "fields that the page does not name");
    let codes = [
        exit::DONE,
        exit::FAILED,
        exit::USAGE,
        exit::NO_SUCH_SESSION,
        exit::IN_USE,
        exit::CORRUPT,
        exit::VERSION_MISMATCH,
        exit::INTERRUPTED,
    ];
    for code in codes {
        assert!(PAGE.contains(&format!("| {code}")), "the page does not name exit code {code}");
    }
    assert!(PAGE.contains(&exit::TERMINATED.to_string()));
}

/// The shell lines of the page, as far as they are the tool's own.
#[test]
fn the_pages_pipeline_ends_what_it_lists() {
    let desk = Desk::new();
    let script = "\"$0\" list --user alice --format ids | \"$0\" expire - --json";
    let mut shell = std::process::Command::new("sh");
    let output =
        shell.args(["-c", script, crate::terminal::TOOL]).current_dir(desk.path()).output();
    let report: Changed = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    assert_eq!((report.matched, report.ended), (Some(2), Some(2)));
}
