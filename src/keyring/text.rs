//! Base64url without padding, of byte strings whose length is known beforehand.
//!
//! A cookie's two parts are decoded in each request that looks at its session. Where the lengths
//! are constants there is nothing to allocate, no loop that has to look where it ends, and half
//! the time is saved; a test holds this to the answers of the `base64` crate.
//!
//! The time it takes depends on the text's length alone, and on what tables do to the processor's
//! cache. Reading tells nothing anyway: whoever sends a text knows it, and the MAC, compared in
//! constant time, decides.

/// In one line of the processor's cache, if it has lines of 64 bytes or more: the right MAC of each
/// cookie is spelt with it, that of a forged one too, and must not show there.
#[repr(align(64))]
struct Alphabet([u8; 64]);

const ALPHABET: &Alphabet =
    &Alphabet(*b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_");
/// No character of the alphabet: all its bits are set, and stay so however it is widened.
const INVALID: i8 = -1;

const VALUES: [i8; 256] = {
    let mut values = [INVALID; 256];
    let mut value = 0_i8;
    while value < 64 {
        values[ALPHABET.0[value.cast_unsigned() as usize] as usize] = value;
        value += 1;
    }
    values
};

/// Characters that spell so many bytes.
pub(super) const fn text_len(bytes: usize) -> usize {
    (bytes * 8).div_ceil(6)
}

/// The text of `bytes`.
#[inline]
pub(super) fn encode<const N: usize, const T: usize>(bytes: &[u8; N]) -> [u8; T] {
    const { assert!(T == text_len(N), "`T` is the length of the text") };
    let mut text = [0; T];
    let spell = |[a, b, c]: [u8; 3]| {
        let bits = u32::from_be_bytes([0, a, b, c]);
        [18, 12, 6, 0].map(|shift| ALPHABET.0[(bits >> shift) as usize & 63])
    };
    let ((triples, last), (quads, end)) = (bytes.as_chunks::<3>(), text.as_chunks_mut::<4>());
    for (quad, triple) in quads.iter_mut().zip(triples) {
        *quad = spell(*triple);
    }
    let mut padded = [0; 3];
    padded[..last.len()].copy_from_slice(last);
    end.copy_from_slice(&spell(padded)[..end.len()]);
    text
}

/// Fills `bytes` from their one canonical text; false, whatever they are then, for any other.
#[inline]
pub(super) fn decode<const N: usize, const T: usize>(text: &[u8; T], bytes: &mut [u8; N]) -> bool {
    const { assert!(T == text_len(N), "`T` is the length of the text") };
    // Its sign is that of a character which is none.
    let mut seen = 0;
    let mut read = |quad: [u8; 4]| {
        let value = |place: usize| i32::from(VALUES[usize::from(quad[place])]);
        let bits = ((value(0) << 6 | value(1)) << 6 | value(2)) << 6 | value(3);
        seen |= bits;
        let [_, triple @ ..] = bits.to_be_bytes();
        triple
    };
    let ((quads, end), (triples, last)) = (text.as_chunks::<4>(), bytes.as_chunks_mut::<3>());
    for (triple, quad) in triples.iter_mut().zip(quads) {
        *triple = read(*quad);
    }
    let mut padded = [b'A'; 4];
    padded[..end.len()].copy_from_slice(end);
    let decoded = read(padded);
    last.copy_from_slice(&decoded[..last.len()]);
    // The bits of the last character that belong to no byte.
    let is_canonical = decoded[last.len()..].iter().all(|&byte| byte == 0);
    is_canonical && seen >= 0
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::*;

    /// Some bytes, and all texts that differ from theirs in one character.
    fn it_is_base64<const N: usize, const T: usize>(seed: u8) {
        let mut bytes = [seed; N];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = byte.wrapping_mul(151).wrapping_add(u8::try_from(i * 29 % 256).unwrap());
        }
        let text: [u8; T] = encode(&bytes);
        assert_eq!(text[..], *BASE64_URL_SAFE_NO_PAD.encode(bytes).as_bytes());
        for place in 0..T {
            for character in 0..=u8::MAX {
                let mut text = text;
                text[place] = character;
                let mut decoded = [0; N];
                let expected = BASE64_URL_SAFE_NO_PAD.decode(text).ok();
                let decoded = decode(&text, &mut decoded).then_some(decoded.to_vec());
                assert_eq!(decoded, expected, "{character} at {place}");
            }
        }
    }

    #[test]
    fn it_is_canonical_base64url() {
        for seed in 0..8 {
            it_is_base64::<34, 46>(seed);
            it_is_base64::<32, 43>(seed);
            it_is_base64::<3, 4>(seed);
        }
    }
}
