//! The tables of the file, with their keys and values.
//!
//! Names carry a version: a table of another layout has another name. Keys are fixed-width byte
//! strings, compared as such; every value but the empty one is sealed (see [`codec`](super::codec)).

use redb::{ReadTransaction, TableDefinition};

use super::{codec, failure};
use crate::error::{Error, Kind, Result};
use crate::id::SessionId;
use crate::record::{Ending, IndexKey};
use crate::store::Timing;
use crate::store::stored::{Reader, millis, put_ending};
use std::time::Duration;

pub(super) use crate::store::stored::{EVERYONE, StoredEnding, user_hash};

pub(super) type Bytes<const N: usize> = &'static [u8; N];

/// Session ID → sealed record.
pub(super) const SESSIONS: TableDefinition<Bytes<32>, &[u8]> = TableDefinition::new("sessions-2");

/// First byte of the session ID, class (0 live, 1 over), bucket of the deadline (big-endian), the
/// other 31 bytes of the ID → nothing.
///
/// The first byte divides the index as it divides the table of sessions, so that what is swept in
/// one step lies side by side in both: see [`sweep`](super::batch).
pub(super) const DEADLINES: TableDefinition<Bytes<37>, ()> = TableDefinition::new("deadlines-2");

/// Hash of the user, session ID → nothing, of sessions that were not ended
/// ([`Record::listed_user`](crate::Record::listed_user)). Of some that were purged the entry is
/// still there: [`FileState::departed`].
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

/// The schema this version writes; see [`migrate`](super::migrate).
pub(super) const SCHEMA: u32 = 3;

/// The oldest schema this version reads: earlier ones packed records otherwise.
pub(super) const OLDEST: u32 = 3;

/// The oldest version that may use what this one writes, by the schema it knows.
const MIN_READER: u32 = 3;

/// Fails with `is_corrupt()` unless every table is there that a file of [`OLDEST`] was made with.
///
/// redb makes a table anew that a write transaction opens and that is not there. Where its name was
/// damaged, that would hide the damage, and without the endings it would revive sessions.
pub(super) fn all_there(txn: &ReadTransaction) -> Result<()> {
    txn.open_table(SESSIONS).map_err(failure::before_commit)?;
    txn.open_table(DEADLINES).map_err(failure::before_commit)?;
    txn.open_table(USERS).map_err(failure::before_commit)?;
    txn.open_table(ENDINGS).map_err(failure::before_commit)?;
    txn.open_table(KEYS).map_err(failure::before_commit)?;
    txn.open_table(META).map_err(failure::before_commit)?;
    txn.open_table(LOG).map_err(failure::before_commit)?;
    Ok(())
}

pub(super) fn user_key(hash: [u8; 16], id: &SessionId) -> [u8; 48] {
    let mut key = [0; 48];
    key[..16].copy_from_slice(&hash);
    key[16..].copy_from_slice(id.as_bytes());
    key
}

pub(super) fn deadline_key(at: IndexKey, id: &SessionId) -> [u8; 37] {
    let mut key = [0; 37];
    let (part, rest) = id.as_bytes().split_at(1);
    key[..1].copy_from_slice(part);
    key[1] = u8::from(at.over);
    key[2..6].copy_from_slice(&at.bucket.to_be_bytes());
    key[6..].copy_from_slice(rest);
    key
}

/// The ID in a key of [`DEADLINES`].
pub(super) fn id_in_deadline(key: &[u8; 37]) -> SessionId {
    let mut id = [0; SessionId::LEN];
    id[0] = key[0];
    id[1..].copy_from_slice(&key[6..]);
    SessionId::from_bytes(id)
}

/// The ID in a key of [`USERS`].
pub(super) fn id_in_user(key: &[u8; 48]) -> SessionId {
    let mut id = [0; SessionId::LEN];
    id.copy_from_slice(&key[16..]);
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
    /// Entries in [`USERS`] of sessions that were purged.
    pub(super) departed: u64,
    /// How many of these had their session brought back, and are right entries again or gone.
    pub(super) revived: u64,
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
            departed: 0,
            revived: 0,
        }
    }

    pub(super) fn seal(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        out.extend_from_slice(&self.schema.to_le_bytes());
        out.extend_from_slice(&self.min_reader.to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.user_endings.to_le_bytes());
        out.extend_from_slice(&self.pending_endings.to_le_bytes());
        out.extend_from_slice(&self.ring_version.to_le_bytes());
        out.push(u8::from(self.keys_held_by_application));
        out.extend_from_slice(&millis(self.timing.longest_idle).to_le_bytes());
        out.extend_from_slice(&millis(self.timing.touch_interval).to_le_bytes());
        out.extend_from_slice(&self.departed.to_le_bytes());
        out.extend_from_slice(&self.revived.to_le_bytes());
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
        if schema < OLDEST {
            return Err(Error::new(
                Kind::Version,
                format!(
                    "the file has schema {schema}, and this version reads schema {OLDEST} to \
                     {SCHEMA}: `fastsession export` with the version that wrote it, then \
                     `fastsession import` with this one"
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
            departed: bytes.u64()?,
            revived: bytes.u64()?,
            everyone: if bytes.u8()? == 0 { None } else { Some(bytes.ending()?) },
        })
    }
}

/// Reads `payload` as every value but a record and a ring, each with the right checksum.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_values(payload: &[u8]) {
    let sealed = codec::seal(STATE.as_bytes(), payload);
    assert!(codec::open(STATE.as_bytes(), &sealed).is_ok_and(|opened| opened == payload));
    if let Ok(state) = FileState::open(&sealed) {
        assert!(FileState::open(&state.seal()).is_ok_and(|again| again == state));
    }
    if let Ok(stored) = StoredEnding::open(&EVERYONE, &codec::seal(&EVERYONE, payload)) {
        let again = StoredEnding::open(&EVERYONE, &stored.seal(&EVERYONE));
        assert!(again.is_ok_and(|again| again == stored));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expiry::Timestamp;
    use crate::record::EndedBy;

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
            departed: 5,
            revived: 6,
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

    #[test]
    fn an_older_schema_is_refused_with_the_way_out() {
        let state = FileState { min_reader: 1, schema: 2, ..FileState::new() };
        let error = FileState::open(&state.seal()).unwrap_err();
        assert!(error.is_version_mismatch());
        let text = error.to_string();
        assert!(text.contains("schema 2") && text.contains("export"), "{text}");
    }

    #[test]
    fn an_index_key_holds_the_whole_id() {
        let id = SessionId::from_bytes(std::array::from_fn(|n| u8::try_from(n).unwrap() + 7));
        let at = IndexKey { over: true, bucket: 0x0102_0304 };
        assert_eq!(id_in_deadline(&deadline_key(at, &id)), id);
        assert_eq!(id_in_user(&user_key([9; 16], &id)), id);
    }
}
