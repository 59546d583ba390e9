//! SHA-256 of what fits into one block, without the buffer that a digest of any length needs.

use sha2::block_api::compress256;
use zeroize::Zeroize;

/// Bytes that SHA-256 takes at a time.
pub(crate) const BLOCK: usize = 64;
/// The longest end of a message that fits into one block with its end mark and length.
const MAX_TAIL: usize = BLOCK - 9;

pub(crate) type State = [u32; 8];

/// The hash of nothing yet (FIPS 180-4, 5.3.3).
pub(crate) const START: State = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// Hashes the last block: what is left of a message of `len` bytes, its end mark and its length.
#[inline]
pub(crate) fn finish<const N: usize>(state: &mut State, tail: &[u8; N], len: usize) {
    compress256(state, &[last_block(tail, len)]);
}

/// The hash of a secret that `write` writes where it is hashed, and its answer. No copy is left
/// behind.
#[inline]
pub(crate) fn hash_secret<const N: usize, T>(
    write: impl FnOnce(&mut [u8; N]) -> T,
) -> ([u8; 32], T) {
    let mut state = START;
    let mut block = last_block(&[0; N], N);
    let Some(secret) = block.first_chunk_mut() else {
        unreachable!("`last_block` has room for it");
    };
    let written = write(secret);
    // An array of the block would be a copy of it.
    compress256(&mut state, std::slice::from_ref(&block));
    block[..N].zeroize();
    (bytes(&state), written)
}

#[inline]
fn last_block<const N: usize>(tail: &[u8; N], len: usize) -> [u8; BLOCK] {
    const { assert!(N <= MAX_TAIL, "the end of the message fits into one block") };
    let mut block = [0; BLOCK];
    block[..N].copy_from_slice(tail);
    block[N] = 0x80;
    block[BLOCK - 8..].copy_from_slice(&(len as u64 * 8).to_be_bytes());
    block
}

#[inline]
pub(crate) fn bytes(state: &State) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn it_is_sha_256() {
        fn hashes<const N: usize>(bytes: &[u8; N]) {
            let (hash, written) = hash_secret(|secret| *secret = *bytes);
            assert_eq!((hash[..].to_vec(), written), (Sha256::digest(bytes).to_vec(), ()));
        }
        hashes(b"");
        hashes(b"abc");
        hashes(&[7; 34]);
        hashes(&[9; MAX_TAIL]);
    }
}
