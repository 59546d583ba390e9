//! What became of every operation, counted.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Counts of one operation.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    /// Answered before, so that it has to be there.
    acknowledged: u64,
    /// Asked for and not answered at that moment.
    pending: u64,
    landed: u64,
    absent: u64,
    lost: u64,
    revived: u64,
}

/// What was found after power cuts, or after faults, by operation.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: BTreeMap<&'static str, Row>,
    /// How often the power was cut, or a run met its fault.
    pub(crate) events: u64,
    /// Of those, the ones with a second cut while the first was being recovered from.
    pub(crate) in_recovery: u64,
    /// Writes that had not been synced, over all cuts, and the fewest at one.
    unsynced: u64,
    fewest_unsynced: Option<u64>,
    longest_opening: Duration,
}

/// What one look at the store says about an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    Landed,
    Absent,
    /// It shows in nothing that is read: a touch, a purge.
    Invisible,
}

impl Table {
    pub(crate) fn acknowledged(&mut self, kind: &'static str, count: u64) {
        self.rows.entry(kind).or_default().acknowledged += count;
    }

    pub(crate) fn pending(&mut self, kind: &'static str, fate: Fate) {
        let row = self.rows.entry(kind).or_default();
        row.pending += 1;
        match fate {
            Fate::Landed => row.landed += 1,
            Fate::Absent => row.absent += 1,
            Fate::Invisible => {}
        }
    }

    pub(crate) fn lost(&mut self, kind: &'static str) {
        self.rows.entry(kind).or_default().lost += 1;
    }

    pub(crate) fn revived(&mut self, kind: &'static str) {
        self.rows.entry(kind).or_default().revived += 1;
    }

    /// A cut that takes `writes` with it.
    pub(crate) fn unsynced(&mut self, writes: u64) {
        self.unsynced += writes;
        self.fewest_unsynced = Some(self.fewest_unsynced.map_or(writes, |few| few.min(writes)));
    }

    pub(crate) fn opened_in(&mut self, time: Duration) {
        self.longest_opening = self.longest_opening.max(time);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (kind, counts) in &other.rows {
            let row = self.rows.entry(kind).or_default();
            row.acknowledged += counts.acknowledged;
            row.pending += counts.pending;
            row.landed += counts.landed;
            row.absent += counts.absent;
            row.lost += counts.lost;
            row.revived += counts.revived;
        }
        self.events += other.events;
        self.opened_in(other.longest_opening);
        self.in_recovery += other.in_recovery;
        self.unsynced += other.unsynced;
        self.fewest_unsynced = match (self.fewest_unsynced, other.fewest_unsynced) {
            (Some(mine), Some(theirs)) => Some(mine.min(theirs)),
            (mine, theirs) => mine.or(theirs),
        };
    }

    /// Sessions that are not as the answers promised.
    pub(crate) fn faults(&self) -> u64 {
        self.rows.values().map(|row| row.lost + row.revived).sum()
    }

    /// As docs/faults.md shows it.
    pub(crate) fn print(&self, title: &str, events: &str) {
        // At once, since other tests print too.
        println!("\n#### {title}\n\n{events}{self}");
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = grouped(self.in_recovery);
        write!(f, ", {second} of them with a second cut during recovery")?;
        if let Some(fewest) = self.fewest_unsynced {
            let all = grouped(self.unsynced);
            write!(f, "; {all} writes were pending, at least {fewest} at each cut")?;
        }
        writeln!(f, ". The longest opening took {:.0?}.\n", self.longest_opening)?;
        writeln!(f, "| operation | acknowledged | pending | landed | absent | lost | revived |")?;
        writeln!(f, "| --- | --: | --: | --: | --: | --: | --: |")?;
        for (kind, row) in &self.rows {
            let Row { acknowledged, pending, landed, absent, lost, revived } = *row;
            write!(f, "| {kind} |")?;
            for count in [acknowledged, pending, landed, absent, lost, revived] {
                write!(f, " {} |", grouped(count))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// `1,234,567`
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
