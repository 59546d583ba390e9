//! Stored values: a checksum bound to the key, then the payload.
//!
//! redb does not verify pages as it reads them, so a flipped bit would come back as data; a server
//! keeps whatever it is told under whatever key. The checksum is XXH3 over key and payload: a value
//! that was altered, or copied under another key, is refused. It guards against accidents, not
//! against somebody who can write to the store.

use twox_hash::XxHash3_64;

use crate::error::{Error, Kind, Result};

pub(super) const CHECKSUM_BYTES: usize = 8;

/// The value to store `payload` under `key`.
pub(super) fn seal(key: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(CHECKSUM_BYTES + payload.len());
    out.extend_from_slice(&checksum(key, payload).to_le_bytes());
    out.extend_from_slice(payload);
    out
}

/// The same, written to `place`, which has room for exactly that.
#[cfg(feature = "redb")]
pub(super) fn seal_into(place: &mut [u8], key: &[u8], payload: &[u8]) {
    let (sum, rest) = place.split_at_mut(CHECKSUM_BYTES);
    sum.copy_from_slice(&checksum(key, payload).to_le_bytes());
    rest.copy_from_slice(payload);
}

/// The payload stored as `value` under `key`.
pub(super) fn open<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8]> {
    match value.split_first_chunk::<CHECKSUM_BYTES>() {
        Some((sum, payload)) if u64::from_le_bytes(*sum) == checksum(key, payload) => Ok(payload),
        _ => Err(Error::new(Kind::Corrupt, "a stored value does not match its checksum")),
    }
}

pub(super) fn checksum(key: &[u8], payload: &[u8]) -> u64 {
    // The payload is hashed where it lies, in one pass, and its hash is the seed of the key's. The
    // other way round, each payload of more than 240 bytes would have a secret derived for it.
    XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(payload), key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_18_every_flipped_bit_and_every_cut_is_refused() {
        let value = seal(b"key", b"payload");
        let mut place = [0; 15];
        seal_into(&mut place, b"key", b"payload");
        assert_eq!(place, *value);
        assert_eq!(open(b"key", &value).unwrap(), b"payload");
        assert!(open(b"another", &value).unwrap_err().is_corrupt());
        for bit in 0..value.len() * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(b"key", &flipped).unwrap_err().is_corrupt());
        }
        for len in 0..value.len() {
            assert!(open(b"key", &value[..len]).unwrap_err().is_corrupt());
        }
    }
}
