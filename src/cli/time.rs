//! Times as an operator types and reads them.

use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::expiry::Timestamp;

const UNITS: [(&str, u64); 5] =
    [("w", 7 * 24 * 3600), ("d", 24 * 3600), ("h", 3600), ("m", 60), ("s", 1)];

const EXPECTED: &str = "expected a duration such as 30m, 7d or 1h30m";
const TOO_LONG: &str = "this duration is too long";
const NEGATIVE: &str = "a duration is never negative";

/// Reads `30m`, `7d` or `1h30m`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    duration(text).map_err(Into::into)
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    if text.strip_prefix('-').is_some_and(|rest| duration(rest).is_ok()) {
        return Err(NEGATIVE);
    }
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or(EXPECTED)?;
        let (number, after) = rest.split_at(digits);
        let seconds = UNITS
            .iter()
            .find_map(|(unit, seconds)| after.strip_prefix(unit).map(|after| (*seconds, after)));
        let (seconds, after) = seconds.ok_or(EXPECTED)?;
        let number: u64 =
            number.parse().map_err(|_| if digits > 0 { TOO_LONG } else { EXPECTED })?;
        total = number
            .checked_mul(seconds)
            .and_then(|seconds| total.checked_add(seconds))
            .ok_or(TOO_LONG)?;
        rest = after;
    }
    if text.is_empty() { Err(EXPECTED) } else { Ok(Duration::from_secs(total)) }
}

/// A point in time: so long ago, or an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Ago(Duration),
    At(Timestamp),
}

impl When {
    pub(crate) fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(duration) => now.saturating_sub(duration),
            Self::At(at) => at,
        }
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match duration(text) {
            Ok(duration) => return Ok(Self::Ago(duration)),
            Err(why @ (TOO_LONG | NEGATIVE)) => return Err(why.into()),
            Err(_) => {}
        }
        let at: jiff::Timestamp = text.parse().map_err(
            |_| "expected a duration (30m, 7d, 1h30m) or an instant (2026-01-31T08:00:00Z)",
        )?;
        Ok(Self::At(Timestamp::from_millis(at.as_millisecond())))
    }
}

/// An instant, written in RFC 3339: UTC, whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instant(pub(crate) Timestamp);

impl std::fmt::Display for Instant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Four-digit years are all that RFC 3339 has; a deadline that is never reached is later.
        let bounds = jiff::Timestamp::MIN.as_second()..=jiff::Timestamp::MAX.as_second();
        let seconds = self.0.as_secs().clamp(*bounds.start(), *bounds.end());
        jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).fmt(f)
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `3m ago`, `in 23h`, `now`.
pub(crate) fn relative(at: Timestamp, now: Timestamp) -> String {
    let (past, future) = (now.saturating_since(at), at.saturating_since(now));
    if future.as_secs() > 0 {
        format!("in {}", rough(future))
    } else if past.as_secs() > 0 {
        format!("{} ago", rough(past))
    } else {
        "now".into()
    }
}

/// The duration in its largest unit, rounded down.
pub(crate) fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let unit = UNITS[1..].iter().find(|(_, size)| seconds >= *size);
    let (unit, size) = unit.unwrap_or(&("s", 1));
    format!("{}{unit}", seconds / size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        let seconds = |text| parse_duration(text).map(|duration| duration.as_secs());
        assert_eq!(seconds("30m"), Ok(1800));
        assert_eq!(seconds("7d"), Ok(604_800));
        assert_eq!(seconds("1h30m"), Ok(5400));
        assert_eq!(seconds("2w"), Ok(1_209_600));
        assert_eq!(seconds("0s"), Ok(0));
        for wrong in ["", "30", "m", "1h30", "-1h", "1.5h", "1 h", "1y", "ß", "99999999999999999w"]
        {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
        assert_eq!(seconds("-1h"), Err(NEGATIVE.into()));
        assert_eq!(seconds("9999999999999999999999s"), Err(TOO_LONG.into()));
        assert_eq!(seconds("99999999999999w"), Err(TOO_LONG.into()));
        for (wrong, why) in [("-1h", NEGATIVE), ("99999999999999w", TOO_LONG)] {
            assert_eq!(wrong.parse::<When>(), Err(why.into()));
        }
    }

    #[test]
    fn a_time_is_a_duration_or_an_instant() {
        let now = Timestamp::from_millis(10_000_000);
        assert_eq!("1m".parse::<When>().unwrap().at(now), Timestamp::from_millis(9_940_000));
        let instant: When = "1970-01-01T01:00:00+01:00".parse().unwrap();
        assert_eq!(instant.at(now), Timestamp::from_millis(0));
        assert!("yesterday".parse::<When>().is_err());
        assert!("2026-01-31".parse::<When>().is_err());
    }

    #[test]
    fn instants_are_written_in_utc_with_whole_seconds() {
        let text = |millis| Instant(Timestamp::from_millis(millis)).to_string();
        assert_eq!(text(1_700_000_000_999), "2023-11-14T22:13:20Z");
        assert!(text(i64::MAX).starts_with("9999-12-30T"));
        assert!(text(i64::MIN).starts_with("-009999-"));
    }

    #[test]
    fn relative_times_name_the_largest_unit() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        assert_eq!(relative(at(0), at(185)), "3m ago");
        assert_eq!(relative(at(90_000), at(0)), "in 1d");
        assert_eq!(relative(at(5), at(5)), "now");
    }
}
