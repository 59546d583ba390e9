//! The tables of the file, with their keys and values.
//!
//! Names carry a version: a table of another layout has another name. Keys are fixed-width byte
//! strings, compared as such; every value but the empty one is sealed (see [`codec`](super::codec)).

use redb::TableDefinition;
use sha2::{Digest, Sha256};

use super::codec;
use crate::error::{Error, Kind, Result};
use crate::expiry::Timestamp;
use crate::id::SessionId;
use crate::record::{EndedBy, Ending, IndexKey};
use crate::store::Timing;
use std::time::Duration;

pub(super) type Bytes<const N: usize> = &'static [u8; N];

/// Session ID → sealed record.
pub(super) const SESSIONS: TableDefinition<Bytes<32>, &[u8]> = TableDefinition::new("sessions-1");

/// Class (0 live, 1 over), bucket of the deadline (big-endian), session ID → nothing.
pub(super) const DEADLINES: TableDefinition<Bytes<37>, ()> = TableDefinition::new("deadlines-1");

/// Hash of the user, session ID → nothing.
pub(super) const USERS: TableDefinition<Bytes<48>, ()> = TableDefinition::new("users-1");

/// Hash of the user, or zeros for everyone → sealed [`StoredEnding`].
pub(super) const ENDINGS: TableDefinition<Bytes<16>, &[u8]> = TableDefinition::new("endings-1");

/// `ring` → sealed key ring.
pub(super) const KEYS: TableDefinition<&str, &[u8]> = TableDefinition::new("keys-1");

/// `state` → sealed [`FileState`].
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta-1");

/// Number, one more than the last → sealed entry of the [`log`](super::log).
pub(super) const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log-1");

/// Made and removed in one transaction, to see that its pages can be had: see
/// [`space`](super::space).
pub(super) const RESERVE: TableDefinition<u64, &[u8]> = TableDefinition::new("reserve-1");

pub(super) const RING: &str = "ring";
pub(super) const STATE: &str = "state";

/// The key of everyone's ending.
pub(super) const EVERYONE: [u8; 16] = [0; 16];

/// The schema this version writes; see [`migrate`](super::migrate).
pub(super) const SCHEMA: u32 = 2;

/// The schema since which there is a [`LOG`].
pub(super) const LOG_SINCE: u32 = 2;

/// The oldest version that may use what this one writes, by the schema it knows.
const MIN_READER: u32 = 1;

/// The first half of a key of [`USERS`]: 128 bits of SHA-256, so that no two users share it.
pub(super) fn user_hash(user: &str) -> [u8; 16] {
    let digest = Sha256::digest(user.as_bytes());
    let mut hash = [0; 16];
    hash.copy_from_slice(&digest[..16]);
    hash
}

pub(super) fn user_key(hash: [u8; 16], id: &SessionId) -> [u8; 48] {
    let mut key = [0; 48];
    key[..16].copy_from_slice(&hash);
    key[16..].copy_from_slice(id.as_bytes());
    key
}

pub(super) fn deadline_key(at: IndexKey, id: &SessionId) -> [u8; 37] {
    let mut key = [0; 37];
    key[0] = u8::from(at.over);
    key[1..5].copy_from_slice(&at.bucket.to_be_bytes());
    key[5..].copy_from_slice(id.as_bytes());
    key
}

/// The ID at the end of an index key.
pub(super) fn id_in(key: &[u8]) -> SessionId {
    let mut id = [0; SessionId::LEN];
    id.copy_from_slice(&key[key.len() - SessionId::LEN..]);
    SessionId::from_bytes(id)
}

/// What every transaction needs to know, in one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileState {
    /// What wrote the file last.
    pub(super) schema: u32,
    /// The oldest version that may use it.
    pub(super) min_reader: u32,
    /// One more for each ending of a user's or everyone's sessions.
    pub(super) generation: u64,
    /// Rows in [`ENDINGS`] that a load or commit has to look at.
    pub(super) user_endings: u32,
    /// Endings whose rows still have to lose their data.
    pub(super) pending_endings: u32,
    /// The last ending of everyone's sessions.
    pub(super) everyone: Option<Ending>,
    /// [`KeyRing::version`](crate::KeyRing::version).
    pub(super) ring_version: u64,
    pub(super) keys_held_by_application: bool,
    pub(super) timing: Timing,
}

impl FileState {
    pub(super) fn new() -> Self {
        Self {
            schema: SCHEMA,
            min_reader: MIN_READER,
            generation: 0,
            user_endings: 0,
            pending_endings: 0,
            everyone: None,
            ring_version: 0,
            keys_held_by_application: false,
            timing: Timing::default(),
        }
    }

