//! The stored form of a ring.
//!
//! | bytes | |
//! | --- | --- |
//! | 1 | format, 1 |
//! | 8 | version of the ring, 1 to 2⁶³−1 |
//! | 1 | number of keys, 1 to 16 |
//!
//! and for each key, the active one first:
//!
//! | bytes | |
//! | --- | --- |
//! | 8 | created at |
//! | 8 | verifies until; absent for the active key |
//! | 1 | length of the secret, 32 to 64 |
//! | … | the secret |
//!
//! Integers are big-endian, instants in milliseconds. IDs are derived from the secrets.

use zeroize::Zeroizing;

use super::key::{Key, KeyState};
use super::ring::KeyRing;
use super::weak;
use crate::expiry::Timestamp;

const FORMAT: u8 = 1;
const HEAD_LEN: usize = 1 + 8 + 1;
const MAX_KEY_LEN: usize = 8 + 8 + 1 + Key::MAX_LEN;

pub(super) fn encode(ring: &KeyRing) -> Zeroizing<Vec<u8>> {
    // Large enough from the start: growing would leave secrets behind in freed memory.
    let capacity = HEAD_LEN + KeyRing::MAX_KEYS * MAX_KEY_LEN;
    let mut out = Zeroizing::new(Vec::with_capacity(capacity));
    out.push(FORMAT);
    out.extend_from_slice(&ring.version().to_be_bytes());
    out.push(small(ring.keys().count()));
    for key in ring.keys() {
        out.extend_from_slice(&key.created_at().as_millis().to_be_bytes());
        if let KeyState::Retiring { until } = key.state() {
            out.extend_from_slice(&until.as_millis().to_be_bytes());
        }
        out.push(small(key.expose().len()));
        out.extend_from_slice(key.expose());
    }
    out
}

/// A count that its type bounds far below 256.
fn small(count: usize) -> u8 {
    u8::try_from(count).unwrap_or(u8::MAX)
}

pub(super) fn decode(bytes: &[u8]) -> Option<KeyRing> {
    let mut input = Input(bytes);
    if input.byte()? != FORMAT {
        return None;
    }
    let version = u64::from_be_bytes(input.array()?);
    let count = usize::from(input.byte()?);
    // The upper half is refused so that there always is a next version.
    if version == 0 || i64::try_from(version).is_err() || count > KeyRing::MAX_KEYS {
        return None;
    }
    let active = key(&mut input, true)?;
    let retiring = (1..count).map(|_| key(&mut input, false)).collect::<Option<Vec<_>>>()?;
    let whole = count > 0 && input.0.is_empty();
    if whole { KeyRing::assemble(version, active, retiring).ok() } else { None }
}

fn key(input: &mut Input<'_>, active: bool) -> Option<Key> {
    let created_at = input.timestamp()?;
    let state =
        if active { KeyState::Active } else { KeyState::Retiring { until: input.timestamp()? } };
    let len = usize::from(input.byte()?);
    let secret = input.take(len)?;
    if weak::has_few_distinct_bytes(secret) {
        return None;
    }
    Some(Key::from_secret(secret).ok()?.with_created_at(created_at).with_state(state))
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn timestamp(&mut self) -> Option<Timestamp> {
        self.array().map(i64::from_be_bytes).map(Timestamp::from_millis)
    }
}
