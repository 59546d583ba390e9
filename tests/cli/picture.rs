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

/// The same, at a time that stays.
fn instants_of_the_picture(text: &str) -> String {
    let mut out = String::new();
    for part in text.split_inclusive(' ') {
        let word = part.trim_end();
        let is_instant = word.len() == 20 && word.ends_with('Z') && word.as_bytes()[10] == b'T';
        out += if is_instant { "2026-11-27T12:00:00Z " } else { part };
    }
    out
}
