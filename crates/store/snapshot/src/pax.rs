//! Extended headers of tar archives (POSIX.1-2024 pax, "pax Extended Header").
//!
//! ```text
//!   record = length " " keyword "=" value "\n"      length: decimal, of the whole record, in bytes
//! ```
//!
//! Values are bytes of any kind, newlines too: a file capability is one. Reading is strict: a record that
//! does not have the length it says makes the whole header invalid.

use std::io;

/// What an extended header says about the next entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pax {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    /// Seconds and nanoseconds since 1970; the latter count forwards before 1970 too.
    pub(crate) mtime: Option<(i64, u32)>,
    /// Extended attributes, in the order in which they came.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether it describes a sparse file in GNU's way.
    pub(crate) sparse: bool,
}

const XATTR: &[u8] = b"SCHILY.xattr.";
const SPARSE: &[u8] = b"GNU.sparse.";

impl Pax {
    /// Reads all records of `header`.
    pub(crate) fn parse(mut header: &[u8]) -> io::Result<Self> {
        let mut pax = Self::default();
        while !header.is_empty() {
            let (key, value, rest) = split_record(header).ok_or_else(malformed)?;
            pax.take_in(key, value)?;
            header = rest;
        }
        Ok(pax)
    }

    fn take_in(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if let Some(name) = key.strip_prefix(XATTR) {
            self.xattrs.retain(|(there, _)| there != name);
            self.xattrs.push((name.to_vec(), value.to_vec()));
            return Ok(());
        }
        // An empty value says that an earlier one does not count.
        let number = || if value.is_empty() { Ok(None) } else { parse_number(value).map(Some) };
        let text = || if value.is_empty() { None } else { Some(value.to_vec()) };
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.link = text(),
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(parse_time(value).ok_or_else(malformed)?),
            _ if key.starts_with(SPARSE) => self.sparse = true,
            _ => {}
        }
        Ok(())
    }
}

/// One record for an extended header.
pub(crate) fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    // The length counts its own digits.
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// The value of a time with nanoseconds; as short as it can be.
pub(crate) fn time_value(seconds: i64, nanoseconds: u32) -> String {
    if nanoseconds == 0 {
        return seconds.to_string();
    }
    // -0.25 s is kept as (-1, 750 million), and written as -0.25.
    let (sign, whole, fraction) = if seconds < 0 {
        ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds)
    } else {
        ("", seconds.unsigned_abs(), nanoseconds)
    };
    let digits = format!("{fraction:09}");
    format!("{sign}{whole}.{}", digits.trim_end_matches('0'))
}

/// Key and value of the first record, and what follows it.
fn split_record(header: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = header.iter().take(20).position(|&byte| byte == b' ')?;
    let length = parse_number(header.get(..space)?).ok()?;
    let length = usize::try_from(length).ok()?;
    let record = header.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    let (key, value) = (record.get(..equals)?, record.get(equals + 1..)?);
    if key.is_empty() { None } else { Some((key, value, header.get(length..)?)) }
}

fn parse_number(digits: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(digits).map_err(|_| malformed())?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed());
    }
    text.parse().map_err(|_| malformed())
}

/// Seconds with any number of decimals; what is finer than a nanosecond is cut off.
fn parse_time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) || whole.is_empty() {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanoseconds: u32 =
        format!("{:0<9}", fraction.get(..fraction.len().min(9))?).parse().ok()?;
    match (negative, nanoseconds) {
        (false, _) => Some((seconds, nanoseconds)),
        (true, 0) => Some((-seconds, 0)),
        (true, _) => Some((-seconds - 1, 1_000_000_000 - nanoseconds)),
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed extended header in the archive")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_may_have_newlines() {
        let header =
            [record(b"SCHILY.xattr.security.capability", b"\x01\n\x00="), record(b"size", b"7")];
        let pax = Pax::parse(&header.concat()).unwrap();
        assert_eq!(pax.xattrs, [(b"security.capability".to_vec(), b"\x01\n\x00=".to_vec())]);
        assert_eq!(pax.size, Some(7));
    }

    #[test]
    fn refuses_wrong_lengths() {
        for bad in
            ["5 a=b", "6 a=b\nx", "99 a=b\n", "0 a=b\n", " a=b\n", "-6 a=b\n", "4 ab\n", "6 =ab\n"]
        {
            assert!(Pax::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(Pax::parse(b"6 a=b\n").is_ok());
    }

    #[test]
    fn times_before_1970() {
        assert_eq!(parse_time(b"-0.25"), Some((-1, 750_000_000)));
        assert_eq!(time_value(-1, 750_000_000), "-0.25");
        assert_eq!(parse_time(b"12.5"), Some((12, 500_000_000)));
        for bad in ["", ".", "1.x", "+1", "99999999999999999999"] {
            assert_eq!(parse_time(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn never_panics(header in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Pax::parse(&header);
        }

        #[test]
        fn records_come_back(value in proptest::collection::vec(any::<u8>(), 1..1200)) {
            let pax = Pax::parse(&record(b"path", &value)).unwrap();
            prop_assert_eq!(pax.path, Some(value));
        }

        #[test]
        fn times_come_back(seconds in -(1_i64 << 40)..(1 << 40), nanoseconds in 0_u32..1_000_000_000) {
            let value = time_value(seconds, nanoseconds);
            prop_assert_eq!(parse_time(value.as_bytes()), Some((seconds, nanoseconds)));
        }
    }
}
