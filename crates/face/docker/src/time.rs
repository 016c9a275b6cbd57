//! Moments, read and written as Docker does.

use dhow_error::{Error, Result};
use jiff::Timestamp;

use crate::query::quoted;

/// How Go writes a moment that never was.
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A moment in nanoseconds since 1970 as RFC 3339.
pub(crate) fn rfc3339(ns: u64) -> String {
    Timestamp::from_nanosecond(i128::from(ns))
        .map_or_else(|_| NEVER.to_owned(), |at| at.to_string())
}

/// The same for a moment that, being 0, never was.
pub(crate) fn rfc3339_or_never(ns: u64) -> String {
    if ns == 0 { NEVER.to_owned() } else { rfc3339(ns) }
}

/// RFC 3339 as seconds since 1970; 0 if it is none.
pub(crate) fn seconds_of(text: &str) -> i64 {
    text.parse::<Timestamp>().map_or(0, Timestamp::as_second)
}

/// Reads a moment of a query: `1700000000`, `1700000000.5`, RFC 3339, or a date. In nanoseconds since
/// 1970; moments before that are 0.
pub(crate) fn parse(text: &str) -> Result<u64> {
    let invalid = || Error::invalid(format!("invalid time {}", quoted(text)));
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return unix(text).ok_or_else(invalid);
    }
    let at = text.parse::<Timestamp>().ok().or_else(|| date(text)).ok_or_else(invalid)?;
    Ok(u64::try_from(at.as_nanosecond()).unwrap_or(0))
}

fn unix(text: &str) -> Option<u64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: u64 = seconds.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    seconds.checked_mul(NANOS_PER_SECOND)?.checked_add(digits.parse().ok()?)
}

/// A date, with or without a time of day, in UTC.
fn date(text: &str) -> Option<Timestamp> {
    let at: jiff::civil::DateTime = text.trim_end_matches('Z').parse().ok()?;
    at.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|at| at.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read() {
        assert_eq!(parse("1700000000").unwrap(), 1_700_000_000_000_000_000);
        assert_eq!(parse("1700000000.5").unwrap(), 1_700_000_000_500_000_000);
        assert_eq!(parse("1700000000.000000001").unwrap(), 1_700_000_000_000_000_001);
        assert_eq!(parse("2023-11-14T22:13:20Z").unwrap(), 1_700_000_000_000_000_000);
        assert_eq!(parse("2023-11-14T22:13:20").unwrap(), 1_700_000_000_000_000_000);
        assert_eq!(parse("1970-01-02").unwrap(), 86_400 * NANOS_PER_SECOND);
        assert_eq!(parse("0001-01-01T00:00:00Z").unwrap(), 0);
        for bad in ["", ".", "1.2.3", "yesterday", "99999999999999999999"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn moments_write() {
        assert_eq!(rfc3339(1_700_000_000_000_000_001), "2023-11-14T22:13:20.000000001Z");
        assert_eq!(rfc3339_or_never(0), NEVER);
        assert_eq!(seconds_of("2023-11-14T22:13:20Z"), 1_700_000_000);
    }
}
