//! `check`: walk the whole file.

use serde::Serialize;

use super::{FileContext, UNCHANGED};
use crate::cli::args::{CheckArgs, Format};
use crate::cli::confirm::confirm;
use crate::cli::exit::{CORRUPT, DONE, Failure, Outcome};
use crate::cli::report::{self, Listing, Row, View, counted, escape};
use crate::store::{CheckReport, Finding, RedbStoreBuilder};

pub(crate) fn run(args: &CheckArgs, context: &mut FileContext<'_, '_>) -> Outcome {
    if args.repair {
        return repair(args, context);
    }
    let report = context.carry_out(UNCHANGED, RedbStoreBuilder::check)?;
    let FileContext { console, format, now, .. } = context;
    let (format, now) = (*format, *now);
    let mut listing = Listing::new(format, console.screen, now);
    let rows = report.findings.iter().map(FindingRow::from);
    // What has no ID is told by the message that follows.
    let rows: Vec<_> = rows.filter(|row| format != Format::Ids || row.id.is_some()).collect();
    listing.write(&rows, console)?;
    listing.finish::<FindingRow>(console)?;
    let records = counted(report.records, "record");
    if report.is_sound() {
        console.note(&format!("{records}, nothing is damaged"));
        return Ok(DONE);
    }
    Err(Failure::new(CORRUPT, format!("the file is damaged: {}", summary(&report)))
        .because(format!("{records} can be read"))
        .next(
            "stop the application and put a backup in its place with `restore`, or save what can \
             be read with `check --repair`",
        ))
}

fn repair(args: &CheckArgs, context: &mut FileContext<'_, '_>) -> Outcome {
    report::require_object_format(context.format)?;
    let path = context.location.path.display();
    let question = format!(
        "This needs {path} for itself: no process can open it until it is done. What cannot be \
         read is lost to the application; the broken file is kept. Repair?"
    );
    confirm(context.console, &question, args.assent.yes)?;
    let note = context.note(&args.reason);
    let done = context.carry_out(UNCHANGED, |file| file.repair(Some(&note)))?;
    let saved = Saved {
        records: done.records,
        lost: done.lost.iter().map(ToString::to_string).collect(),
        keys_lost: done.keys_lost,
        everyone_ended: done.everyone_ended,
        kept: done.kept.map(|path| path.display().to_string()),
    };
    report::object(context.console, context.format, &saved, |console| {
        if console.quiet { String::new() } else { saved.text() }
    })?;
    Ok(DONE)
}

/// What a repair did.
#[derive(Debug, Serialize)]
struct Saved {
    records: u64,
    lost: Vec<String>,
    keys_lost: bool,
    everyone_ended: bool,
    kept: Option<String>,
}

impl Saved {
    fn text(&self) -> String {
        let records = counted(self.records, "record");
        let Some(kept) = &self.kept else {
            return format!("{records}, nothing is damaged; nothing was done\n");
        };
        let mut text = format!("saved {records}; the broken file is {}\n", escape::line(kept));
        if self.keys_lost {
            text += "the keys were lost: there is a new one, and everybody has to sign in again\n";
        }
        if self.everyone_ended {
            text += "it cannot be known which sessions had been ended: all are now\n";
        }
        if !self.lost.is_empty() {
            let lost = self.lost.join("\n  ");
            text += &["lost:\n  ", &lost, "\n"].concat();
        }
        text
    }
}

/// `2 corrupt, 1 missing`
fn summary(report: &CheckReport) -> String {
    let counts = report.counts();
    let counts: Vec<_> =
        counts.iter().map(|(damage, count)| format!("{count} {}", damage.as_str())).collect();
    counts.join(", ")
}

/// A finding as it is shown.
#[derive(Debug, Serialize)]
struct FindingRow {
    damage: &'static str,
    id: Option<String>,
    detail: String,
}

impl From<&Finding> for FindingRow {
    fn from(finding: &Finding) -> Self {
        let id = finding.id.map(|id| id.to_string());
        Self { damage: finding.damage.as_str(), id, detail: finding.detail.clone() }
    }
}

impl Row for FindingRow {
    const FIELDS: &'static [&'static str] = &["damage", "id", "detail"];
    const HEADINGS: &'static [&'static str] = &["DAMAGE", "ID", "WHAT"];
    const CUT: &'static [usize] = &[1, 2];
    const LEFT_OUT: &'static [usize] = &[];

    fn id(&self) -> String {
        self.id.as_deref().unwrap_or_default().to_owned()
    }

    fn cells(&self, _: &View) -> Vec<String> {
        // Whole: it is what another command is given.
        let id = self.id.clone().unwrap_or_else(|| "-".into());
        vec![self.damage.into(), id, self.detail.clone()]
    }
}
