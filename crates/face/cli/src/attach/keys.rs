//! The keys that detach from a terminal, `ctrl-p,ctrl-q` unless said otherwise.

use crate::failure::Failure;

/// A sequence of keys, and how much of it has just been typed.
#[derive(Debug, Clone)]
pub(crate) struct DetachKeys {
    sequence: Vec<u8>,
    typed: usize,
}

impl DetachKeys {
    /// Reads `ctrl-X` and single letters, separated by commas; `None` means docker's default.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, Failure> {
        let text = text.filter(|it| !it.is_empty()).unwrap_or("ctrl-p,ctrl-q");
        let key =
            |word: &str| match (word.strip_prefix("ctrl-").map(str::as_bytes), word.as_bytes()) {
                (Some([letter @ (b'a'..=b'z' | b'@' | b'['..=b'_')]), _) => Some(letter & 0x1f),
                (None, [letter]) => Some(*letter),
                _ => None,
            };
        let sequence: Option<Vec<u8>> = text.split(',').map(key).collect();
        match sequence {
            Some(sequence) => Ok(Self { sequence, typed: 0 }),
            None => Err(Failure::new(format!("invalid detach keys: {text}"))
                .with_hint("write them as ctrl-p,ctrl-q")
                .with_exit_code(125)),
        }
    }

    /// What of `piece` is passed on, and whether the sequence is complete. A beginning of the sequence
    /// is held back until it is clear whether the rest follows.
    pub(crate) fn pass(&mut self, piece: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(piece.len() + self.typed);
        for byte in piece {
            if self.sequence.get(self.typed) == Some(byte) {
                self.typed += 1;
                if self.typed == self.sequence.len() {
                    self.typed = 0;
                    return (passed, true);
                }
                continue;
            }
            passed.extend(self.sequence.iter().take(self.typed));
            self.typed = 0;
            if self.sequence.first() == Some(byte) {
                self.typed = 1;
            } else {
                passed.push(*byte);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_held_back_and_found() -> Result<(), String> {
        let mut keys = DetachKeys::parse(None).map_err(|it| it.message)?;
        assert_eq!(keys.pass(b"a\x10"), (b"a".to_vec(), false));
        assert_eq!(keys.pass(b"b"), (b"\x10b".to_vec(), false));
        assert_eq!(keys.pass(b"\x10\x10\x11c"), (b"\x10".to_vec(), true));
        let mut keys = DetachKeys::parse(Some("x,ctrl-[")).map_err(|it| it.message)?;
        assert_eq!(keys.pass(b"x\x1b"), (Vec::new(), true));
        assert!(DetachKeys::parse(Some("ctrl-")).is_err());
        assert!(DetachKeys::parse(Some("long")).is_err());
        Ok(())
    }
}
