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
mod text;
mod weak;

pub use key::{Key, KeyId, KeyState};
pub use ring::KeyRing;

pub(crate) use key::MAC_BYTES;
pub(crate) use scope::Scope;
#[cfg(any(test, fuzzing))]
pub(crate) use seal::sign;
pub(crate) use seal::{Refusal, SEALED_LEN, Unsealed, seal, token_in, unseal};

/// The MAC that `text` spells in the one canonical way, if any.
pub(crate) fn decode_mac(text: &[u8]) -> Option<[u8; MAC_BYTES]> {
    let mut mac = [0; MAC_BYTES];
    text::decode(<&[u8; text::text_len(MAC_BYTES)]>::try_from(text).ok()?, &mut mac).then_some(mac)
}
