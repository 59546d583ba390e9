//! The picture in the README: what the tool really shows on a terminal.
//!
//! `SNAPSHOTS=overwrite cargo test --test cli picture` draws it anew.

use std::fmt::Write as _;
use std::path::Path;

use anstyle::{Color, RgbColor};
use anstyle_svg::Term;
use snapbox::Data;

use crate::desk::export_for_picture;
use crate::terminal::{Terminal, piped};

const COLUMNS: u16 = 92;

/// Runs it as a person does, who answers what is asked.
fn shown(dir: &Path, line: &str, answer: Option<&str>) -> String {
    let args: Vec<_> = line.split(' ').collect();
    let terminal = Terminal::start(dir, &args, COLUMNS, &[]);
    if let Some(answer) = answer {
        terminal.wait_for("[y/N] ");
        terminal.types(answer);
    }
    let ran = terminal.end();
    format!("\u{1b}[32m$\u{1b}[0m \u{1b}[1mfastsession {line}\u{1b}[0m\n{}\n", ran.out)
}

#[test]
fn the_picture_in_the_readme_is_what_the_tool_shows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images/tool.svg");
    if !path.exists() && std::env::var_os("SNAPSHOTS").is_none() {
        println!("SKIPPED: pictures are not part of the package");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    piped(dir.path(), &["import", "-"], &export_for_picture()).with_code(0);
    let mut text = shown(dir.path(), "list", None);
    text += &shown(dir.path(), "expire --anonymous --idle-for 6h", Some("y\n"));
    let id = text.lines().find(|line| line.contains("Firefox on Linux")).unwrap()[..4].to_owned();
    text += &shown(dir.path(), &format!("inspect {id} --redact"), None);
    let stats = shown(dir.path(), "stats", None);
    // The file's size is the file system's.
    let is_of_the_file =
        |line: &&str| ["stored", "free ", "file "].iter().any(|name| line.contains(name));
    let stats = stats.lines().filter(|line| !is_of_the_file(line)).take(15);
    for line in stats {
        let _ = writeln!(text, "{line}");
    }
    let rgb = |r, g, b| Color::Rgb(RgbColor(r, g, b));
    let term = Term::new()
        .palette(anstyle_svg::WIN10_CONSOLE)
        .fg_color(rgb(230, 237, 243))
        .bg_color(rgb(22, 27, 34))
        .min_width_px(760);
    let now = instants_of_the_picture(text.trim_end());
    let picture = Data::text(term.render_svg(&now)).raw();
    snapbox::Assert::new().action_env("SNAPSHOTS").eq(picture, Data::read_from(&path, None).raw());
}

/// The same, at noon of a day that stays: each instant as the words behind it tell.
fn instants_of_the_picture(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        match line.split_once("Z (") {
            Some((before, told)) => {
                let label = &before[..before.len() - "2026-11-27T12:00:00".len()];
                let _ = writeln!(out, "{label}{} ({told}", at_noon(told));
            }
            None => {
                let _ = writeln!(out, "{line}");
            }
        }
    }
    out
}

/// What is "1d ago)" or "in 22h)" on 27 November 2026 at noon.
fn at_noon(told: &str) -> String {
    let length = told.trim_end_matches(')').trim_end_matches(" ago").trim_start_matches("in ");
    let (number, unit) = length.split_at(length.len() - 1);
    let hours = number.parse::<i64>().unwrap() * if unit == "d" { 24 } else { 1 };
    let noon = 27 * 24 + 12;
    let at = if told.starts_with("in ") { noon + hours } else { noon - hours };
    let (day, hour) = (at / 24, at % 24);
    let (month, day) = if day > 30 { (12, day - 30) } else { (11, day) };
    format!("2026-{month}-{day:02}T{hour:02}:00:00Z")
}
