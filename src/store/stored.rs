//! What stores with an engine of their own keep beside records, and in which form.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::codec;
use crate::error::{Error, Kind, Result};
use crate::expiry::Timestamp;
use crate::id::SessionId;
use crate::record::{EndedBy, Ending};

/// The key of everyone's ending.
pub(super) const EVERYONE: [u8; 16] = [0; 16];

/// The name of a user in indexes: 128 bits of SHA-256, so that no two users share it.
pub(super) fn user_hash(user: &str) -> [u8; 16] {
    let digest = Sha256::digest(user.as_bytes());
    let mut hash = [0; 16];
    hash.copy_from_slice(&digest[..16]);
    hash
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

pub(super) fn put_ending(out: &mut Vec<u8>, ending: &Ending) {
    out.extend_from_slice(&ending.generation.to_le_bytes());
    out.extend_from_slice(&ending.at.as_millis().to_le_bytes());
    out.push(ending.by.code());
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Takes fixed-width values off the front of stored bytes.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self
            .0
            .split_first_chunk()
            .ok_or_else(|| Error::new(Kind::Corrupt, "a stored value is too short"))?;
        self.0 = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(super) fn ending(&mut self) -> Result<Ending> {
        let generation = self.u64()?;
        let at = Timestamp::from_millis(i64::from_le_bytes(self.array()?));
        let by = EndedBy::from_code(self.u8()?)
            .ok_or_else(|| Error::new(Kind::Corrupt, "a stored ending cannot be decoded"))?;
        Ok(Ending { generation, at, by })
    }
}
