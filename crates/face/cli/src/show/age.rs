//! Ages as docker words them: `Less than a second`, `About a minute`, `3 weeks`.

/// `seconds` in words.
pub(crate) fn words(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{minutes} minutes"),
        _ if hours <= 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// How long ago `unix_seconds` was, as a column shows it.
pub(crate) fn ago(unix_seconds: i64) -> String {
    let now = jiff::Timestamp::now().as_second();
    format!("{} ago", words(now.saturating_sub(unix_seconds)))
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_are_dockers() {
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (125, "2 minutes"),
            (3600, "About an hour"),
            (3 * 3600, "3 hours"),
            (49 * 3600, "2 days"),
            (15 * 86400, "2 weeks"),
            (90 * 86400, "3 months"),
            (800 * 86400, "2 years"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(words(seconds), expected);
        }
    }
}
