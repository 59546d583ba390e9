//! What the machine formats hold, as types to read them with.
//!
//! `--format json` writes one document, `--format jsonl` one object on each line; lists know `csv`
//! and `ids`, too. Names are in snake case, IDs whole, instants in RFC 3339 (UTC, whole seconds),
//! sizes in bytes and durations in seconds. Fields may be added, none is removed or changes its
//! meaning within a major version.
//!
//! | command | `json` | |
//! | --- | --- | --- |
//! | `list` | array of [`Session`] | `jsonl`: one a line; `csv`: the same fields; `ids` |
//! | `inspect` | [`Inspection`] | an array, where several IDs are given |
//! | `inspect --cookie -` | [`Verdict`] | an array, where several cookies are given |
//! | `expire`, `purge` | [`Changed`] | |
//! | `key …` | array of [`Key`] | after the change; `jsonl` and `csv`, too |
//! | `stats` | [`Statistics`] | |
//! | `log` | array of [`LogEntry`] | `jsonl`, `csv`, `ids`: their numbers |
//! | `init` | [`Made`] | |
//! | `check` | array of [`Finding`] | `jsonl`, `csv`, `ids`: of damaged sessions |
//! | `check --repair` | [`Repaired`] | |
//! | `backup`, `restore` | [`Copied`], [`Restored`] | |
//! | `compact`, `migrate` | [`Compacted`], [`Migrated`] | |
//! | `import` | [`Imported`] | |
//!
//! In CSV, text that a spreadsheet would take for a formula (it begins with `=`, `+`, `-` or `@`)
//! has a `'` before it, and control characters are shown as `\u{1b}`, so that a row is a line; the
//! other formats have text as it is, JSON with such characters escaped. An empty field stands for
//! `null`. The lines of `export` are a format of their own: see `export --help`.
//!
//! All of it stands on one page for people in `docs/scripting.md`.
//!
//! What a command exits with is told by the constants of [`crate::cli::exit`].
//!
//! ```
//! use fastsession::cli::report::Changed;
//! let text = r#"{"matched":2,"ended":2,"already_over":0,"purged":0,"dry_run":false}"#;
//! let report: Changed = serde_json::from_str(text)?;
//! assert_eq!(report.ended, Some(2));
//! # Ok::<(), serde_json::Error>(())
//! ```

pub(crate) mod escape;
mod file;
mod json;
mod listing;
mod session;
mod types;
pub(crate) mod value;

use serde::Serialize;

use super::args::Format;
use super::console::{Console, Style};
use super::exit::{self, Failure, Outcome};

pub use file::{Compacted, Copied, Finding, LogEntry, Made, Migrated, Repaired, Restored, Verdict};
pub(crate) use listing::{Listing, Row, View};
pub(crate) use session::SessionRow;
pub use types::{
    Bucket, Bytes, Changed, Counts, Imported, Inspection, Key, Session, Statistics, TopUser,
};

/// One line of JSON that is safe to show.
pub(crate) fn to_json(value: &impl Serialize) -> Outcome<String> {
    serde_json::to_string(value).map(|text| escape::json(&text)).map_err(unwritable)
}

/// Indented JSON that is safe to show.
pub(crate) fn to_pretty_json(value: &impl Serialize) -> Outcome<String> {
    serde_json::to_string_pretty(value).map(|text| escape::json(&text)).map_err(unwritable)
}

/// Writes one object: as JSON, or as the text for people.
pub(crate) fn object(
    console: &mut Console<'_>,
    format: Format,
    value: &impl Serialize,
    text: impl FnOnce(&Console<'_>) -> String,
) -> Outcome<()> {
    let rendered = match format {
        Format::Table => text(console),
        Format::Json => to_pretty_json(value)? + "\n",
        Format::Jsonl => to_json(value)? + "\n",
        Format::Csv | Format::Ids => return Err(lists_only(format)),
    };
    console.print(&rendered)
}

/// Fails early for a format that only lists have, before anything is changed.
pub(crate) fn require_object_format(format: Format) -> Outcome<()> {
    match format {
        Format::Table | Format::Json | Format::Jsonl => Ok(()),
        Format::Csv | Format::Ids => Err(lists_only(format)),
    }
}

fn lists_only(format: Format) -> Failure {
    let name = if format == Format::Csv { "csv" } else { "ids" };
    Failure::usage(format!("--format {name} is for lists"))
        .next("use --format table, json or jsonl")
}

fn unwritable(error: impl std::fmt::Display) -> Failure {
    Failure::new(exit::FAILED, "the result cannot be written in this format")
        .because(error.to_string())
}

/// One line for each value there is, with its name before it.
pub(crate) fn fields(
    console: &Console<'_>,
    fields: impl IntoIterator<Item = (&'static str, Option<String>)>,
) -> String {
    let fields: Vec<_> =
        fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    fields.into_iter().fold(String::new(), |out, (name, value)| {
        out + &console.paint(Style::Bold, &format!("{name:<width$}")) + "  " + &value + "\n"
    })
}

impl Changed {
    /// Writes the report; for people it is `text`, which `--quiet` leaves out.
    pub(crate) fn write(
        &self,
        console: &mut Console<'_>,
        format: Format,
        text: &str,
    ) -> Outcome<()> {
        object(console, format, self, |console| {
            if console.quiet { String::new() } else { format!("{text}\n") }
        })
    }
}

/// `1 session`, `2 sessions`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A size in its largest binary unit.
pub(crate) fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => {
            let tenths = (u128::from(bytes) * 10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}
