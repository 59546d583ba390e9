//! Which keys there are, and what their values look like.
//!
//! Sessions are spread over partitions by the shard bytes of their ID, in order: a partition holds
//! a range of IDs, and a renewal stays in it. The keys of a partition share a hash tag, so that a
//! cluster keeps them in one slot and a script may touch all of them. Outside of a cluster there
//! is one partition. With `fastsession` as prefix and in a cluster, partition 42 has:
//!
//! | key | type | |
//! | --- | --- | --- |
//! | `{fastsession:2a}:s:` ID in hexadecimal | string | the row of a session |
//! | `{fastsession:2a}:ids` | sorted set | ID ‖ hash of the user: the order of listing |
//! | `{fastsession:2a}:users` | sorted set | hash of the user ‖ ID, of sessions that were not ended |
//! | `{fastsession:2a}:live`, `:over` | sorted set | the same as `ids`, by bucket of the deadline |
//! | `{fastsession:2a}:state` | string | generation, and what else each decision compares |
//! | `{fastsession:2a}:endings` | hash | hash of the user, zeros for everyone → ending |
//!
//! and the store as a whole `{fastsession}:meta`, `:ring` (the signing keys) and `:timing`. On the
//! channel `{fastsession}:events` processes tell each other what became of sessions.
//!
//! A row is: a stamp (8 bytes), which each write makes anew and the next one compares; the
//! checksum (8); the hash of the user (16), zeros if there is none; the record.

use std::fmt::Write as _;

use crate::error::{Error, Kind, Result};
use crate::id::SessionId;
use crate::record::{Ending, IndexKey, Record};
use crate::store::codec;
use crate::store::stored::{Reader, put_ending, user_hash};

pub(super) const STAMP_BYTES: usize = 8;
const HASH_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 8;

/// A user's hash; zeros for none.
pub(super) type UserHash = [u8; HASH_BYTES];
pub(super) type Stamp = [u8; STAMP_BYTES];

/// How many partitions a cluster has: a few for each node it is likely to have.
pub(super) const CLUSTER_PARTITIONS: u16 = 64;

/// The names of a store's keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: Box<str>,
    partitions: u16,
}

/// Part of the sessions: those whose IDs lie in one range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Partition(pub(super) u16);

/// What belongs to no partition: the keys of the store as a whole, which have a slot of their own.
pub(super) const STORE: Partition = Partition(u16::MAX);

impl Keys {
    pub(super) fn new(prefix: &str, partitions: u16) -> Self {
        Self { prefix: prefix.into(), partitions }
    }

    pub(super) fn partitions(&self) -> impl DoubleEndedIterator<Item = Partition> + use<> {
        (0..self.partitions).map(Partition)
    }

    pub(super) fn is_one(&self) -> bool {
        self.partitions == 1
    }

    pub(super) fn partition_of(&self, id: &SessionId) -> Partition {
        let bytes = id.as_bytes();
        let shard = u32::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        let number = (shard * u32::from(self.partitions)) >> 16;
        // Below the number of partitions.
        Partition(u16::try_from(number).unwrap_or(0))
    }

    /// With room for the longest name of a key.
    fn tag(&self, partition: Partition) -> String {
        let mut tag = String::with_capacity(self.prefix.len() + 96);
        tag.push('{');
        tag.push_str(&self.prefix);
        if !self.is_one() && partition != STORE {
            // Writing to a string cannot fail.
            let _ = write!(tag, ":{:02x}", partition.0);
        }
        tag.push('}');
        tag
    }

    /// What the keys of a partition's rows begin with.
    pub(super) fn rows(&self, partition: Partition) -> String {
        self.tag(partition) + ":s:"
    }

    pub(super) fn row(&self, id: &SessionId) -> String {
        let mut key = self.rows(self.partition_of(id));
        // As above.
        let _ = write!(key, "{id}");
        key
    }

    pub(super) fn state(&self, partition: Partition) -> String {
        self.tag(partition) + ":state"
    }

    pub(super) fn endings(&self, partition: Partition) -> String {
        self.tag(partition) + ":endings"
    }

    pub(super) fn ids(&self, partition: Partition) -> String {
        self.tag(partition) + ":ids"
    }

    pub(super) fn users(&self, partition: Partition) -> String {
        self.tag(partition) + ":users"
    }

    pub(super) fn deadlines(&self, partition: Partition, over: bool) -> String {
        self.tag(partition) + if over { ":over" } else { ":live" }
    }

    /// Remembers that the call with this stamp was carried out.
    pub(super) fn once(&self, partition: Partition, stamp: Stamp) -> String {
        format!("{}:once:{:016x}", self.tag(partition), u64::from_be_bytes(stamp))
    }

    pub(super) fn meta(&self) -> String {
        self.tag(STORE) + ":meta"
    }

    pub(super) fn ring(&self) -> String {
        self.tag(STORE) + ":ring"
    }

    /// Exists where the application holds the keys.
    pub(super) fn held(&self) -> String {
        self.tag(STORE) + ":keys-held-by-application"
    }

