//! The README's console blocks, run as they stand, with a real server and the real tool.
//!
//! IDs and instants differ from run to run: an ID in the README stands for the one that is met in
//! its place, in later commands too. What is not a command of this project is looked up, and
//! skipped loudly where it is missing; `FASTSESSION_REQUIRE_ALL` makes that a failure.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};

use common::Server;

/// A command and the output shown below it.
struct Step {
    command: String,
    shown: Vec<String>,
}

fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            line if inside => match line.strip_prefix("$ ") {
                Some(command) => steps.push(Step { command: command.into(), shown: Vec::new() }),
                None => steps.last_mut().expect("a command first").shown.push(line.into()),
            },
            _ => {}
        }
    }
    steps
}

fn is_id(word: &str) -> bool {
    word.len() >= 8 && word.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
}

fn is_instant(word: &str) -> bool {
    word.len() == 20 && word.ends_with('Z') && word.as_bytes()[10] == b'T'
}

/// Compares word by word, and learns what the README's IDs stand for.
fn compare(shown: &str, got: &str, ids: &mut HashMap<String, String>) -> bool {
    let (shown, got): (Vec<_>, Vec<_>) =
        (shown.split_whitespace().collect(), got.split_whitespace().collect());
    shown.len() == got.len()
        && shown.iter().zip(&got).all(|(shown, got)| {
            if is_id(shown) && is_id(got) && shown.len() == got.len() {
                ids.entry((*shown).into()).or_insert_with(|| (*got).into()).as_str() == *got
            } else {
                shown == got || (is_instant(shown) && is_instant(got))
            }
        })
}

fn run(command: &str, dir: &Path) -> String {
    let bin = Path::new(env!("CARGO_BIN_EXE_fastsession")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(dir)
        .env("PATH", path)
        .env_remove("FASTSESSION_DB")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    // A reader sees both in the terminal; what is shown in the README is the one that is not empty.
    let (out, err) = (String::from_utf8(output.stdout), String::from_utf8(output.stderr));
    let (out, err) = (out.unwrap(), err.unwrap());
    assert!(output.status.success(), "`{command}` failed: {err}");
    if out.is_empty() { err } else { out }
}

#[test]
fn the_console_blocks_do_what_they_show() {
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        let required = std::env::var_os("FASTSESSION_REQUIRE_ALL").is_some();
        assert!(!required, "curl is not installed");
        eprintln!("SKIPPED: the README's console blocks need curl, which is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
    let mut ids: HashMap<String, String> = HashMap::new();
    let mut server = None;
    let mut ran = 0;
    for Step { command, shown } in steps(&readme.unwrap()) {
        match command.as_str() {
            "cargo run --release --example counter" => {
                let file = dir.path().join("sessions.redb");
                server = Some(Server::start("counter", &file));
                continue;
            }
            // This is what is running.
            "cargo test" => continue,
            _ => {}
        }
        let server = server.as_ref().expect("the server is started first");
        let mut command = command.replace("localhost:18080", &server.address);
        for (shown, met) in &ids {
            command = command.replace(shown, met);
        }
        let output = run(&command, dir.path());
        let got: Vec<_> = output.lines().collect();
        let matches = got.len() == shown.len()
            && shown.iter().zip(&got).all(|(shown, got)| compare(shown, got, &mut ids));
        assert!(matches, "`{command}` shows\n{output}\nthe README\n{}", shown.join("\n"));
        ran += 1;
    }
    assert!(ran >= 10, "the README has hardly any console blocks");
}
