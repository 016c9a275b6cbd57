//! Times as the engine keeps them: nanoseconds since the UNIX epoch.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// The time now.
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// `time_ns` in RFC 3339 with nine digits of a second, as Docker writes it.
pub fn rfc3339(time_ns: u64) -> String {
    let time = Timestamp::from_nanosecond(i128::from(time_ns)).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{time:.9}")
}

/// The nanoseconds of an RFC 3339 text; `None` if it is none or lies before 1970.
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    let time: Timestamp = text.parse().ok()?;
    u64::try_from(time.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back() {
        let text = rfc3339(1_700_000_000_000_000_042);
        assert_eq!(text, "2023-11-14T22:13:20.000000042Z");
        assert_eq!(parse_rfc3339(&text), Some(1_700_000_000_000_000_042));
        assert_eq!(parse_rfc3339("2023-11-14T23:13:20+01:00"), Some(1_700_000_000_000_000_000));
        assert_eq!(parse_rfc3339("nonsense"), None);
        assert!(now_ns() > 1_700_000_000_000_000_000);
    }
}
