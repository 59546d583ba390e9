//! The types of the machine formats; their documentation is that of the module above.

use serde::{Deserialize, Serialize};

/// A session in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Session {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The user bound at login.
    pub user: Option<String>,
    /// What the application shows a person.
    pub label: Option<String>,
    /// Which layer it belongs to.
    pub realm: Option<String>,
    /// `live`, `expired`, `ended` or `superseded`.
    pub state: String,
    /// When it was created.
    pub created_at: String,
    /// When its user signed in.
    pub authenticated_at: Option<String>,
    /// When activity was last recorded.
    pub last_seen_at: String,
    /// When it is over without further activity.
    pub expires_at: String,
    /// Bytes of metadata and data.
    pub size_bytes: u64,
    /// When it ended.
    pub ended_at: Option<String>,
    /// `application`, `cli`, `cap` or `timeout`.
    pub ended_by: Option<String>,
}

/// A session with all that is known of it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Inspection {
    /// The same as in a list.
    #[serde(flatten)]
    pub session: Session,
    /// When it is over whatever happens.
    pub absolute_at: String,
    /// How long it lives without activity.
    pub idle_timeout_seconds: u64,
    /// Whether it has timeouts of its own.
    pub remembered: bool,
    /// How often it was committed.
    pub version: u64,
    /// Its keys and values. What JSON has no word for is an object whose one key begins with `$`:
    /// `$bytes`, `$float`, `$map`, `$ext`, `$undecodable`; with `--redact` each value is
    /// `{"$redacted": type, "size_bytes": …}`.
    pub data: serde_json::Map<String, serde_json::Value>,
}

/// Without the values, which are nobody's business in a log.
impl std::fmt::Debug for Inspection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspection")
            .field("session", &self.session)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// What `expire` or `purge` did, or with `dry_run` would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Changed {
    /// Sessions selected; `null` where they were too many to count before one commit ended all.
    pub matched: Option<u64>,
    /// Were live and are over now; `null` as above.
    pub ended: Option<u64>,
    /// Had been over before.
    pub already_over: u64,
    /// Records removed.
    pub purged: u64,
    /// Whether nothing was changed.
    pub dry_run: bool,
}

/// A signing key. Its secret is never shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Key {
    /// 8 hexadecimal digits.
    pub id: String,
    /// `active`, `retiring` or `retired`.
    pub state: String,
    /// When it came into the ring.
    pub created_at: String,
    /// Until when it verifies; `null` for the active one.
    pub until: Option<String>,
}

/// What `stats` counted, or estimated from a sample.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Statistics {
    /// How many records were looked at, if not all: counts, and bytes live and stored, are then
    /// estimates.
    pub sampled: Option<u64>,
    /// By state.
    pub sessions: Counts,
    /// Different users with a live session; `null` in a sample.
    pub users: Option<u64>,
    /// Live sessions without a user.
    pub anonymous: u64,
    /// Sizes.
    pub bytes: Bytes,
    /// Live sessions by time since their creation, in seconds.
    pub age: Vec<Bucket>,
    /// Live sessions by time since their last recorded activity, in seconds.
    pub idle: Vec<Bucket>,
    /// Live sessions by time until they are over without activity, in seconds.
    pub remaining: Vec<Bucket>,
    /// Live sessions by size, in bytes.
    pub size: Vec<Bucket>,
    /// Users with the most live sessions, those with one left out.
    pub top_users: Vec<TopUser>,
    /// Records that cannot be decoded.
    pub corrupt: u64,
}

/// Sessions by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the states' own names")]
pub struct Counts {
    pub live: u64,
    pub expired: u64,
    pub ended: u64,
    pub superseded: u64,
}

/// Sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Bytes {
    /// Of live sessions.
    pub live: u64,
    /// Of all records.
    pub stored: u64,
    /// Free for reuse in the file; `null` where that was not looked for.
    pub free: Option<u64>,
    /// Of the file; `null` where there is none.
    pub file: Option<u64>,
}

/// How many values are below a bound, and not below the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Bucket {
    /// Seconds or bytes; `null` for the last, which has no bound.
    pub below: Option<u64>,
    /// How many.
    pub count: u64,
}

/// A user with several live sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TopUser {
    /// The user.
    pub user: String,
    /// How many.
    pub sessions: u64,
}

/// What `import` did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Imported {
    /// Sessions read.
    pub read: u64,
    /// Were not there and are now.
    pub imported: u64,
    /// Were there with the same content.
    pub same: u64,
    /// Are ended here, and were left out.
    pub ended: u64,
    /// Differ here, and were kept as they are here.
    pub conflicts: u64,
    /// Whether the keys were merged.
    pub keys: bool,
}