    pub(super) fn seal(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(80);
        out.extend_from_slice(&self.schema.to_le_bytes());
        out.extend_from_slice(&self.min_reader.to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.user_endings.to_le_bytes());
        out.extend_from_slice(&self.pending_endings.to_le_bytes());
        out.extend_from_slice(&self.ring_version.to_le_bytes());
        out.push(u8::from(self.keys_held_by_application));
        out.extend_from_slice(&millis(self.timing.longest_idle).to_le_bytes());
        out.extend_from_slice(&millis(self.timing.touch_interval).to_le_bytes());
        out.push(u8::from(self.everyone.is_some()));
        if let Some(ending) = &self.everyone {
            put_ending(&mut out, ending);
        }
        codec::seal(STATE.as_bytes(), &out)
    }

    pub(super) fn open(value: &[u8]) -> Result<Self> {
        let mut bytes = Reader(codec::open(STATE.as_bytes(), value)?);
        let (schema, min_reader) = (bytes.u32()?, bytes.u32()?);
        if min_reader > SCHEMA {
            return Err(Error::new(
                Kind::Version,
                format!(
                    "the file needs a version that knows schema {min_reader} or newer (it was \
                     written with schema {schema}); this one knows schema {SCHEMA}"
                ),
            ));
        }
        Ok(Self {
            schema,
            min_reader,
            generation: bytes.u64()?,
            user_endings: bytes.u32()?,
            pending_endings: bytes.u32()?,
            ring_version: bytes.u64()?,
            keys_held_by_application: bytes.u8()? != 0,
            timing: Timing {
                longest_idle: Duration::from_millis(bytes.u64()?),
                touch_interval: Duration::from_millis(bytes.u64()?),
            },
            everyone: if bytes.u8()? == 0 { None } else { Some(bytes.ending()?) },
        })
    }
}

/// An ending of a user's or everyone's sessions, and how far its rows have lost their data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredEnding {
    pub(super) ending: Ending,
    /// `None` when all rows have; else the ID up to which they have.
    pub(super) pending_after: Option<SessionId>,
}

impl StoredEnding {
    pub(super) fn new(ending: Ending) -> Self {
        Self { ending, pending_after: Some(SessionId::from_bytes([0; SessionId::LEN])) }
    }

    pub(super) fn seal(&self, key: &[u8; 16]) -> Vec<u8> {
        let mut out = Vec::with_capacity(50);
        put_ending(&mut out, &self.ending);
        if let Some(id) = &self.pending_after {
            out.extend_from_slice(id.as_bytes());
        }
        codec::seal(key, &out)
    }

    pub(super) fn open(key: &[u8; 16], value: &[u8]) -> Result<Self> {
        let mut bytes = Reader(codec::open(key, value)?);
        let ending = bytes.ending()?;
        let pending_after =
            if bytes.0.is_empty() { None } else { Some(SessionId::from_bytes(bytes.array()?)) };
        Ok(Self { ending, pending_after })
    }
}

fn put_ending(out: &mut Vec<u8>, ending: &Ending) {
    out.extend_from_slice(&ending.generation.to_le_bytes());
    out.extend_from_slice(&ending.at.as_millis().to_le_bytes());
    out.push(ending.by.code());
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self
            .0
            .split_first_chunk()
            .ok_or_else(|| Error::new(Kind::Corrupt, "a stored value is too short"))?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn ending(&mut self) -> Result<Ending> {
        let generation = self.u64()?;
        let at = Timestamp::from_millis(i64::from_le_bytes(self.array()?));
        let by = EndedBy::from_code(self.u8()?)
            .ok_or_else(|| Error::new(Kind::Corrupt, "a stored ending cannot be decoded"))?;
        Ok(Ending { generation, at, by })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_comes_back() {
        let ending = Ending { generation: 7, at: Timestamp::from_millis(-1), by: EndedBy::Cli };
        let state = FileState {
            generation: 7,
            user_endings: 2,
            pending_endings: 1,
            everyone: Some(ending),
            ring_version: 3,
            keys_held_by_application: true,
            timing: Timing {
                longest_idle: Duration::from_secs(60),
                touch_interval: Duration::from_millis(1),
            },
            ..FileState::new()
        };
        assert_eq!(FileState::open(&state.seal()).unwrap(), state);
        let stored = StoredEnding::new(ending);
        assert_eq!(StoredEnding::open(&[1; 16], &stored.seal(&[1; 16])).unwrap(), stored);
        assert!(StoredEnding::open(&[2; 16], &stored.seal(&[1; 16])).unwrap_err().is_corrupt());
    }

    #[test]
    fn a_newer_schema_is_refused_with_both_versions() {
        let state = FileState { min_reader: 9, schema: 10, ..FileState::new() };
        let error = FileState::open(&state.seal()).unwrap_err();
        assert!(error.is_version_mismatch());
        let text = error.to_string();
        let own = format!("knows schema {SCHEMA}");
        assert!(text.contains("schema 9") && text.contains(&own), "{text}");
    }
}
