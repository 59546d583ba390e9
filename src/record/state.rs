//! Whether a session lives, and if not, why: one pure function for every store.

use std::time::Duration;

use super::{Header, Record};
use crate::expiry::{Timeouts, Timestamp};
use crate::id::SessionId;

/// Who or what ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndedBy {
    /// The application: a logout, or `store.expire`.
    Application,
    /// An operator, with the command-line tool.
    Cli,
    /// The cap on sessions per user, in favour of a newer session.
    Cap,
    /// The idle or the absolute timeout.
    Timeout,
}

impl EndedBy {
    /// The word used in JSON, logs and listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Cli => "cli",
            Self::Cap => "cap",
            Self::Timeout => "timeout",
        }
    }

    /// The number it is stored as.
    pub const fn code(self) -> u8 {
        match self {
            Self::Application => 0,
            Self::Cli => 1,
            Self::Cap => 2,
            Self::Timeout => 3,
        }
    }

    /// The inverse of [`EndedBy::code`].
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Application,
            1 => Self::Cli,
            2 => Self::Cap,
            3 => Self::Timeout,
            _ => return None,
        })
    }
}

/// What a record says of its own end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mark {
    /// Nothing: it lives until its deadline.
    None,
    /// It was ended. Its header is kept until `until`.
    Ended {
        /// When.
        at: Timestamp,
        /// Until when the header is kept.
        until: Timestamp,
        /// Until when a request that came in before the end may still be running: its writes are
        /// refused without a cookie, so that it cannot overwrite what a logout sent.
        grace: Timestamp,
        /// By whom.
        by: EndedBy,
    },
    /// It was renewed. Until `until`, a request that still carries its token is taken for one
    /// running beside the renewal; after that the token is as good as unknown.
    Superseded {
        /// When.
        at: Timestamp,
        /// Until when.
        until: Timestamp,
        /// The session that took its place.
        successor: SessionId,
    },
}

/// The end of every session of one user, or of everyone: those of an earlier generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Records whose generation is smaller are over.
    pub generation: u64,
    /// When it was decided.
    pub at: Timestamp,
    /// By whom.
    pub by: EndedBy,
}

/// The endings that concern one record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endings {
    /// Everyone's sessions were ended.
    pub everyone: Option<Ending>,
    /// All sessions of the record's user were ended.
    pub user: Option<Ending>,
}

impl Endings {
    /// The first ending that ends a record of `generation`.
    #[inline]
    pub fn ending(&self, generation: u64) -> Option<Ending> {
        if self.everyone.is_none() && self.user.is_none() {
            return None;
        }
        [self.everyone, self.user]
            .into_iter()
            .flatten()
            .filter(|ending| generation < ending.generation)
            .min_by_key(|ending| ending.at)
    }
}

/// Whether a stored session lives, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// It can be loaded.
    Live,
    /// Its idle or absolute timeout has passed.
    Expired,
    /// It was ended.
    Ended,
    /// It was renewed: another session took its place.
    Superseded,
}

impl State {
    /// The word used in JSON, logs and listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Expired => "expired",
            Self::Ended => "ended",
            Self::Superseded => "superseded",
        }
    }
}

/// Why there is no session to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Absence {
    /// There is no record of that ID.
    NotFound,
    /// Its idle or absolute timeout has passed.
    Expired,
    /// It was ended.
    Ended {
        /// When.
        at: Timestamp,
        /// By whom.
        by: EndedBy,
        /// Whether that was a logout so short ago that this request may have been running beside
        /// it.
        concurrent: bool,
    },
    /// It was renewed a moment ago by a request running beside this one.
    Superseded {
        /// The session that took its place.
        successor: SessionId,
    },
    /// Its record cannot be decoded. It is kept for `fastsession check`.
    Corrupt,
}

