//! HMAC-SHA256 of short messages that all begin with the same blocks.
//!
//! A cookie's MAC covers a beginning that is the same for every cookie of a layer, and a token.
//! What the beginning makes of the hash is kept, so that a MAC costs two compressions: the last
//! block of the message, and the outer hash. The `hmac` crate, which has no such door, would take
//! two more; a test holds the two to the same answers.

use sha2::block_api::compress256;
use zeroize::{Zeroize, ZeroizeOnDrop};

pub(super) use crate::sha256::BLOCK;
use crate::sha256::{START, State, bytes, finish};

/// A key, with both its blocks hashed.
#[derive(ZeroizeOnDrop)]
pub(super) struct Prepared {
    inner: State,
    outer: State,
}

/// The inner hash after the key and what all messages begin with.
#[derive(ZeroizeOnDrop)]
pub(super) struct Begun {
    state: State,
    /// Bytes hashed, the key's block included.
    len: usize,
}

impl Prepared {
    /// `None` if the secret is longer than a block.
    pub(super) fn new(secret: &[u8]) -> Option<Self> {
        let keyed = |pad: u8| {
            let mut block = [pad; BLOCK];
            for (byte, secret) in block.get_mut(..secret.len())?.iter_mut().zip(secret) {
                *byte ^= secret;
            }
            let mut state = START;
            // An array of the block would be a copy of it, which nobody wipes.
            compress256(&mut state, std::slice::from_ref(&block));
            block.zeroize();
            Some(state)
        };
        Some(Self { inner: keyed(0x36)?, outer: keyed(0x5c)? })
    }

    /// Hashes what all messages begin with.
    pub(super) fn begin(&self, blocks: &[[u8; BLOCK]]) -> Begun {
        let mut state = self.inner;
        compress256(&mut state, blocks);
        Begun { state, len: BLOCK * (1 + blocks.len()) }
    }

    /// The MAC of the message that begins so and ends with `tail`.
    ///
    /// What lies between, the inner hash of one message, opens nothing and is not wiped.
    #[inline]
    pub(super) fn mac<const N: usize>(&self, begun: &Begun, tail: &[u8; N]) -> [u8; 32] {
        let mut inner = begun.state;
        finish(&mut inner, tail, begun.len + N);
        let mut outer = self.outer;
        finish(&mut outer, &bytes(&inner), BLOCK + size_of_val(&inner));
        bytes(&outer)
    }
}

#[cfg(test)]
mod tests {
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::Sha256;

    use super::*;

    #[test]
    fn it_is_hmac_of_sha_256() {
        for len in 1..=BLOCK {
            let secret: Vec<u8> = (0..len).map(|i| u8::try_from(i * 3 + 1).unwrap()).collect();
            for blocks in 0..4 {
                let beginning = vec![[u8::try_from(len).unwrap(); BLOCK]; blocks];
                let prepared = Prepared::new(&secret).unwrap();
                let begun = prepared.begin(&beginning);
                let expected = |tail: &[u8]| -> [u8; 32] {
                    let mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
                    mac.chain_update(beginning.as_flattened())
                        .chain_update(tail)
                        .finalize()
                        .into_bytes()
                        .into()
                };
                assert_eq!(prepared.mac(&begun, b""), expected(b""));
                assert_eq!(prepared.mac(&begun, b"tail"), expected(b"tail"));
                assert_eq!(prepared.mac(&begun, &[9; BLOCK - 9]), expected(&[9; BLOCK - 9]));
            }
        }
    }

    #[test]
    fn a_key_longer_than_a_block_is_refused() {
        assert!(Prepared::new(&[1; BLOCK + 1]).is_none());
    }
}
