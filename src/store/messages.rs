//! What is asked of a store and what it answers: plain data, which any engine can carry.

use crate::error::Result;
use crate::expiry::{Timeouts, Timestamp};
use crate::id::SessionId;
use crate::keyring::{Key, KeyId, KeyRing};
use crate::record::{Absence, Changes, EndedBy, Endings, Record};
use std::time::Duration;

use super::{Filter, Summary};

/// When, and under which rules, a session is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The time it is.
    pub at: Timestamp,
    /// The timeouts of the layer that asks; the earlier of these and the record's own wins. An
    /// operator's tool and a background job have none: what they merge into a session is not
    /// activity.
    pub timeouts: Option<Timeouts>,
    /// How long that layer may leave activity unrecorded.
    pub touch_interval: Duration,
}

impl Access {
    /// At `at`, under the record's own timeouts.
    pub fn at(at: Timestamp) -> Self {
        Self { at, timeouts: None, touch_interval: Duration::ZERO }
    }
}

/// What [`SessionStore::load`](super::SessionStore::load) found.
#[derive(Clone, Debug)]
pub enum Loaded {
    /// A live session.
    Live(Record),
    /// None, and why.
    Absent(Absence),
}

/// One change of one session.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The session: the one the request carried, or the new one's ID.
    pub id: SessionId,
    /// When, and under which rules.
    pub access: Access,
    /// Most bytes of data it may have afterwards; beyond, `is_too_large()` and nothing changed.
    pub max_data_bytes: usize,
    /// What to do.
    pub op: Op,
}

/// What a [`Commit`] does.
#[derive(Clone)]
pub enum Op {
    /// Insert a session where there is no record: [`Outcome::Exists`] if there is one.
    Create {
        /// Which layer it belongs to.
        realm: Option<Box<str>>,
        /// What it holds.
        draft: Draft,
        /// Who signs in with it.
        login: Option<Login>,
    },
    /// Merge changes into a live session, key by key.
    Merge(Draft),
    /// The same into a session that was not loaded before, if it is one of this realm: if not,
    /// there is none, [`Absence::NotFound`](crate::record::Absence::NotFound).
    MergeUnseen {
        /// Which layer it has to belong to.
        realm: Option<Box<str>>,
        /// What is changed.
        draft: Draft,
    },
    /// Set one key if its value is still `expected`; else [`Outcome::Changed`].
    CompareAndSet {
        /// The key.
        key: Box<str>,
        /// Its encoded value as last seen, `None` if it had none.
        expected: Option<Box<[u8]>>,
        /// Its new encoded value, `None` to remove it.
        value: Option<Box<[u8]>>,
    },
    /// Move a live session to a new ID, with changes. Until `grace` has passed the old record
    /// says so; after that its token is as good as unknown.
    Renew {
        /// Where there must be no record: else [`Outcome::Exists`]. It has the same shard bytes, as
        /// that of every token [in its shard](crate::SessionToken::in_shard_of).
        new_id: SessionId,
        /// Changes merged on the way.
        draft: Draft,
        /// Who signs in: binds the user, starts a fresh absolute deadline, and first drops
        /// another user's data and label.
        login: Option<Login>,
        /// How long a request with the old token is taken for one running beside this.
        grace: Duration,
    },
    /// End a live session: its data is gone at once, its header is kept for a while.
    End {
        /// In whose name.
        by: EndedBy,
        /// How long a request with its token is taken for one running beside this.
        grace: Duration,
    },
}

/// Changes of a session's data and of what the application may set of its metadata.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// Of its data.
    pub changes: Changes,
    /// A new label, or `Some(None)` for none.
    pub label: Option<Option<Box<str>>>,
    /// Timeouts of its own (`remember`). The absolute one counts from login or creation.
    pub remember: Option<Timeouts>,
}

/// A user signing in.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user.
    pub user: Box<str>,
    /// The most sessions the user may have.
    pub cap: Option<SessionCap>,
}

/// The most sessions one user may have at a time in one realm.
///
/// What a login costs is bounded, however many sessions its user has: it looks at 1,024 of them, or
/// at twice `max` if that is more. Sessions that were ended are not among these; those that expired
/// are until they are swept, and so are those of other realms. A user who has more, from before the
/// cap was there, is refused as any other, or has fewer after each login: it ends what is too many
/// among those it looked at.
///
/// Beyond that bound the count is one of a part. It can be too low only where a user has more
/// records than that which count for nothing: expired, ended together with
/// [`Selector::user`](super::Selector::user) a moment ago, or of other realms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionCap {
    pub(super) max: usize,
    pub(super) refuse: bool,
}

impl SessionCap {
    /// At most `max` sessions (at least 1): a further login fails with `is_too_many_sessions()`.
    pub const fn refuse_new(max: usize) -> Self {
        Self { max, refuse: true }
    }

    /// At most `max` sessions (at least 1): a further login ends the one that logged in first.
    pub const fn end_oldest(max: usize) -> Self {
        Self { max, refuse: false }
    }

