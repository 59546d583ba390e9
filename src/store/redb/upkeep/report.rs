//! What a walk through a file found.

use std::collections::BTreeMap;

use crate::id::SessionId;

/// What [`check`](crate::store::RedbStoreBuilder::check) found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// Records met that can be decoded.
    pub records: u64,
    /// What is damaged; empty if the file is sound.
    pub findings: Vec<Finding>,
}

/// One thing that is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// Of which kind.
    pub damage: Damage,
    /// The session it is about, if it is about one.
    pub id: Option<SessionId>,
    /// For a person to read.
    pub detail: String,
}

/// A kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Damage {
    /// Pages of the file do not match their checksums, or make no sense.
    Pages,
    /// A record cannot be decoded. Its visitor starts anew.
    Corrupt,
    /// A record is not there, though an index has it.
    Missing,
    /// A table has more rows than can be reached.
    Hidden,
    /// A record is not in an index: it may outlive its end.
    Unindexed,
    /// An index has an entry that its record does not account for.
    Stray,
    /// The key ring cannot be read, or is not the one the file's state names.
    Keys,
    /// What the file says of itself cannot be read, or is not so.
    State,
    /// An ending of many sessions cannot be read.
    Ending,
    /// An entry of the log cannot be read.
    Log,
}

impl Damage {
    /// The word used in JSON and listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pages => "pages",
            Self::Corrupt => "corrupt",
            Self::Missing => "missing",
            Self::Hidden => "hidden",
            Self::Unindexed => "unindexed",
            Self::Stray => "stray",
            Self::Keys => "keys",
            Self::State => "state",
            Self::Ending => "ending",
            Self::Log => "log",
        }
    }
}

impl CheckReport {
    /// Whether nothing is damaged.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    /// How many findings there are of each kind.
    pub fn counts(&self) -> BTreeMap<Damage, u64> {
        let mut counts = BTreeMap::new();
        for finding in &self.findings {
            *counts.entry(finding.damage).or_insert(0) += 1;
        }
        counts
    }

    pub(super) fn find(
        &mut self,
        damage: Damage,
        id: Option<SessionId>,
        detail: impl Into<String>,
    ) {
        self.findings.push(Finding { damage, id, detail: detail.into() });
    }
}
