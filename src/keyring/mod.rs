//! The keys that sign session cookies.
//!
//! A [`KeyRing`] is immutable: changing it makes another ring with a higher version, which the
//! store writes and every process picks up. A request so works with one ring from its first byte
//! to its last, and a change that fails leaves the old ring as it was.

mod codec;
mod key;
mod mac;
mod ring;
mod scope;
mod seal;
#[cfg(test)]
mod tests;
mod weak;

pub use key::{Key, KeyId, KeyState};
pub use ring::KeyRing;

pub(crate) use key::MAC_BYTES;
pub(crate) use scope::Scope;
#[cfg(any(test, fuzzing))]
pub(crate) use seal::sign;
pub(crate) use seal::{Refusal, SEALED_LEN, Unsealed, seal, unseal};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// Exactly `N` bytes from their one canonical base64url text; `None` for any other text.
///
/// Its time depends on the text, which tells nothing: who sends it knows it, and the MAC, compared
/// in constant time, decides.
pub(crate) fn decode_exact<const N: usize>(text: &[u8]) -> Option<zeroize::Zeroizing<[u8; N]>> {
    let mut bytes = zeroize::Zeroizing::new([0; N]);
    match BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut *bytes) {
        Ok(len) if len == N => Some(bytes),
        _ => None,
    }
}
