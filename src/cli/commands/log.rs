//! `log`: who changed what, and why.

use serde::Serialize;

use super::Context;
use crate::cli::args::LogArgs;
use crate::cli::exit::{DONE, Outcome};
use crate::cli::report::{Listing, Row, View};
use crate::cli::time::Instant;
use crate::store::{LogEntry, Note};

pub(crate) async fn run(args: &LogArgs, context: Context<'_, '_>) -> Outcome {
    let Context { store, console, format, .. } = context;
    let entries = store.log(args.limit.unwrap_or(usize::MAX)).await?;
    let rows: Vec<_> = entries.into_iter().map(LogRow::from).collect();
    let mut listing = Listing::new(format, console.screen, store.clock().now());
    listing.write(&rows, console)?;
    listing.finish::<LogRow>(console)?;
    if rows.is_empty() && store.noting(&Note::new("log", store.clock().now())).is_none() {
        console.note("this database keeps no log: only a session file does");
    } else if rows.is_empty() && args.limit != Some(0) {
        console.note("nothing was changed with this tool yet");
    }
    Ok(DONE)
}

/// An entry as it is shown.
#[derive(Debug, Serialize)]
struct LogRow {
    number: u64,
    at: Instant,
    user: String,
    sudo_user: Option<String>,
    host: String,
    verb: String,
    selector: String,
    matched: Option<u64>,
    ended: u64,
    already_over: u64,
    purged: u64,
    reason: Option<String>,
}

impl From<LogEntry> for LogRow {
    fn from(entry: LogEntry) -> Self {
        let LogEntry { number, note, tally } = entry;
        let given = |text: String| (!text.is_empty()).then_some(text);
        Self {
            number,
            at: Instant(note.at),
            user: note.user,
            sudo_user: given(note.sudo_user),
            host: note.host,
            verb: note.verb,
            selector: note.selector,
            matched: note.matched,
            ended: tally.ended,
            already_over: tally.already_over,
            purged: tally.purged,
            reason: given(note.reason),
        }
    }
}

impl LogRow {
    /// What was done, as far as there is something to count.
    fn count(&self) -> String {
        // All sessions of one user, or everyone's, are ended without counting them one by one.
        match (self.ended + self.purged, self.matched) {
            (0, Some(matched)) => matched.to_string(),
            (0, None) => "-".into(),
            (count, _) => count.to_string(),
        }
    }
}

impl Row for LogRow {
    const FIELDS: &'static [&'static str] = &[
        "number",
        "at",
        "user",
        "sudo_user",
        "host",
        "verb",
        "selector",
        "matched",
        "ended",
        "already_over",
        "purged",
        "reason",
    ];
    const HEADINGS: &'static [&'static str] =
        &["TIME", "USER", "HOST", "COMMAND", "SESSIONS", "REASON"];
    const CUT: &'static [usize] = &[1, 2, 3, 5];
    const LEFT_OUT: &'static [usize] = &[2, 5, 4];

    fn id(&self) -> String {
        self.number.to_string()
    }

    fn cells(&self, view: &View) -> Vec<String> {
        let user = match &self.sudo_user {
            Some(sudo) => format!("{} ({sudo})", self.user),
            None => self.user.clone(),
        };
        let command = format!("{} {}", self.verb, self.selector);
        let reason = self.reason.clone().unwrap_or_else(|| "-".into());
        let command = command.trim_end().to_owned();
        vec![view.time(self.at), user, self.host.clone(), command, self.count(), reason]
    }
}
