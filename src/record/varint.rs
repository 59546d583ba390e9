//! Lengths: seven bits a byte, the low ones first, in one way only.

/// Most bytes of one.
pub(super) const MOST_BYTES: usize = 5;

pub(super) fn push(out: &mut Vec<u8>, mut value: u32) {
    while let [low, _, _, _] = value.to_le_bytes()
        && value >= 0x80
    {
        out.push(low | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// The value at the beginning of `bytes`, and what follows; `None` if it is cut, too large, or
/// longer than it need be.
pub(super) fn split(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        return Some((u32::from(first), rest));
    }
    let mut value = u64::from(first & 0x7f);
    for (place, &byte) in rest.iter().take(MOST_BYTES - 1).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * (place + 1));
        if byte < 0x80 {
            let value = u32::try_from(value).ok().filter(|_| byte != 0)?;
            return Some((value, &rest[place + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_comes_back_and_no_cut_does() {
        for value in [0, 1, 127, 128, 300, 16_383, 16_384, 1 << 21, 1 << 28, u32::MAX] {
            let mut bytes = Vec::new();
            push(&mut bytes, value);
            assert!(bytes.len() <= MOST_BYTES);
            for end in 0..bytes.len() {
                assert_eq!(split(&bytes[..end]), None);
            }
            bytes.push(7);
            assert_eq!(split(&bytes), Some((value, &[7][..])));
        }
    }

    #[test]
    fn no_length_has_a_second_spelling() {
        for bytes in [&[0x80, 0][..], &[0xff, 0x80, 0], &[0xff, 0xff, 0xff, 0xff, 0x10], &[0xff; 6]]
        {
            assert_eq!(split(bytes), None);
        }
    }
}
