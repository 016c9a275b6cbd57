//! Signals by name and number (`signal(7)`), in the words of `docker kill`.

use dhow_error::{Error, Result};

/// SIGKILL.
pub(crate) const KILL: i32 = 9;
/// SIGTERM.
pub(crate) const TERM: i32 = 15;
/// The first real-time signal that glibc and musl leave to programs.
const RTMIN: i32 = 34;
/// The last real-time signal.
const RTMAX: i32 = 64;

/// The numbers of x86-64 and arm64.
const NAMES: [(&str, i32); 34] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The number of a signal: `TERM`, `SIGTERM`, `sigterm`, `15`, `RTMIN+3`.
///
/// Errors: invalid, in Docker's words.
pub(crate) fn parse(text: &str) -> Result<i32> {
    let invalid = || {
        let text: String = text.chars().take(100).collect();
        Error::invalid(format!("invalid signal: {text}"))
    };
    let text = text.trim();
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=RTMAX).contains(&number) { Ok(number) } else { Err(invalid()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let offset = |rest: &str| if rest.is_empty() { Some(0) } else { rest.parse::<i32>().ok() };
    let real_time = if let Some(rest) = name.strip_prefix("RTMIN") {
        offset(rest).map(|offset| RTMIN + offset)
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        offset(rest).map(|offset| RTMAX + offset)
    } else {
        None
    };
    real_time.filter(|number| (RTMIN..=RTMAX).contains(number)).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGKILL", 9),
            ("sigusr1", 10),
            ("2", 2),
            ("RTMIN+3", 37),
            ("rtmax-1", 63),
            ("SIGRTMIN", 34),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for bad in ["", "0", "65", "-1", "CHEESE", "RTMIN+40", "RTMIN-1", "RTMIN+x", "SIG"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
