//! Patterns of paths: Go's `filepath.Match` for `COPY`, and with `**` for `.dockerignore`.
//!
//! ```text
//!   *  any bytes but /      ?  one byte but /      [a-z] [^a]  one of a class      \x  x itself
//!   **  any bytes           **/  any folders, or none
//! ```
//!
//! Matching follows all possibilities at once, so it takes time in proportion to the lengths of pattern
//! and path multiplied, whatever the pattern.

/// A pattern, ready to match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Token>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    One,
    Class {
        negated: bool,
        ranges: Vec<(u8, u8)>,
    },
    Star,
    /// `**`
    Any,
    /// `**/`: stays here while within a folder's name, and can be passed over at the start of one.
    Folders,
}

/// The pattern has a `[` without its `]`, or ends in an escape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pattern {0:?} is malformed")]
pub(crate) struct PatternError(String);

impl Pattern {
    /// Reads a pattern.
    pub(crate) fn parse(text: &str) -> Result<Self, PatternError> {
        let malformed = || PatternError(text.to_owned());
        let mut tokens = Vec::new();
        let mut bytes = text.bytes().peekable();
        while let Some(byte) = bytes.next() {
            tokens.push(match byte {
                b'?' => Token::One,
                b'\\' => Token::Byte(bytes.next().ok_or_else(malformed)?),
                b'[' => class(&mut bytes).ok_or_else(malformed)?,
                b'*' if bytes.next_if_eq(&b'*').is_some() => {
                    while bytes.next_if_eq(&b'*').is_some() {}
                    if bytes.next_if_eq(&b'/').is_some() { Token::Folders } else { Token::Any }
                }
                b'*' => Token::Star,
                _ => Token::Byte(byte),
            });
        }
        Ok(Self(tokens))
    }

    /// Whether the whole of `path` matches.
    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        // `at[i]`: token i can come next. `inside[i]`: in the middle of a name that token i passes over.
        let count = self.0.len();
        let mut at = vec![false; count + 1];
        let mut inside = vec![false; count + 1];
        at[0] = true;
        self.skip(&mut at);
        for byte in path {
            let mut next = vec![false; count + 1];
            let mut within = vec![false; count + 1];
            for (i, token) in self.0.iter().enumerate() {
                if !at[i] && !inside[i] {
                    continue;
                }
                match token {
                    Token::Star if *byte != b'/' => next[i] = true,
                    Token::Any => next[i] = true,
                    Token::Folders if *byte == b'/' => next[i] = true,
                    Token::Folders => within[i] = true,
                    _ if at[i] && token.takes(*byte) => next[i + 1] = true,
                    _ => {}
                }
            }
            self.skip(&mut next);
            (at, inside) = (next, within);
        }
        at[count]
    }

    /// What can match nothing can be passed over.
    fn skip(&self, at: &mut [bool]) {
        for (i, token) in self.0.iter().enumerate() {
            if at[i] && matches!(token, Token::Star | Token::Any | Token::Folders) {
                at[i + 1] = true;
            }
        }
    }
}

impl Token {
    /// Whether it stands for exactly this byte.
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Byte(own) => *own == byte,
            Self::One => byte != b'/',
            Self::Class { negated, ranges } => {
                let is_in = ranges.iter().any(|(low, high)| (low..=high).contains(&&byte));
                byte != b'/' && is_in != *negated
            }
            Self::Star | Self::Any | Self::Folders => false,
        }
    }
}

/// Whether a path has any of the special characters.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

/// What follows a `[`, up to its `]`.
fn class(bytes: &mut std::iter::Peekable<std::str::Bytes<'_>>) -> Option<Token> {
    let negated = bytes.next_if(|byte| matches!(byte, b'^' | b'!')).is_some();
    let mut ranges = Vec::new();
    loop {
        let mut low = bytes.next()?;
        if low == b']' && !ranges.is_empty() {
            return Some(Token::Class { negated, ranges });
        }
        if low == b'\\' {
            low = bytes.next()?;
        }
        let mut high = low;
        if bytes.next_if_eq(&b'-').is_some() {
            high = bytes.next()?;
            if high == b'\\' {
                high = bytes.next()?;
            }
        }
        ranges.push((low, high));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(path.as_bytes())
    }

    #[test]
    fn matches_as_go_and_docker_do() {
        for (pattern, yes, no) in [
            ("a", "a", "b"),
            ("*.go", "x.go", "a/x.go"),
            ("a?c", "abc", "a/c"),
            ("[a-c]x", "bx", "dx"),
            ("[^a]x", "bx", "ax"),
            ("\\*", "*", "x"),
            ("**/x", "x", "xx"),
            ("**/x", "a/b/x", "a/bx"),
            ("a/**", "a/b/c", "b/c"),
            ("a/**/z", "a/z", "a/bz"),
            ("a/**/z", "a/b/c/z", "az"),
            ("**", "a/b", "\0no"),
            ("*/*.t", "a/b.t", "b.t"),
            ("*a*b*c*", "xaxbxcx", "xaxcxbx"),
        ] {
            assert!(matches(pattern, yes), "{pattern} {yes}");
            assert!(no == "\0no" || !matches(pattern, no), "{pattern} {no}");
        }
        assert!(Pattern::parse("[a").is_err());
        assert!(Pattern::parse("a\\").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(pattern in ".{0,30}", path in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(pattern) = Pattern::parse(&pattern) {
                let _ = pattern.matches(&path);
            }
        }

        #[test]
        fn a_plain_path_matches_itself_only(path in "[a-z/.]{1,20}", other in "[a-z/.]{1,20}") {
            prop_assert!(matches(&path, &path));
            prop_assert_eq!(matches(&path, &other), path == other);
        }
    }
}
