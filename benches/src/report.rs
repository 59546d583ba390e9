//! Rows of a table: printed, and written as JSON.

use std::io;
use std::path::Path;

use serde::Serialize;

/// What a ratio is to be.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// Nothing is promised: shown for comparison.
    Report,
}

impl Goal {
    fn is_met(self, ratio: f64) -> Option<bool> {
        match self {
            Self::AtMost(most) => Some(ratio <= most),
            Self::AtLeast(least) => Some(ratio >= least),
            Self::Report => None,
        }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "<= {most:.3}"),
            Self::AtLeast(least) => write!(f, ">= {least:.3}"),
            Self::Report => f.write_str("report"),
        }
    }
}

/// One measure of ours beside its reference, both in `unit`.
#[derive(Serialize)]
pub(crate) struct Row {
    measure: String,
    ours: f64,
    reference: f64,
    reference_name: String,
    unit: &'static str,
    /// Ours divided by the reference: the median over the rounds.
    ratio: f64,
    /// The smallest and the largest ratio of a round.
    spread: [f64; 2],
    goal: String,
    /// `None` where there is no goal.
    met: Option<bool>,
}

/// Pairs of ours and the reference, one pair a round, measured next to each other.
#[derive(Default)]
pub(crate) struct Rounds {
    pairs: Vec<(f64, f64)>,
}

impl Rounds {
    pub(crate) fn add(&mut self, ours: f64, reference: f64) {
        self.pairs.push((ours, reference));
    }

    pub(crate) fn row(
        &self,
        measure: impl Into<String>,
        reference_name: impl Into<String>,
        unit: &'static str,
        goal: Goal,
    ) -> Row {
        let ratios = sorted(self.pairs.iter().map(|(ours, reference)| ours / reference));
        let ratio = median(&ratios);
        Row {
            measure: measure.into(),
            ours: median(&sorted(self.pairs.iter().map(|pair| pair.0))),
            reference: median(&sorted(self.pairs.iter().map(|pair| pair.1))),
            reference_name: reference_name.into(),
            unit,
            ratio,
            spread: [ratios[0], ratios[ratios.len() - 1]],
            goal: goal.to_string(),
            met: goal.is_met(ratio),
        }
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

/// Collects the rows of a run and prints each as it is known.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn heading(&self, title: &str) {
        println!("\n## {title}\n");
        println!("| measure | ours | reference | | unit | ratio | spread | goal | met |");
        println!("| --- | ---: | ---: | --- | --- | ---: | --- | --- | --- |");
    }

    pub(crate) fn add(&mut self, row: Row) {
        let met = match row.met {
            Some(true) => "yes",
            Some(false) => "no",
            None => "",
        };
        println!(
            "| {} | {} | {} | {} | {} | {:.3} | {:.3}–{:.3} | {} | {met} |",
            row.measure,
            number(row.ours),
            number(row.reference),
            row.reference_name,
            row.unit,
            row.ratio,
            row.spread[0],
            row.spread[1],
            row.goal,
        );
        self.record(row);
    }

    /// Like `add`, where the figure was shown otherwise.
    pub(crate) fn record(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub(crate) fn skipped(&self, measure: &str, why: &str) {
        println!("| {measure} | skipped: {why} | | | | | | | |");
    }

    pub(crate) fn note(&self, text: &str) {
        println!("{text}");
    }

    /// Writes all rows to `path`.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, serde_json::to_vec_pretty(&self.rows)?)
    }
}

/// With separators between thousands, and decimals only where they matter.
fn number(value: f64) -> String {
    if value.abs() < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if value < 0.0 { format!("-{out}") } else { out }
}
