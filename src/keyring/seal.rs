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
use crate::id::{SessionId, SessionToken};

pub(super) const VERSION: &[u8] = b"1.";
const KEY_ID_START: usize = VERSION.len();
const KEY_ID_END: usize = KEY_ID_START + KeyId::TEXT_LEN;
pub(super) const TOKEN_START: usize = KEY_ID_END + 1;
const TOKEN_TEXT: usize = text_len(SessionToken::LEN);
const TOKEN_END: usize = TOKEN_START + TOKEN_TEXT;
const MAC_START: usize = TOKEN_END + 1;
const MAC_TEXT: usize = text_len(MAC_BYTES);

/// Length of every sealed token, in bytes.
pub(crate) const SEALED_LEN: usize = MAC_START + MAC_TEXT;

/// What a value says whose signature was found right. The token itself is not kept: hardly any
/// request needs more of it than the ID; see [`token_in`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unsealed {
    pub(crate) id: SessionId,
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
    let mac: [u8; MAC_TEXT] = text::encode(&key.mac_of_token(scope, &text));
    // Built in place: a string that grows would leave the token behind in freed memory.
    let mut value = Vec::with_capacity(SEALED_LEN);
    for part in [VERSION, key.id_text(), b".", &text[..], b".", &mac] {
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

/// What `value` says, if one of the ring's keys signed it for `scope` and still verifies at `at`.
pub(crate) fn unseal(
    ring: &KeyRing,
    scope: &Scope,
    value: &[u8],
    at: Timestamp,
) -> Result<Unsealed, Refusal> {
    let parts = Parts::of(value).ok_or(Refusal::Malformed)?;
    let is_named = |key: &&Key| key.id_text() == parts.key;
    let Some(key) = ring.keys().find(is_named).filter(|key| key.verifies_at(at)) else {
        let unknown = KeyId::from_text(parts.key).map(Refusal::UnknownKey);
        return Err(unknown.filter(|_| parts.are_spelt()).unwrap_or(Refusal::Malformed));
    };
    if !is_same(&text::encode(&key.mac_of_token(scope, parts.token)), parts.mac) {
        return Err(if parts.are_spelt() { Refusal::BadSignature } else { Refusal::Malformed });
    }
    #[cfg(fastsession_leaks)]
    if let Some(token) = parts.token() {
        crate::leaks::secret(token.expose());
    }
    let id = SessionId::read_token(|bytes| text::decode(parts.token, bytes));
    let id = id.ok_or(Refusal::Malformed)?;
    Ok(Unsealed { id, key: key.id(), signed_by_active: key.id() == ring.active().id() })
}

/// The token in `value`, whoever signed it: for values that [`unseal`] accepted before.
pub(crate) fn token_in(value: &[u8]) -> Option<SessionToken> {
    Parts::of(value)?.token()
}

/// Takes the same time wherever they differ: all bytes are compared, eight at a time.
fn is_same(left: &[u8; MAC_TEXT], right: &[u8; MAC_TEXT]) -> bool {
    let differences = |left: &[u8], right: &[u8]| {
        let (left, right) = (left.as_chunks().0.iter(), right.as_chunks().0.iter());
        left.zip(right).fold(0, |seen, (left, right)| {
            seen | (u64::from_ne_bytes(*left) ^ u64::from_ne_bytes(*right))
        })
    };
    // The last eight once more: their number is none of whole words.
    let last = MAC_TEXT - 8;
    let seen = differences(left, right) | differences(&left[last..], &right[last..]);
    seen.ct_eq(&0).into()
}

/// The texts between the separators.
struct Parts<'a> {
    key: &'a [u8; KeyId::TEXT_LEN],
    token: &'a [u8; TOKEN_TEXT],
    mac: &'a [u8; MAC_TEXT],
}

impl<'a> Parts<'a> {
    /// The form alone decides what is signed before the token: version, key ID and separators. The
    /// key ID is found in the ring as it is spelt, and the MAC compared as it has to be spelt.
    #[inline]
    fn of(value: &'a [u8]) -> Option<Self> {
        let separated = value.len() == SEALED_LEN
            && value.starts_with(VERSION)
            && value[KEY_ID_END] == b'.'
            && value[TOKEN_END] == b'.';
        if !separated {
            return None;
        }
        Some(Self {
            key: value[KEY_ID_START..].first_chunk()?,
            token: value[TOKEN_START..].first_chunk()?,
            mac: value[MAC_START..].first_chunk()?,
        })
    }

    fn token(&self) -> Option<SessionToken> {
        SessionToken::read(|bytes| text::decode(self.token, bytes))
    }

    /// Whether token and MAC are spelt as some token and MAC are.
    fn are_spelt(&self) -> bool {
        self.token().is_some() && decode_mac(self.mac).is_some()
    }
}
