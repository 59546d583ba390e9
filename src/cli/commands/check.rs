//! `check`: walk the whole file.

use serde::Serialize;

use super::FileContext;
use crate::cli::args::{CheckArgs, Format};
use crate::cli::exit::{CORRUPT, DONE, Failure, Outcome};
use crate::cli::report::{Listing, Row, View, counted};
use crate::store::{CheckReport, Finding};

pub(crate) fn run(_args: &CheckArgs, context: FileContext<'_, '_>) -> Outcome {
    let report = context.on_file(context.builder().check())?;
    let FileContext { console, format, now, .. } = context;
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

/// `2 corrupt, 1 missing`
pub(super) fn summary(report: &CheckReport) -> String {
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

    fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    fn cells(&self, _: &View) -> Vec<String> {
        // Whole: it is what another command is given.
        let id = self.id.clone().unwrap_or_else(|| "-".into());
        vec![self.damage.into(), id, self.detail.clone()]
    }
}
