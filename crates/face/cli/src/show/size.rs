//! Sizes: `1.24MB` on output (powers of 1,000, as docker prints), `64m` on input (powers of 1,024).

use crate::failure::Failure;

/// Bytes with three significant digits, in powers of 1,000.
pub(crate) fn human(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut units = UNITS.iter();
    let mut unit = units.next().unwrap_or(&"B");
    while value >= 1000.0 {
        let Some(larger) = units.next() else { break };
        value /= 1000.0;
        unit = larger;
    }
    let digits = if value >= 100.0 || value.fract() == 0.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.digits$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// Bytes of `64m`, `1.5g`, `2048`: a number and a unit of b, k, m, g, t, p, optionally with `b` or
/// `ib` behind, in powers of 1,024.
pub(crate) fn parse(text: &str) -> Result<i64, Failure> {
    let bad = || Failure::new(format!("invalid size: '{text}'")).with_exit_code(125);
    let lower = text.trim().to_ascii_lowercase();
    let end = lower.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let power = match unit.trim().trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(bad()),
    };
    let bytes = number.parse::<f64>().map_err(|_| bad())? * 1024_f64.powi(power);
    if bytes.is_finite() && bytes < i64::MAX as f64 { Ok(bytes as i64) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_three_digits() {
        let cases = [(0, "0B"), (999, "999B"), (1_240_000, "1.24MB"), (72_800_000, "72.8MB")];
        for (bytes, expected) in cases {
            assert_eq!(human(bytes), expected);
        }
        assert_eq!(human(4_260_000_000), "4.26GB");
    }

    #[test]
    fn reads_units() {
        let read = |text| parse(text).map_err(|it| it.message);
        assert_eq!(read("64m"), Ok(64 << 20));
        assert_eq!(read("1.5g"), Ok(3 << 29));
        assert_eq!(read("2KiB"), Ok(2048));
        assert_eq!(read("10"), Ok(10));
        assert!(read("ten").is_err() && read("1x").is_err() && read("").is_err());
    }
}
