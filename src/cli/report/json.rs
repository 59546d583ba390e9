//! Fields of JSON written without a detour, for lists of millions of rows.
//!
//! What these write is what `serde_json` and [`escape::json`] make of the same value; a test holds
//! them to that.

use std::io::Write as _;

use super::{escape, unwritable};
use crate::cli::exit::Outcome;
use crate::cli::time::Instant;
use crate::id::SessionId;

/// The two digits of each number below 100. There are more, so that no bound has to be looked at.
const DECIMAL: [[u8; 2]; 128] = {
    let digits = b"0123456789";
    let mut table = [[0; 2]; 128];
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

/// A word of this program's own in quotes.
pub(super) fn word(out: &mut Vec<u8>, word: &'static str) {
    out.push(b'"');
    out.extend_from_slice(word.as_bytes());
    out.push(b'"');
}

pub(super) fn maybe_word(out: &mut Vec<u8>, value: Option<&'static str>) {
    match value {
        Some(value) => word(out, value),
        None => out.extend_from_slice(b"null"),
    }
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
    // Without a table, so that the loop takes many bytes at a time.
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' - 10 + value };
    let mut digits = [0; SessionId::LEN * 2];
    for (place, byte) in digits.chunks_exact_mut(2).zip(id.as_bytes()) {
        (place[0], place[1]) = (digit(byte >> 4), digit(byte & 15));
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

pub(super) fn maybe_instant(out: &mut Vec<u8>, at: Option<Instant>, last: &mut Last) {
    match at {
        Some(at) => instant(out, at, last),
        None => out.extend_from_slice(b"null"),
    }
}

/// The second that was written last, and where its text begins: many instants of a session are
/// the same.
pub(super) type Last = Option<(i64, usize)>;

/// RFC 3339 in quotes: UTC, whole seconds.
pub(super) fn instant(out: &mut Vec<u8>, at: Instant, last: &mut Last) {
    const LEN: usize = "\"2000-01-01T00:00:00Z\"".len();
    const DAY: u64 = 24 * 3600;
    /// Seconds from 0000-03-01, where the years of [`civil`] begin, to 1970.
    const BEFORE: u64 = 719_468 * DAY;
    /// The years 1 to 9998, which have four digits and no special case.
    const PLAIN: std::ops::Range<i64> = -62_135_596_800..253_370_764_800;
    let seconds = at.0.as_secs();
    if let Some((_, start)) = last.filter(|(written, _)| *written == seconds) {
        return out.extend_from_within(start..start + LEN);
    }
    let since = BEFORE.wrapping_add_signed(seconds);
    let (days, time) = (u32::try_from(since / DAY), u32::try_from(since % DAY));
    let (true, Ok(days), Ok(time)) = (PLAIN.contains(&seconds), days, time) else {
        // A vector takes all that is written to it.
        let _ = write!(out, "\"{at}\"");
        return;
    };
    *last = Some((seconds, out.len()));
    let (year, month, day) = civil(days);
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
fn two(value: u32) -> [u8; 2] {
    DECIMAL[value as usize % DECIMAL.len()]
}

/// Year, month and day of the day so many days after 0000-03-01, by the Gregorian calendar.
///
/// Divisions are what this costs, so that two of them are multiplications: Neri and Schneider,
/// "Euclidean affine functions and their application to calendar algorithms" (2022).
fn civil(days: u32) -> (u32, u32, u32) {
    // Years begin in March here, so that the leap day is their last.
    let (century, rest) = ((4 * days + 3) / 146_097, ((4 * days + 3) % 146_097) | 3);
    let [b0, b1, b2, b3, y0, y1, y2, y3] = (2_939_745 * u64::from(rest)).to_le_bytes();
    let year = 100 * century + u32::from_le_bytes([y0, y1, y2, y3]);
    let day_of_year = u32::from_le_bytes([b0, b1, b2, b3]) / (4 * 2_939_745);
    let month_and_day = 2141 * day_of_year + 197_913;
    let (month, day) = (month_and_day >> 16, (month_and_day & 0xffff) / 2141 + 1);
    if month > 12 { (year + 1, month - 12, day) } else { (year, month, day) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expiry::Timestamp;

    #[test]
    fn instants_are_written_as_ever() {
        // Each day of the 400 years after which the calendar begins again.
        let mut seconds: Vec<i64> =
            (0..146_097).map(|day| day * 86_400 + day * 61 % 86_400).collect();
        seconds.extend([-1, -62_135_596_800, -62_135_596_801, 253_370_764_799, 253_370_764_800]);
        seconds.extend([951_782_400, 4_107_542_399, i64::MAX / 1000, i64::MIN / 1000]);
        for seconds in seconds {
            let at = Instant(Timestamp::from_millis(seconds.saturating_mul(1000)));
            let (mut out, mut last) = (Vec::new(), None);
            instant(&mut out, at, &mut last);
            instant(&mut out, at, &mut last);
            assert_eq!(String::from_utf8(out).unwrap(), format!("\"{at}\"\"{at}\""));
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
