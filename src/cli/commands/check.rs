//! `check`: walk the whole file.

use super::{FileContext, UNCHANGED};
use crate::cli::args::{CheckArgs, Format};
use crate::cli::confirm::confirm;
use crate::cli::exit::{CORRUPT, DONE, Failure, Outcome};
use crate::cli::report::{self, Finding, Listing, Repaired, Row, View, counted, escape};
use crate::store::{self, CheckReport, RedbStoreBuilder};

pub(crate) fn run(args: &CheckArgs, context: &mut FileContext<'_, '_>) -> Outcome {
    if args.repair {
        return repair(args, context);
    }
    let report = context.carry_out(UNCHANGED, RedbStoreBuilder::check)?;
    let FileContext { console, format, now, .. } = context;
    let (format, now) = (*format, *now);
    let mut listing = Listing::new(format, console.screen, now);
    let rows = report.findings.iter().map(Finding::from);
    // What has no ID is told by the message that follows.
    let rows: Vec<_> = rows.filter(|row| format != Format::Ids || row.id.is_some()).collect();
    listing.write(&rows, console)?;
    listing.finish::<Finding>(console)?;
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
    let saved = Repaired {
        records: done.records,
        lost: done.lost.iter().map(ToString::to_string).collect(),
        keys_lost: done.keys_lost,
        everyone_ended: done.everyone_ended,
        kept: done.kept.map(|path| path.display().to_string()),
    };
    report::object(context.console, context.format, &saved, |console| {
        if console.quiet { String::new() } else { text(&saved) }
    })?;
    Ok(DONE)
}

/// What a repair did, for a person.
fn text(saved: &Repaired) -> String {
    let records = counted(saved.records, "record");
    let Some(kept) = &saved.kept else {
        return format!("{records}, nothing is damaged; nothing was done\n");
    };
    let mut text = format!("saved {records}; the broken file is {}\n", escape::line(kept));
    if saved.keys_lost {
        text += "the keys were lost: there is a new one, and everybody has to sign in again\n";
    }
    if saved.everyone_ended {
        text += "it cannot be known which sessions had been ended: all are now\n";
    }
    if !saved.lost.is_empty() {
        let lost = saved.lost.join("\n  ");
        text += &["lost:\n  ", &lost, "\n"].concat();
    }
    text
}

/// `2 corrupt, 1 missing`
fn summary(report: &CheckReport) -> String {
    let counts = report.counts();
    let counts: Vec<_> =
        counts.iter().map(|(damage, count)| format!("{count} {}", damage.as_str())).collect();
    counts.join(", ")
}

impl From<&store::Finding> for Finding {
    fn from(finding: &store::Finding) -> Self {
        let id = finding.id.map(|id| id.to_string());
        Self { damage: finding.damage.as_str().into(), id, detail: finding.detail.clone() }
    }
}

impl Row for Finding {
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
        vec![self.damage.clone(), id, self.detail.clone()]
    }
}
