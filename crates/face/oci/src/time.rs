//! Times as RFC 3339 writes them, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

const SECONDS_A_DAY: u64 = 86_400;

/// To the second: `2026-01-02T15:04:05Z`.
pub(crate) fn seconds(time: SystemTime) -> String {
    format!("{}Z", civil(since_epoch(time).0))
}

/// To the nanosecond, without zeros at the end: `2026-01-02T15:04:05.25Z`.
pub(crate) fn nanoseconds(time: SystemTime) -> String {
    let (seconds, nanoseconds) = since_epoch(time);
    let fraction = format!(".{nanoseconds:09}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!("{}{fraction}Z", civil(seconds))
}

fn since_epoch(time: SystemTime) -> (u64, u32) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs(), since.subsec_nanos())
}

/// Date and time of the proleptic Gregorian calendar. Years are counted from March, so that a leap day is
/// the last day of one.
fn civil(seconds: u64) -> String {
    let (days, second) = (seconds / SECONDS_A_DAY, seconds % SECONDS_A_DAY);
    // Days since 0000-03-01; 146,097 make 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, january) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + january;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn known_times() {
        for (at, expected) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_709_251_199, "2024-02-29T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(civil(at), expected);
        }
        let time = UNIX_EPOCH + Duration::new(1_767_323_045, 250_000_000);
        assert_eq!(nanoseconds(time), "2026-01-02T03:04:05.25Z");
        assert_eq!(nanoseconds(UNIX_EPOCH), "1970-01-01T00:00:00Z");
    }
}
