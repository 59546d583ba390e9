//! What a store remembers of the commands that changed it: who, when, what and why.
//!
//! A note is plain data; who runs a command is not the store's to find out. It is handed over
//! with [`SessionStore::noting`](super::SessionStore::noting), and what is then changed through
//! the store that returns is counted in the same transaction as the change. An entry so says what
//! was done, not what was meant to be, even if the command is killed half-way.

use serde::{Deserialize, Serialize};

use crate::expiry::Timestamp;

/// Most entries a log keeps; the oldest leave first.
pub const LOG_ENTRIES: u64 = 10_000;

/// Longest text of a [`Note`] that is kept, in bytes; what is longer is cut.
pub const MAX_NOTE_BYTES: usize = 1024;

/// Who changes a store, by which command, and why. Anything but `at` and `verb` may be empty.
///
/// ```
/// use fastsession::{Timestamp, store::Note};
/// let note = Note {
///     user: "deploy".into(),
///     selector: "--user alice".into(),
///     reason: "her phone was stolen".into(),
///     ..Note::new("expire", Timestamp::from_millis(0))
/// };
/// assert_eq!(note.verb, "expire");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// When the command was given.
    pub at: Timestamp,
    /// The operating system's user.
    pub user: String,
    /// Who became that user with `sudo`.
    pub sudo_user: String,
    /// The machine.
    pub host: String,
    /// The command: `expire`, `key rotate`.
    pub verb: String,
    /// What it was about: `--user alice`.
    pub selector: String,
    /// Why.
    pub reason: String,
    /// How many sessions were selected, where that was counted before.
    pub matched: Option<u64>,
}

impl Note {
    /// A note that says nothing but the command and when it was given.
    pub fn new(verb: impl Into<String>, at: Timestamp) -> Self {
        Self {
            at,
            user: String::new(),
            sudo_user: String::new(),
            host: String::new(),
            verb: verb.into(),
            selector: String::new(),
            reason: String::new(),
            matched: None,
        }
    }
}

/// What was done under a [`Note`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Sessions ended one by one. Ending all of one user, or everyone's, counts none: see
    /// [`Note::matched`].
    pub ended: u64,
    /// Sessions that were over before.
    pub already_over: u64,
    /// Records removed.
    pub purged: u64,
}

#[cfg_attr(not(feature = "redb"), allow(dead_code, reason = "what a store on disk keeps"))]
impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.ended = self.ended.saturating_add(other.ended);
        self.already_over = self.already_over.saturating_add(other.already_over);
        self.purged = self.purged.saturating_add(other.purged);
    }
}

/// One entry of a store's log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogEntry {
    /// Its number; later entries have higher ones.
    pub number: u64,
    /// Who, what and why.
    pub note: Note,
    /// What was done.
    pub tally: Tally,
}

#[cfg_attr(not(feature = "redb"), allow(dead_code, reason = "what a store on disk keeps"))]
mod stored {
    use super::{Deserialize, LogEntry, MAX_NOTE_BYTES, Note, Serialize, Tally, Timestamp};
    use crate::error::{Error, Kind, Result};

    /// An entry as it is stored: with names, so that fields may be added.
    #[derive(Serialize, Deserialize)]
    #[serde(default)]
    #[derive(Default)]
    struct Stored {
        nonce: u64,
        at: i64,
        user: String,
        sudo_user: String,
        host: String,
        verb: String,
        selector: String,
        reason: String,
        matched: Option<u64>,
        tally: Tally,
    }

    impl LogEntry {
        /// The bytes to store; `nonce` tells the entry from others.
        pub(crate) fn encode(&self, nonce: u64) -> Result<Vec<u8>> {
            let note = &self.note;
            let stored = Stored {
                nonce,
                at: note.at.as_millis(),
                user: cut(&note.user),
                sudo_user: cut(&note.sudo_user),
                host: cut(&note.host),
                verb: cut(&note.verb),
                selector: cut(&note.selector),
                reason: cut(&note.reason),
                matched: note.matched,
                tally: self.tally,
            };
            rmp_serde::to_vec_named(&stored).map_err(|error| {
                Error::new(Kind::Encode, "a note cannot be stored").with_source(error)
            })
        }

        pub(crate) fn decode(number: u64, bytes: &[u8]) -> Result<(Self, u64)> {
            let stored: Stored = rmp_serde::from_slice(bytes).map_err(|error| {
                Error::new(Kind::Corrupt, "an entry of the log cannot be decoded")
                    .with_source(error)
            })?;
            let note = Note {
                at: Timestamp::from_millis(stored.at),
                user: stored.user,
                sudo_user: stored.sudo_user,
                host: stored.host,
                verb: stored.verb,
                selector: stored.selector,
                reason: stored.reason,
                matched: stored.matched,
            };
            Ok((Self { number, note, tally: stored.tally }, stored.nonce))
        }
    }

    fn cut(text: &str) -> String {
        let fits = |(start, c): &(usize, char)| start + c.len_utf8() <= MAX_NOTE_BYTES;
        text.char_indices().take_while(fits).map(|(_, c)| c).collect()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn an_entry_comes_back_and_long_text_is_cut() {
            let note = Note {
                matched: Some(3),
                reason: "ü".repeat(MAX_NOTE_BYTES),
                ..Note::new("expire", Timestamp::from_millis(-5))
            };
            let entry = LogEntry { number: 7, note, tally: Tally { ended: 2, ..Tally::default() } };
            let (back, nonce) = LogEntry::decode(7, &entry.encode(9).unwrap()).unwrap();
            assert_eq!((nonce, back.note.reason.len()), (9, MAX_NOTE_BYTES));
            let note = Note { reason: back.note.reason.clone(), ..entry.note.clone() };
            assert_eq!(back, LogEntry { note, ..entry });
            assert!(LogEntry::decode(1, b"nonsense").unwrap_err().is_corrupt());
        }
    }
}
