//! The keys with which the user of a terminal leaves a container without ending it.
//!
//! ```text
//!   input ──► held == a beginning of the keys? ── yes, all of them ──► detached
//!                     │ no                        └ some ──► hold them back
//!                     ▼
//!             pass on what was held, then look at the byte again
//! ```

use dhow_error::{Error, Result};

use crate::query::quoted;

/// What the sequence is if none is asked for: ctrl-p, ctrl-q.
const DEFAULT: [u8; 2] = [16, 17];

/// No sequence is longer than that.
const MAX_KEYS: usize = 64;

/// Looks for the keys in what the client types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Detach {
    keys: Vec<u8>,
    held: usize,
}

impl Detach {
    /// Reads keys such as `ctrl-p,ctrl-q` or `a,b`; none means the default.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self> {
        let keys = match text {
            None => DEFAULT.to_vec(),
            Some(text) => text.split(',').map(key).collect::<Result<_>>()?,
        };
        if keys.len() > MAX_KEYS {
            return Err(Error::invalid("invalid detach keys: more than 64 of them"));
        }
        Ok(Self { keys, held: 0 })
    }

    /// Appends to `output` what of `input` goes on to the container. True: the user is gone, and what
    /// follows is not for the container.
    pub(crate) fn scan(&mut self, input: &[u8], output: &mut Vec<u8>) -> bool {
        for &byte in input {
            loop {
                if self.keys.get(self.held) == Some(&byte) {
                    self.held += 1;
                    break;
                }
                if self.held == 0 {
                    output.push(byte);
                    break;
                }
                output.extend(self.keys.iter().take(self.held));
                self.held = 0;
            }
            if self.held == self.keys.len() {
                return true;
            }
        }
        false
    }
}

/// One key: a character, or `ctrl-` with a letter or one of `@[\]^_`.
fn key(text: &str) -> Result<u8> {
    let unknown = || Error::invalid(format!("invalid detach keys: unknown key {}", quoted(text)));
    match text.as_bytes() {
        [byte] if byte.is_ascii() => Ok(*byte),
        [b'c', b't', b'r', b'l', b'-', byte] => match byte.to_ascii_lowercase() {
            letter @ b'a'..=b'z' => Ok(letter - b'a' + 1),
            b'@' => Ok(0),
            sign @ b'['..=b'_' => Ok(sign - b'@'),
            _ => Err(unknown()),
        },
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_read() {
        assert_eq!(Detach::parse(None).unwrap().keys, [16, 17]);
        assert_eq!(Detach::parse(Some("a,ctrl-@,ctrl-Z,ctrl-_")).unwrap().keys, [b'a', 0, 26, 31]);
        for bad in ["", "ab", "ctrl-", "ctrl-1", "a,,b", "é"] {
            assert!(Detach::parse(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_sequence_is_found_across_pieces() {
        let mut detach = Detach::parse(None).unwrap();
        let mut output = Vec::new();
        assert!(!detach.scan(b"ls\x10", &mut output));
        assert_eq!(output, b"ls");
        assert!(!detach.scan(b"\x10x", &mut output));
        assert_eq!(output, b"ls\x10\x10x");
        assert!(detach.scan(b"\x10\x11rest", &mut output));
        assert_eq!(output, b"ls\x10\x10x");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_without_the_keys(pieces in proptest::collection::vec("[a-c\u{10}]{0,5}", 0..20)) {
            let mut detach = Detach::parse(None).unwrap();
            let mut output = Vec::new();
            for piece in &pieces {
                prop_assert!(!detach.scan(piece.as_bytes(), &mut output));
            }
            output.extend(detach.keys.iter().take(detach.held));
            prop_assert_eq!(output, pieces.concat().into_bytes());
        }
    }
}
