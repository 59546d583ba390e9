//! A token as the browser holds it: `1.<key id>.<token>.<mac>`.
//!
//! Every valid value has the same length, one spelling, and separators in fixed places, so that
//! reading one is a handful of comparisons and never allocates. The MAC covers, in this order, a
//! label, the transport, the length and bytes of the cookie's name, as many zeros as make whole
//! blocks of SHA-256 of all that and what follows up to the token, and the value up to the last
//! separator: a value is worth nothing under another name, in a header if it was meant for a
//! cookie, or with another key ID or version in front. But for the token all of it is the same in
//! each cookie of a layer, and hashed once.

#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::decode_exact;
#[cfg(any(test, fuzzing))]
use super::key::Key;
use super::key::{KeyId, MAC_BYTES};
use super::ring::KeyRing;
use super::scope::Scope;
use crate::expiry::Timestamp;
use crate::id::SessionToken;

pub(super) const VERSION: &[u8] = b"1.";
const KEY_ID_START: usize = VERSION.len();
const KEY_ID_END: usize = KEY_ID_START + KeyId::TEXT_LEN;
pub(super) const TOKEN_START: usize = KEY_ID_END + 1;
const TOKEN_TEXT: usize = base64_len(SessionToken::LEN);
const TOKEN_END: usize = TOKEN_START + TOKEN_TEXT;
const MAC_START: usize = TOKEN_END + 1;

/// Length of every sealed token, in bytes.
pub(crate) const SEALED_LEN: usize = MAC_START + base64_len(MAC_BYTES);

const fn base64_len(bytes: usize) -> usize {
    (bytes * 8).div_ceil(6)
}

/// A token whose signature was found right.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unsealed {
    pub(crate) token: SessionToken,
    pub(crate) key: KeyId,
    /// False if the value should be sealed again, with the active key.
    pub(crate) signed_by_active: bool,
}

/// Why a value holds no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is not in the form of a sealed token.
    Malformed,
    /// The ring has no such key, or its time is over.
    UnknownKey(KeyId),
    /// It was not signed with that key, or not for this scope.
    BadSignature,
}

/// The value that carries `token` in `scope`, signed with the active key.
pub(crate) fn seal(ring: &KeyRing, scope: &Scope, token: &SessionToken) -> String {
    let key = ring.active();
    let text = Zeroizing::new(base64::<TOKEN_TEXT>(token.expose()));
    let mac = key.mac_of_token(scope, &text);
    // Built in place: a string that grows would leave the token behind in freed memory.
    let mut value = String::with_capacity(SEALED_LEN);
    value.push_str("1.");
    value.push_str(key.id_text());
    for part in [&text[..], &base64::<{ base64_len(MAC_BYTES) }>(&mac)] {
        value.push('.');
        // Base64 is ASCII.
        value.push_str(std::str::from_utf8(part).unwrap_or_default());
    }
    value
}

/// The `N` characters that spell `bytes`.
fn base64<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut text = [0; N];
    let len = BASE64_URL_SAFE_NO_PAD.encode_slice(bytes, &mut text).unwrap_or_default();
    debug_assert_eq!(len, N, "`N` is the length of the text");
    text
}

/// `text` with the right MAC of `key` under it, whatever it says: to see what is refused even so.
#[cfg(any(test, fuzzing))]
pub(crate) fn sign(key: &Key, scope: &Scope, text: &[u8]) -> Vec<u8> {
    let mac = key.mac([&scope.context, text]);
    [text, b".", BASE64_URL_SAFE_NO_PAD.encode(mac).as_bytes()].concat()
}

/// The token in `value`, if one of the ring's keys signed it for `scope` and still verifies at
/// `at`.
pub(crate) fn unseal(
    ring: &KeyRing,
    scope: &Scope,
    value: &[u8],
    at: Timestamp,
) -> Result<Unsealed, Refusal> {
    let Parts { key: id, token_text, token, mac } = parse(value).ok_or(Refusal::Malformed)?;
    let key = ring.get(id).filter(|key| key.verifies_at(at)).ok_or(Refusal::UnknownKey(id))?;
    if !is_same(&key.mac_of_token(scope, token_text), &mac) {
        return Err(Refusal::BadSignature);
    }
    Ok(Unsealed { token, key: id, signed_by_active: id == ring.active().id() })
}

/// Takes the same time wherever they differ: all bytes are compared, eight at a time.
fn is_same(left: &[u8; MAC_BYTES], right: &[u8; MAC_BYTES]) -> bool {
    let words = |mac: &[u8; MAC_BYTES]| {
        let (words, _) = mac.as_chunks();
        [0, 1, 2, 3].map(|i| u64::from_ne_bytes(words[i]))
    };
    let (left, right) = (words(left), words(right));
    let differences = (0..4).fold(0, |found, i| found | (left[i] ^ right[i]));
    differences.ct_eq(&0).into()
}

struct Parts<'a> {
    key: KeyId,
    token_text: &'a [u8; TOKEN_TEXT],
    token: SessionToken,
    mac: [u8; MAC_BYTES],
}

/// The form alone decides what is signed before the token: version, key ID and separators.
fn parse(value: &[u8]) -> Option<Parts<'_>> {
    let separated = value.len() == SEALED_LEN
        && value.starts_with(VERSION)
        && value[KEY_ID_END] == b'.'
        && value[TOKEN_END] == b'.';
    if !separated {
        return None;
    }
    let key = KeyId::from_text(&value[KEY_ID_START..KEY_ID_END])?;
    let token_text = value[TOKEN_START..].first_chunk()?;
    let token = decode_exact::<{ SessionToken::LEN }>(token_text)?;
    // It came with the request, where it stays: nothing is gained by wiping this copy.
    let mac = *decode_exact(&value[MAC_START..])?;
    if token.iter().all(|&byte| byte == 0) {
        return None;
    }
    let token = SessionToken::from_bytes(*token);
    Some(Parts { key, token_text, token, mac })
}
