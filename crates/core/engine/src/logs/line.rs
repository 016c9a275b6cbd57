//! One line of a json-file log: `{"log":"text\n","stream":"stdout","time":"2024-01-01T00:00:00.1Z"}`.

use std::borrow::Cow;

use serde::Deserialize;

use super::{LogEntry, Stream};
use crate::clock::parse_rfc3339;

/// A line beyond this is no line of ours: 16 KiB of output, each byte escaped as six, and the rest.
pub(super) const LINE_MAX: usize = 256 << 10;

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

/// The entry in a line without its line feed; `None` if it is damaged.
pub(super) fn parse(line: &[u8]) -> Option<LogEntry> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let stream = match &*line.stream {
        "stdout" => Stream::Stdout,
        "stderr" => Stream::Stderr,
        _ => return None,
    };
    let time_ns = parse_rfc3339(&line.time)?;
    Some(LogEntry { stream, time_ns, bytes: line.log.into_owned().into_bytes() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_read() {
        let line = br#"{"log":"a\u0041\"\n","stream":"stderr","time":"2023-11-14T22:13:20.5Z"}"#;
        let entry = parse(line).unwrap();
        assert_eq!(entry.bytes, b"aA\"\n");
        assert_eq!((entry.stream, entry.time_ns), (Stream::Stderr, 1_700_000_000_500_000_000));
        for bad in ["", "{", "{}", r#"{"log":"","stream":"x","time":"2023-11-14T22:13:20Z"}"#] {
            assert!(parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn text_comes_back(text in ".*") {
            let line = serde_json::json!({
                "log": text, "stream": "stdout", "time": "2023-11-14T22:13:20Z"
            });
            prop_assert_eq!(parse(line.to_string().as_bytes()).unwrap().bytes, text.into_bytes());
        }
    }
}
