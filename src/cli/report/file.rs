//! The machine formats of what is about the file, its keys' cookies and its log.

use serde::{Deserialize, Serialize};

use super::Session;

/// What `inspect --cookie` makes of a cookie. Never its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Verdict {
    /// The cookie's name that its signature was checked for.
    pub name: String,
    /// Whether its signature is right.
    pub accepted: bool,
    /// ID of the key that signed it; `null` if refused.
    pub key: Option<String>,
    /// Whether that is the active key; if not, it is signed anew on its next use.
    pub signed_by_active: Option<bool>,
    /// Its session, if there is one.
    pub session: Option<Session>,
    /// Why it opens no session; `null` if it does.
    pub reason: Option<String>,
}

/// What `init` made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Made {
    /// Where the database is.
    pub path: String,
    /// ID of its signing key.
    pub key: String,
}

/// What `backup` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Copied {
    /// Where the copy is.
    pub path: String,
    /// Records in it.
    pub records: u64,
    /// Its size.
    pub bytes: u64,
}

/// What `restore` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Restored {
    /// Where the database is.
    pub path: String,
    /// Records in it.
    pub records: u64,
    /// When the backup was made; `null` if it does not say.
    pub copied_at: Option<String>,
    /// Whether every session in it was ended.
    pub everyone_ended: bool,
    /// Where the former file is now; `null` if there was none.
    pub kept: Option<String>,
}

/// What `compact` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Compacted {
    /// Size of the file before.
    pub bytes_before: u64,
    /// Size of the file now.
    pub bytes_after: u64,
}

/// What `migrate` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Migrated {
    /// The schema the file had.
    pub from: u32,
    /// The schema it has now.
    pub to: u32,
}

/// One thing that `check` found damaged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Finding {
    /// Of which kind: `pages`, `corrupt`, `missing`, `hidden`, `unindexed`, `stray`, `keys`,
    /// `state`, `ending` or `log`.
    pub damage: String,
    /// The session it is about, if it is about one.
    pub id: Option<String>,
    /// For a person to read.
    pub detail: String,
}

/// What `check --repair` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Repaired {
    /// Records in the file now.
    pub records: u64,
    /// IDs of sessions that could not be saved, as far as they can be named.
    pub lost: Vec<String>,
    /// Whether the keys could not be saved, so that there is a new one.
    pub keys_lost: bool,
    /// Whether everyone's sessions were ended, since it cannot be known which were before.
    pub everyone_ended: bool,
    /// Where the broken file is now; `null` if nothing was damaged and nothing was done.
    pub kept: Option<String>,
}

/// A command that changed something, as `log` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogEntry {
    /// Counts from 1; entries that made room for others are missing at the beginning.
    pub number: u64,
    /// When it was given.
    pub at: String,
    /// The user of the operating system who gave it.
    pub user: String,
    /// Who became that user by `sudo`.
    pub sudo_user: Option<String>,
    /// The machine.
    pub host: String,
    /// The verb: `expire`, `key rotate`, ….
    pub verb: String,
    /// Which sessions, as it could be typed again; instants stand for durations.
    pub selector: String,
    /// Sessions selected, where they were counted.
    pub matched: Option<u64>,
    /// Sessions it ended; 0 where one commit ended many.
    pub ended: u64,
    /// Sessions that were over before.
    pub already_over: u64,
    /// Records it removed.
    pub purged: u64,
    /// What was given with `--reason`.
    pub reason: Option<String>,
}
