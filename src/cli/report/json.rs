//! Fields of JSON written without a detour, for lists of millions of rows.
//!
//! What these write is what `serde_json` and [`escape::json`] make of the same value; a test holds
//! them to that.

use std::fmt::Write as _;

use super::{escape, unwritable};
use crate::cli::exit::Outcome;
use crate::cli::time::Instant;
use crate::id::SessionId;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Text in quotes.
pub(super) fn text(out: &mut String, text: &str) -> Outcome<()> {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
        return Ok(());
    }
    let quoted = serde_json::to_string(text).map_err(unwritable)?;
    out.push_str(&escape::json(&quoted));
    Ok(())
}

pub(super) fn maybe_text(out: &mut String, value: Option<&str>) -> Outcome<()> {
    match value {
        Some(value) => text(out, value),
        None => {
            out.push_str("null");
            Ok(())
        }
    }
}

pub(super) fn id(out: &mut String, id: &SessionId) {
    out.push('"');
    for byte in id.as_bytes() {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out.push('"');
}

pub(super) fn number(out: &mut String, value: u64) {
    // A string takes all that is written to it.
    let _ = write!(out, "{value}");
}

pub(super) fn maybe_instant(out: &mut String, at: Option<Instant>) {
    match at {
        Some(at) => instant(out, at),
        None => out.push_str("null"),
    }
}

/// RFC 3339 in quotes: UTC, whole seconds.
pub(super) fn instant(out: &mut String, at: Instant) {
    const DAY: i64 = 24 * 3600;
    /// The years 1 to 9998, which have four digits and no special case.
    const PLAIN: std::ops::Range<i64> = -62_135_596_800..253_370_764_800;
    let seconds = at.0.as_secs();
    if !PLAIN.contains(&seconds) {
        let _ = write!(out, "\"{at}\"");
        return;
    }
    let (year, month, day) = civil(seconds.div_euclid(DAY));
    let time = seconds.rem_euclid(DAY);
    let mut bytes = *b"\"0000-00-00T00:00:00Z\"";
    two(&mut bytes, 1, year / 100);
    two(&mut bytes, 3, year % 100);
    two(&mut bytes, 6, month);
    two(&mut bytes, 9, day);
    two(&mut bytes, 12, time / 3600);
    two(&mut bytes, 15, time / 60 % 60);
    two(&mut bytes, 18, time % 60);
    // Plain ASCII, all of it.
    out.push_str(std::str::from_utf8(&bytes).unwrap_or_default());
}

fn two(bytes: &mut [u8; 22], place: usize, value: i64) {
    let digit = |value: i64| b'0' + u8::try_from(value % 10).unwrap_or(0);
    (bytes[place], bytes[place + 1]) = (digit(value / 10), digit(value));
}

/// Year, month and day of the day so many days after 1970-01-01, by the Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Years begin in March here, so that the leap day is their last.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
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
            let mut out = String::new();
            instant(&mut out, at);
            assert_eq!(out, format!("\"{at}\""), "{seconds}");
        }
    }

    #[test]
    fn text_is_escaped_as_ever() {
        for value in ["", "plain", "a \"b\" \\", "\u{1b}[31m\n", "ß木\u{202e}\u{7f}", "=1+1"] {
            let mut out = String::new();
            text(&mut out, value).unwrap();
            assert_eq!(out, escape::json(&serde_json::to_string(value).unwrap()));
        }
    }
}
