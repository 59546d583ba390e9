//! Fields of JSON written without a detour, for lists of millions of rows.
//!
//! What these write is what `serde_json` and [`escape::json`] make of the same value; a test holds
//! them to that.

use std::io::Write as _;

use super::{escape, unwritable};
use crate::cli::exit::Outcome;
use crate::cli::time::Instant;
use crate::id::SessionId;

/// The two digits of each byte, in hexadecimal.
const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    table
};
/// The two digits of each number below 100.
const DECIMAL: [[u8; 2]; 100] = {
    let digits = b"0123456789";
    let mut table = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        table[number] = [digits[number / 10], digits[number % 10]];
        number += 1;
    }
    table
};

/// Text in quotes.
pub(super) fn text(out: &mut Vec<u8>, text: &str) -> Outcome<()> {
    // Without a way out of it, the loop takes many bytes at a time.
    let plain = |byte: u8| matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~');
    if text.bytes().fold(true, |so_far, byte| so_far & plain(byte)) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return Ok(());
    }
    let quoted = serde_json::to_string(text).map_err(unwritable)?;
    out.extend_from_slice(escape::json(&quoted).as_bytes());
    Ok(())
}

pub(super) fn maybe_text(out: &mut Vec<u8>, value: Option<&str>) -> Outcome<()> {
    match value {
        Some(value) => text(out, value),
        None => {
            out.extend_from_slice(b"null");
            Ok(())
        }
    }
}

/// An ID without quotes.
pub(super) fn hex(out: &mut Vec<u8>, id: &SessionId) {
    let mut digits = [0; SessionId::LEN * 2];
    for (place, byte) in digits.chunks_exact_mut(2).zip(id.as_bytes()) {
        place.copy_from_slice(&HEX[usize::from(*byte)]);
    }
    out.extend_from_slice(&digits);
}

pub(super) fn number(out: &mut Vec<u8>, value: usize) {
    let mut digits = [0; 20];
    let (mut first, mut rest) = (digits.len(), value);
    while first == digits.len() || rest > 0 {
        first -= 2;
        digits[first..first + 2].copy_from_slice(&DECIMAL[rest % 100]);
        rest /= 100;
    }
    let is_odd = digits[first] == b'0' && first + 2 < digits.len() || value < 10;
    out.extend_from_slice(&digits[first + usize::from(is_odd)..]);
}

pub(super) fn maybe_instant(out: &mut Vec<u8>, at: Option<Instant>) {
    match at {
        Some(at) => instant(out, at),
        None => out.extend_from_slice(b"null"),
    }
}

/// RFC 3339 in quotes: UTC, whole seconds.
pub(super) fn instant(out: &mut Vec<u8>, at: Instant) {
    const DAY: u64 = 24 * 3600;
    /// Seconds from 0000-03-01, where the years of [`civil`] begin, to 1970.
    const BEFORE: u64 = 719_468 * DAY;
    /// The years 1 to 9998, which have four digits and no special case.
    const PLAIN: std::ops::Range<i64> = -62_135_596_800..253_370_764_800;
    let seconds = at.0.as_secs();
    if !PLAIN.contains(&seconds) {
        // A vector takes all that is written to it.
        let _ = write!(out, "\"{at}\"");
        return;
    }
    let seconds = BEFORE.wrapping_add_signed(seconds);
    let (year, month, day) = civil(seconds / DAY);
    let time = seconds % DAY;
    let ([y1, y2], [y3, y4]) = (two(year / 100), two(year % 100));
    let ([m1, m2], [d1, d2]) = (two(month), two(day));
    let ([h1, h2], [n1, n2]) = (two(time / 3600), two(time / 60 % 60));
    let [s1, s2] = two(time % 60);
    out.extend_from_slice(&[
        b'"', y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2,
        b'Z', b'"',
    ]);
}

/// The digits of a number below 100.
fn two(value: u64) -> [u8; 2] {
    DECIMAL[usize::try_from(value % 100).unwrap_or_default()]
}

/// Year, month and day of the day so many days after 0000-03-01, by the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years begin in March here, so that the leap day is their last.
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expiry::Timestamp;

    #[test]
    fn instants_are_written_as_ever() {
        let mut seconds: Vec<i64> = (0..4000).map(|day| day * 86_400 * 37 + day * 61).collect();
        seconds.extend([-1, -62_135_596_800, -62_135_596_801, 253_370_764_799, 253_370_764_800]);
        seconds.extend([951_782_400, 4_107_542_399, i64::MAX / 1000, i64::MIN / 1000]);
        for seconds in seconds {
            let at = Instant(Timestamp::from_millis(seconds.saturating_mul(1000)));
            let mut out = Vec::new();
            instant(&mut out, at);
            assert_eq!(String::from_utf8(out).unwrap(), format!("\"{at}\""));
        }
    }

    #[test]
    fn text_is_escaped_as_ever() {
        for value in ["", "plain", "a \"b\" \\", "\u{1b}[31m\n", "ß木\u{202e}\u{7f}", "=1+1"] {
            let mut out = Vec::new();
            text(&mut out, value).unwrap();
            let expected = escape::json(&serde_json::to_string(value).unwrap());
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn numbers_are_written_as_ever() {
        for value in [0, 7, 10, 99, 100, 101, 999, 1000, 12_345, 1_000_000, usize::MAX] {
            let mut out = Vec::new();
            number(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }
}
