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

#[cfg(any(test, fuzzing))]
use base64::Engine as _;
#[cfg(any(test, fuzzing))]
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::decode_mac;
use super::key::{Key, KeyId, MAC_BYTES};
use super::ring::KeyRing;
use super::scope::Scope;
use super::text::{self, text_len};
use crate::expiry::Timestamp;
use crate::id::SessionToken;

pub(super) const VERSION: &[u8] = b"1.";
const KEY_ID_START: usize = VERSION.len();
const KEY_ID_END: usize = KEY_ID_START + KeyId::TEXT_LEN;
pub(super) const TOKEN_START: usize = KEY_ID_END + 1;
const TOKEN_TEXT: usize = text_len(SessionToken::LEN);
const TOKEN_END: usize = TOKEN_START + TOKEN_TEXT;
const MAC_START: usize = TOKEN_END + 1;

/// Length of every sealed token, in bytes.
pub(crate) const SEALED_LEN: usize = MAC_START + text_len(MAC_BYTES);

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
    let text: Zeroizing<[u8; TOKEN_TEXT]> = Zeroizing::new(text::encode(token.expose()));
    let mac: [u8; text_len(MAC_BYTES)] = text::encode(&key.mac_of_token(scope, &text));
    // Built in place: a string that grows would leave the token behind in freed memory.
    let mut value = Vec::with_capacity(SEALED_LEN);
    for part in [VERSION, key.id_text().as_bytes(), b".", &text[..], b".", &mac] {
        value.extend_from_slice(part);
    }
    // All of it is ASCII.
    String::from_utf8(value).unwrap_or_default()
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
    let Parts { key_text, token_text, token, mac } = parse(value).ok_or(Refusal::Malformed)?;
    let is_named = |key: &&Key| key.id_text().as_bytes() == key_text;
    let Some(key) = ring.keys().find(is_named).filter(|key| key.verifies_at(at)) else {
        return Err(KeyId::from_text(key_text).map_or(Refusal::Malformed, Refusal::UnknownKey));
    };
    if !is_same(&key.mac_of_token(scope, token_text), &mac) {
        return Err(Refusal::BadSignature);
    }
    #[cfg(fastsession_leaks)]
    crate::leaks::secret(token.expose());
    let signed_by_active = key.id() == ring.active().id();
    Ok(Unsealed { token, key: key.id(), signed_by_active })
}

/// Takes the same time wherever they differ: all bytes are compared, eight at a time.
fn is_same(left: &[u8; MAC_BYTES], right: &[u8; MAC_BYTES]) -> bool {
    let words = |mac: &[u8; MAC_BYTES]| {
        let (words, _) = mac.as_chunks();
        [0, 1, 2, 3].map(|i| u64::from_ne_bytes(words[i]))
    };
    words(left)[..].ct_eq(&words(right)[..]).into()
}

struct Parts<'a> {
    key_text: &'a [u8],
    token_text: &'a [u8; TOKEN_TEXT],
    token: SessionToken,
    mac: [u8; MAC_BYTES],
}

/// The form alone decides what is signed before the token: version, key ID and separators. The key
/// ID is found in the ring as it is spelt.
#[inline]
fn parse(value: &[u8]) -> Option<Parts<'_>> {
    let separated = value.len() == SEALED_LEN
        && value.starts_with(VERSION)
        && value[KEY_ID_END] == b'.'
        && value[TOKEN_END] == b'.';
    if !separated {
        return None;
    }
    let key_text = &value[KEY_ID_START..KEY_ID_END];
    let token_text = value[TOKEN_START..].first_chunk()?;
    let token = SessionToken::read(|bytes| text::decode(token_text, bytes))?;
    let mac = decode_mac(&value[MAC_START..])?;
    Some(Parts { key_text, token_text, token, mac })
}