    pub(super) fn timing(&self) -> String {
        self.tag(STORE) + ":timing"
    }

    /// The channel over which processes tell each other events.
    pub(super) fn channel(&self) -> String {
        self.tag(STORE) + ":events"
    }

    /// Held while the sessions of a user are counted across partitions.
    pub(super) fn turn(&self, user: &UserHash) -> String {
        format!("{}:turn:{:032x}", self.tag(STORE), u128::from_be_bytes(*user))
    }
}

/// The hash of `user` for rows and indexes.
pub(super) fn hash_of(user: Option<&str>) -> UserHash {
    user.map_or([0; HASH_BYTES], user_hash)
}

/// An entry of the indexes by ID and by deadline.
pub(super) fn entry(id: &SessionId, user: Option<&str>) -> Vec<u8> {
    let mut entry = id.as_bytes().to_vec();
    if user.is_some() {
        entry.extend_from_slice(&hash_of(user));
    }
    entry
}

/// An entry of the index by user.
pub(super) fn user_entry(hash: &UserHash, id: &SessionId) -> Vec<u8> {
    [&hash[..], id.as_bytes()].concat()
}

/// The ID and the user's hash in an entry of the indexes by ID and by deadline.
pub(super) fn split_entry(entry: &[u8]) -> Option<(SessionId, Option<UserHash>)> {
    let (id, hash) = entry.split_first_chunk()?;
    Some((SessionId::from_bytes(*id), hash.try_into().ok()))
}

/// A stored session, and what was written with it.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) stamp: Stamp,
    pub(super) record: Record,
}

impl Row {
    /// `is_corrupt()` if it cannot be decoded.
    pub(super) fn open(id: &SessionId, bytes: &[u8]) -> Result<Self> {
        let (stamp, sealed) = bytes.split_first_chunk().ok_or_else(corrupt)?;
        let payload = codec::open(id.as_bytes(), sealed)?;
        let (_, record) = payload.split_first_chunk::<HASH_BYTES>().ok_or_else(corrupt)?;
        Ok(Self { stamp: *stamp, record: Record::from_bytes(record)? })
    }

    pub(super) fn seal_record(stamp: Stamp, id: &SessionId, record: &Record) -> Vec<u8> {
        let mut row =
            Vec::with_capacity(STAMP_BYTES + CHECKSUM_BYTES + HASH_BYTES + record.as_bytes().len());
        row.extend_from_slice(&stamp);
        row.extend_from_slice(&[0; CHECKSUM_BYTES]);
        row.extend_from_slice(&hash_of(record.user()));
        row.extend_from_slice(record.as_bytes());
        let sum = codec::checksum(id.as_bytes(), &row[STAMP_BYTES + CHECKSUM_BYTES..]);
        row[STAMP_BYTES..STAMP_BYTES + CHECKSUM_BYTES].copy_from_slice(&sum.to_le_bytes());
        row
    }

    /// What a touch changes of the row: its first bytes; `None` if it needs more room, or less.
    pub(super) fn seal_touched(
        stamp: Stamp,
        id: &SessionId,
        before: &Record,
        touched: &Record,
    ) -> Option<Vec<u8>> {
        let (old, new) = (before.as_bytes(), touched.as_bytes());
        if old.len() != new.len() {
            return None;
        }
        let same = old.iter().zip(new).rev().take_while(|(one, other)| one == other).count();
        let mut sealed = Self::seal_record(stamp, id, touched);
        sealed.truncate(sealed.len() - same);
        Some(sealed)
    }
}

fn corrupt() -> Error {
    Error::new(Kind::Corrupt, "a stored session cannot be decoded")
}

/// What every decision about a session of a partition is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// One more for each ending of a user's or everyone's sessions.
    pub(super) generation: u64,
    /// Endings that a load or commit has to look at.
    pub(super) user_endings: u32,
    /// Endings whose rows still have to lose their data.
    pub(super) pending_endings: u32,
    /// The last ending of everyone's sessions.
    pub(super) everyone: Option<Ending>,
}

impl State {
    pub(super) fn seal(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(40);
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.user_endings.to_le_bytes());
        out.extend_from_slice(&self.pending_endings.to_le_bytes());
        if let Some(ending) = &self.everyone {
            put_ending(&mut out, ending);
        }
        codec::seal(b"state", &out)
    }

    /// No bytes are a partition that never saw an ending.
    pub(super) fn open(value: &[u8]) -> Result<Self> {
        if value.is_empty() {
            return Ok(Self::default());
        }
        let mut bytes = Reader(codec::open(b"state", value)?);
        Ok(Self {
            generation: bytes.u64()?,
            user_endings: bytes.u32()?,
            pending_endings: bytes.u32()?,
            everyone: if bytes.0.is_empty() { None } else { Some(bytes.ending()?) },
        })
    }
}

/// The score of an entry in the index by deadline.
pub(super) fn score(key: IndexKey) -> Vec<u8> {
    key.bucket.to_string().into_bytes()
}
