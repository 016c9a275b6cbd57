//! Signals by name and number.

use dhow_error::{Error, Result};

/// The standard signals in the order of their numbers, from 1 (signal(7), x86-64 and arm64).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
const OTHER_NAMES: [(&str, i32); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];
/// The first real-time signal that programs use (the C library keeps two), and the last.
const REAL_TIME: (i32, i32) = (34, 64);

pub(crate) const TERM: i32 = 15;
pub(crate) const KILL: i32 = 9;

/// The number of the signal called `text`: a number, or a name with or without `SIG`, `RTMIN+3` among them.
///
/// Errors: invalid for what is no signal.
pub(crate) fn parse(text: &str) -> Result<i32> {
    let number = text.parse().ok().or_else(|| by_name(text));
    number
        .filter(|number| (0..=REAL_TIME.1).contains(number))
        .ok_or_else(|| Error::invalid(format!("unknown signal {text:?}")))
}

fn by_name(text: &str) -> Option<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str| if rest.is_empty() { Some(0) } else { rest.parse::<i32>().ok() };
    let real_time = |number: &i32| (REAL_TIME.0..=REAL_TIME.1).contains(number);
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return offset(rest).map(|offset| REAL_TIME.0.saturating_add(offset)).filter(real_time);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return offset(rest).map(|offset| REAL_TIME.1.saturating_add(offset)).filter(real_time);
    }
    let standard = (1..).zip(NAMES).find(|(_, known)| *known == name).map(|(number, _)| number);
    standard.or_else(|| OTHER_NAMES.iter().find(|it| it.0 == name).map(|it| it.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("Sys", 31),
            ("IOT", 6),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-2", 62),
            ("64", 64),
            ("0", 0),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for text in ["", "NOPE", "65", "-1", "RTMIN-1", "RTMIN+x", "RTMAX+1", "SIG"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
