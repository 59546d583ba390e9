//! Console blocks, run as they stand: commands, and the output that is shown below them.
//!
//! IDs and instants differ from run to run: a shown ID stands for the one that is met in its place,
//! in later commands too.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "each test binary uses its own part")]

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};

/// A command and the output shown below it.
pub struct Step {
    pub command: String,
    pub shown: Vec<String>,
}

pub fn steps(readme: &str) -> Vec<Step> {
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

fn run(command: &str, dir: &Path, db: Option<&str>) -> String {
    let bin = Path::new(env!("CARGO_BIN_EXE_fastsession")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(dir)
        .env("PATH", path)
        .env("FASTSESSION_DB", db.unwrap_or_default())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    // A reader sees both in the terminal; what is shown in the README is the one that is not empty.
    let (out, err) = (String::from_utf8(output.stdout), String::from_utf8(output.stderr));
    let (out, err) = (out.unwrap(), err.unwrap());
    assert!(output.status.success(), "`{command}` failed: {err}");
    if out.is_empty() { err } else { out }
}

/// Whether `curl` is there, which the blocks need. Where it has to be, a test without it fails.
#[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
pub fn has_curl() -> bool {
    let found = Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !found {
        let required = std::env::var_os("FASTSESSION_REQUIRE_ALL").is_some();
        assert!(!required, "curl is not installed");
        eprintln!("SKIPPED: the README's console blocks need curl, which is not installed");
    }
    found
}

/// What the README's IDs stand for in one run.
#[derive(Default)]
pub struct Walk {
    ids: HashMap<String, String>,
    pub ran: usize,
}

impl Walk {
    /// Runs a step in `dir`, on the server at `address`, with `db` as the environment's database.
    pub fn run(&mut self, step: &Step, dir: &Path, address: &str, db: Option<&str>) {
        let mut command = step.command.replace("localhost:18080", address);
        for (shown, met) in &self.ids {
            command = command.replace(shown, met);
        }
        let output = run(&command, dir, db);
        let got: Vec<_> = output.lines().collect();
        let shown = &step.shown;
        let matches = got.len() == shown.len()
            && shown.iter().zip(&got).all(|(shown, got)| compare(shown, got, &mut self.ids));
        assert!(matches, "`{command}` shows\n{output}\nthe README\n{}", shown.join("\n"));
        self.ran += 1;
    }
}