    /// How many records of a user a login looks at: each is read, and may be written, in one
    /// transaction that others wait for. Twice `max`, so that expired ones may be among them.
    pub(crate) const fn most_looked_at(&self) -> usize {
        let twice = self.max.saturating_mul(2);
        if twice > Self::LOOKED_AT { twice } else { Self::LOOKED_AT }
    }

    pub(crate) const LOOKED_AT: usize = 1024;
}

/// What became of a [`Commit`].
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is durable. The record as it is now; for [`Op::Renew`] the new session's.
    Committed(Record),
    /// [`Op::CompareAndSet`] only: another value was found. The record as it is now.
    Changed(Record),
    /// [`Op::Create`] and [`Op::Renew`] only: the new ID has a record already.
    Exists,
    /// There is no live session of that ID; nothing was changed.
    Absent(Absence),
}

/// A record whatever its state, with the endings that concern it.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// The record.
    pub record: Record,
    /// What [`Record::state`] needs to know besides.
    pub endings: Endings,
}

/// A request for one page of summaries.
#[derive(Clone, Debug)]
pub struct Query {
    /// Which sessions.
    pub filter: Filter,
    /// Continue after this ID ([`Page::next`]).
    pub after: Option<SessionId>,
    /// At most this many.
    pub limit: usize,
    /// The time it is.
    pub at: Timestamp,
}

/// One page of summaries.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// In order of ID.
    pub sessions: Vec<Summary>,
    /// Where the next page continues; `None` if there is none.
    pub next: Option<SessionId>,
    /// IDs of records met that cannot be decoded.
    pub corrupt: Vec<SessionId>,
}

/// A request to end sessions.
#[derive(Clone, Debug)]
pub struct End {
    /// Whose.
    pub target: Target,
    /// The one to spare.
    pub except: Option<SessionId>,
    /// In whose name.
    pub by: EndedBy,
    /// The time it is.
    pub at: Timestamp,
}

/// Which sessions an [`End`] is about.
#[derive(Clone, Debug)]
pub enum Target {
    /// These, as far as they are live and the filter still matches them.
    Sessions {
        /// Their IDs.
        ids: Vec<SessionId>,
        /// Checked again in the transaction that ends them.
        filter: Filter,
    },
    /// All of one user. One small commit, however many there are: a new generation.
    User(Box<str>),
    /// Everyone's. One small commit, however many there are: a new generation.
    Everyone,
}

/// What an [`End`] did. All zero where a generation did it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndReport {
    /// Were live and matched, and are over now.
    pub ended: u64,
    /// Had a record, but were over before.
    pub already_over: u64,
}

/// A request to remove some of what is over.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// The time it is.
    pub at: Timestamp,
    /// Look at most at about this many records.
    pub limit: usize,
    /// `true`: an operator's purge, which removes everything that is over, kept headers too, but
    /// for marks that requests running now may depend on. `false`: the store's own sweeping, an
    /// hour after the deadline, which leaves headers for as long as they are to be kept.
    pub purge: bool,
}

/// What a [`Sweep`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Records removed.
    pub removed: u64,
    /// Whether there is more to do at once.
    pub more: bool,
}

/// Sizes and counts of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Records, whatever their state.
    pub records: u64,
    /// Bytes of these records.
    pub stored_bytes: u64,
    /// What the file takes of the disk, if it is one: its length, or less where it has holes.
    pub file_bytes: Option<u64>,
    /// Bytes of the file that are free for reuse.
    pub free_bytes: Option<u64>,
}

/// The timeouts in use, as far as the records tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// The longest idle timeout any session was created with.
    pub longest_idle: Duration,
    /// How long activity may go unrecorded.
    pub touch_interval: Duration,
}

/// How recent an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// At most a second old.
    Recent,
    /// From a state no older than the call.
    Current,
}

/// A change of the key ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyChange {
    /// A new key signs; the one that did verifies for `retire_after` more, by default for the
    /// longest idle timeout in use.
    Rotate {
        /// The time it is.
        at: Timestamp,
        /// How long the old key verifies.
        retire_after: Option<Duration>,
    },
    /// The same with a key brought from elsewhere.
    RotateTo {
        /// The key.
        key: Key,
        /// The time it is.
        at: Timestamp,
        /// How long the old key verifies.
        retire_after: Option<Duration>,
    },
    /// A retiring key no longer verifies.
    Retire {
        /// Which.
        key: KeyId,
    },
    /// What the keys of another ring signed is verified, too: for as long as that ring did, and by
    /// its active key for the longest idle timeout in use.
    Merge {
        /// The other ring.
        ring: KeyRing,
        /// The time it is.
        at: Timestamp,
    },
}

impl KeyChange {
    /// The ring after this change of `ring`, where the longest idle timeout in use is known.
    pub fn apply(self, ring: &KeyRing, longest_idle: Duration) -> Result<KeyRing> {
        match self {
            Self::Rotate { at, retire_after } => {
                ring.rotated(at, retire_after.unwrap_or(longest_idle))
            }
            Self::RotateTo { key, at, retire_after } => {
                ring.rotated_to(key, at, retire_after.unwrap_or(longest_idle))
            }
            Self::Retire { key } => ring.retired(key),
            Self::Merge { ring: other, at } => ring.merged(&other, at, longest_idle),
        }
    }
}
