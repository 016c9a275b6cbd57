//! The time of day, and how logs write it. Nothing here knows time zones: everything is UTC.

use dhow_sys::rustix::time::{ClockId, clock_gettime};

const NANOS: u64 = 1_000_000_000;
const DAY_SECONDS: u64 = 86_400;

/// Now, in UNIX nanoseconds.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec as u64 * NANOS + now.tv_nsec as u64
}

/// Appends a time as Docker's logs have it: RFC 3339 in UTC, nanoseconds without trailing zeros.
pub(crate) fn append_rfc3339(text: &mut Vec<u8>, at_ns: u64) {
    let (seconds, nanos) = (at_ns / NANOS, at_ns % NANOS);
    let (year, month, day) = civil(seconds / DAY_SECONDS);
    let second = seconds % DAY_SECONDS;
    append_number(text, year, 4);
    for (separator, number) in [
        (b'-', month),
        (b'-', day),
        (b'T', second / 3600),
        (b':', second / 60 % 60),
        (b':', second % 60),
    ] {
        text.push(separator);
        append_number(text, number, 2);
    }
    if nanos > 0 {
        text.push(b'.');
        append_number(text, nanos, 9);
        while text.last() == Some(&b'0') {
            text.pop();
        }
    }
    text.push(b'Z');
}

fn append_number(text: &mut Vec<u8>, number: u64, digits: u32) {
    text.extend((0..digits).rev().map(|place| b'0' + (number / 10_u64.pow(place) % 10) as u8));
}

/// Year, month and day of a day counted from 1970-01-01 in the Gregorian calendar. Years are counted from
/// March, so that the leap day comes last; an era is 400 years, 146,097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    let from_march_0000 = days + 719_468;
    let (era, day_of_era) = (from_march_0000 / 146_097, from_march_0000 % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(at_ns: u64) -> String {
        let mut text = Vec::new();
        append_rfc3339(&mut text, at_ns);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn known_times() {
        assert_eq!(text(0), "1970-01-01T00:00:00Z");
        assert_eq!(text(951_782_400 * NANOS), "2000-02-29T00:00:00Z");
        assert_eq!(text(951_868_799 * NANOS + 1), "2000-02-29T23:59:59.000000001Z");
        assert_eq!(text(1_735_689_599 * NANOS + 120_000_000), "2024-12-31T23:59:59.12Z");
        assert_eq!(text(4_107_542_400 * NANOS), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn every_day_follows_its_yesterday() {
        let mut yesterday = civil(0);
        for day in 1..60_000 {
            let today = civil(day);
            assert!(today > yesterday, "{yesterday:?} then {today:?}");
            assert!(today.2 == yesterday.2 + 1 || today.2 == 1);
            yesterday = today;
        }
    }
}