impl Record {
    /// Why this record is not a live session at `at`, if it is not.
    ///
    /// `now == deadline` is over. `configured` are the timeouts of the layer that asks; an
    /// operator's tool has none.
    pub fn absence(
        &self,
        at: Timestamp,
        configured: Option<&Timeouts>,
        endings: &Endings,
    ) -> Option<Absence> {
        match self.mark() {
            Mark::Superseded { until, successor, .. } => {
                return Some(if at < until {
                    Absence::Superseded { successor }
                } else {
                    Absence::NotFound
                });
            }
            Mark::Ended { at: ended_at, grace, by, .. } => {
                return Some(Absence::Ended { at: ended_at, by, concurrent: at < grace });
            }
            Mark::None => {}
        }
        if let Some(ending) = endings.ending(self.generation()) {
            return Some(Absence::Ended { at: ending.at, by: ending.by, concurrent: false });
        }
        let deadline =
            configured.map_or_else(|| self.expires_at(), |own| self.expires_at_under(own));
        (at >= deadline).then_some(Absence::Expired)
    }

    /// The same as [`Record::absence`], as the word an operator reads.
    pub fn state(&self, at: Timestamp, endings: &Endings) -> State {
        match self.absence(at, None, endings) {
            None => State::Live,
            Some(Absence::Ended { .. }) => State::Ended,
            Some(Absence::Superseded { .. } | Absence::NotFound) => State::Superseded,
            Some(Absence::Expired | Absence::Corrupt) => State::Expired,
        }
    }

    /// Where the deadline index files this record.
    #[inline]
    pub fn index_key(&self) -> IndexKey {
        IndexKey { over: self.mark() != Mark::None, bucket: self.bucket() }
    }

    /// Whether a request that carries this record's token may be running beside what ended it.
    pub fn is_in_grace(&self, at: Timestamp) -> bool {
        match self.mark() {
            Mark::None => false,
            Mark::Ended { grace, .. } => at < grace,
            Mark::Superseded { until, .. } => at < until,
        }
    }

    /// What is left when the session ends: the header, for `keep`, without the data.
    pub(crate) fn ended(
        &self,
        at: Timestamp,
        by: EndedBy,
        keep: Duration,
        grace: Duration,
    ) -> crate::Result<Self> {
        let mut header = self.header();
        let (until, grace) = (at.saturating_add(keep), at.saturating_add(grace));
        header.mark = Mark::Ended { at, until, grace, by };
        header.version = header.version.saturating_add(1);
        header.refile();
        Self::new(&header, super::Data::EMPTY)
    }

    /// What is left when another session takes this one's place, for a bounded `grace`.
    pub(crate) fn superseded(
        &self,
        at: Timestamp,
        successor: SessionId,
        grace: Duration,
    ) -> crate::Result<Self> {
        let mut header = Header::new(self.created_at(), &Timeouts::default());
        header.absolute_at = self.absolute_at();
        header.last_seen_at = at;
        header.realm = self.realm().map(Into::into);
        header.mark = Mark::Superseded { at, until: at.saturating_add(grace), successor };
        header.version = self.version().saturating_add(1);
        header.generation = self.generation();
        header.refile();
        Self::new(&header, super::Data::EMPTY)
    }
}

/// Where a record is filed in the index ordered by deadline.
///
/// Live records stand under the bucket of the deadline they had when they were filed, which
/// activity may since have moved: the sweeper, meeting a record too early, files it anew. A touch
/// so rewrites one row and no index. Records that are over stand in a class of their own, under
/// the bucket of the instant after which they are erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexKey {
    /// Whether the record was ended or superseded.
    pub over: bool,
    /// The bucket: about 4 minutes each.
    pub bucket: u32,
}

impl IndexKey {
    const BUCKET_MILLIS: i64 = 256_000;

    /// The bucket that `at` falls into.
    #[inline]
    pub fn bucket_of(at: Timestamp) -> u32 {
        let bucket = at.as_millis().div_euclid(Self::BUCKET_MILLIS).max(0);
        u32::try_from(bucket).unwrap_or(u32::MAX)
    }
}
