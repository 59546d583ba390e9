//! A token as the browser holds it: `1.<key id>.<token>.<mac>`.
//!
//! Every valid value has the same length, one spelling, and separators in fixed places, so that
//! reading one is a handful of comparisons and never allocates. The MAC covers, in this order, a
//! label, the transport, the length and bytes of the cookie's name, and the value up to the last
//! separator: a value is worth nothing under another name, in a header if it was meant for a
//! cookie, or with another key ID or version in front.

#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::decode_exact;
use super::key::{KeyId, MAC_BYTES};
use super::ring::KeyRing;
use crate::expiry::Timestamp;
use crate::id::SessionToken;

const LABEL: &[u8] = b"fastsession session token\0";
const VERSION: &[u8] = b"1.";
const KEY_ID_START: usize = VERSION.len();
const KEY_ID_END: usize = KEY_ID_START + KeyId::TEXT_LEN;
const TOKEN_START: usize = KEY_ID_END + 1;
const TOKEN_END: usize = TOKEN_START + base64_len(SessionToken::LEN);
const MAC_START: usize = TOKEN_END + 1;

/// Length of every sealed token, in bytes.
pub(crate) const SEALED_LEN: usize = MAC_START + base64_len(MAC_BYTES);

const fn base64_len(bytes: usize) -> usize {
    (bytes * 8).div_ceil(6)
}

/// Where a sealed token is valid: in one cookie, or in one header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    /// What the MAC covers before the value itself.
    context: Box<[u8]>,
}

impl Scope {
    /// The cookie named `name`.
    pub(crate) fn cookie(name: &str) -> Self {
        Self::new(1, name)
    }

    /// The header named `name`, in whatever case.
    #[cfg(any(feature = "axum", test))]
    pub(crate) fn header(name: &str) -> Self {
        Self::new(2, &name.to_ascii_lowercase())
    }

    fn new(transport: u8, name: &str) -> Self {
        let name_len = (name.len() as u64).to_be_bytes();
        let context = [LABEL, &[transport], &name_len, name.as_bytes()].concat();
        Self { context: context.into() }
    }
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
    // Built in place: a string that grows would leave the token behind in freed memory.
    let mut value = String::with_capacity(SEALED_LEN);
    value.push_str("1.");
    value.push_str(key.id_text());
    value.push('.');
    push_base64::<{ base64_len(SessionToken::LEN) }>(&mut value, token.expose());
    let mac = key.mac([&scope.context, value.as_bytes()]);
    value.push('.');
    push_base64::<{ base64_len(MAC_BYTES) }>(&mut value, &mac);
    value
}

/// Appends the `N` characters that spell `bytes`, and leaves none of them on the stack.
fn push_base64<const N: usize>(out: &mut String, bytes: &[u8]) {
    let mut text = Zeroizing::new([0; N]);
    let len = BASE64_URL_SAFE_NO_PAD.encode_slice(bytes, &mut *text).unwrap_or_default();
    debug_assert_eq!(len, N, "`N` is the length of the text");
    // Base64 is ASCII.
    out.push_str(std::str::from_utf8(&text[..len]).unwrap_or_default());
}

/// The token in `value`, if one of the ring's keys signed it for `scope` and still verifies at
/// `at`.
pub(crate) fn unseal(
    ring: &KeyRing,
    scope: &Scope,
    value: &[u8],
    at: Timestamp,
) -> Result<Unsealed, Refusal> {
    let Parts { signed, key: id, token, mac } = parse(value).ok_or(Refusal::Malformed)?;
    let key = ring.get(id).filter(|key| key.verifies_at(at)).ok_or(Refusal::UnknownKey(id))?;
    if !key.verifies([&scope.context, signed], &mac) {
        return Err(Refusal::BadSignature);
    }
    Ok(Unsealed { token, key: id, signed_by_active: id == ring.active().id() })
}

struct Parts<'a> {
    signed: &'a [u8],
    key: KeyId,
    token: SessionToken,
    mac: Zeroizing<[u8; MAC_BYTES]>,
}

fn parse(value: &[u8]) -> Option<Parts<'_>> {
    let separated = value.len() == SEALED_LEN
        && value.starts_with(VERSION)
        && value[KEY_ID_END] == b'.'
        && value[TOKEN_END] == b'.';
    if !separated {
        return None;
    }
    let key = KeyId::from_text(&value[KEY_ID_START..KEY_ID_END])?;
    let token = decode_exact::<{ SessionToken::LEN }>(&value[TOKEN_START..TOKEN_END])?;
    let mac = decode_exact(&value[MAC_START..])?;
    if token.iter().all(|&byte| byte == 0) {
        return None;
    }
    let token = SessionToken::from_bytes(*token);
    Some(Parts { signed: &value[..TOKEN_END], key, token, mac })
}
