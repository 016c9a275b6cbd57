//! Dockerfiles as text: directives, comments, continued lines, keywords and flags.
//!
//! ```text
//!   file        = { directive } { comment | blank | instruction }
//!   directive   = "#" name "=" value                    escape, syntax, check; only before all else
//!   instruction = keyword { "--" flag [ "=" value ] } rest   continued by a trailing escape character
//! ```
//!
//! Pure, and bounded by the size of the file. What an instruction means is not known here.

/// The largest Dockerfile, in bytes.
pub(crate) const SIZE_MAX: u64 = 1 << 20;

/// A Dockerfile's instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dockerfile {
    pub(crate) escape: char,
    pub(crate) lines: Vec<Line>,
}

/// One instruction, continued lines joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Where it begins, from 1.
    pub(crate) number: usize,
    /// In upper case.
    pub(crate) keyword: String,
    /// `--name=value`, without the dashes.
    pub(crate) flags: Vec<(String, String)>,
    /// What follows, trimmed.
    pub(crate) rest: String,
    /// The whole of it, for messages and the history.
    pub(crate) text: String,
}

/// Why a Dockerfile cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SyntaxError {
    #[error("the file is larger than {SIZE_MAX} bytes")]
    TooLarge,
    #[error("the file is not UTF-8")]
    NotText,
    #[error("the file has no instructions")]
    Empty,
    #[error("line {line}: the directive escape must be \\ or `, not {value:?}")]
    Escape { line: usize, value: String },
    #[error("line {line}: here-documents (<<{name}) are not built yet")]
    Heredoc { line: usize, name: String },
}

impl dhow_error::Classify for SyntaxError {
    fn kind(&self) -> dhow_error::Kind {
        match self {
            Self::Heredoc { .. } => dhow_error::Kind::Unsupported,
            _ => dhow_error::Kind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Heredoc { .. } => {
                Some("put the text into a file of the context and COPY it".to_owned())
            }
            _ => None,
        }
    }
}

impl Dockerfile {
    /// Reads a Dockerfile.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, SyntaxError> {
        if bytes.len() as u64 > SIZE_MAX {
            return Err(SyntaxError::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| SyntaxError::NotText)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let escape = escape_of(text)?;
        let mut lines = Vec::new();
        let mut open: Option<(usize, String)> = None;
        for (number, raw) in (1..).zip(text.lines()) {
            let raw = raw.trim_end_matches('\r');
            let trimmed = raw.trim_start();
            // Comments and blank lines within a continued instruction are left out.
            if trimmed.starts_with('#') || trimmed.is_empty() {
                continue;
            }
            let (content, continues) = continued(raw, escape);
            let (start, mut joined) = open.take().unwrap_or((number, String::new()));
            joined.push_str(if joined.is_empty() { content.trim_start() } else { content });
            if continues {
                open = Some((start, joined));
            } else {
                lines.push(Line::parse(start, &joined)?);
            }
        }
        if let Some((start, joined)) = open.filter(|(_, joined)| !joined.trim().is_empty()) {
            lines.push(Line::parse(start, &joined)?);
        }
        if lines.is_empty() { Err(SyntaxError::Empty) } else { Ok(Self { escape, lines }) }
    }
}

impl Line {
    /// Reads one instruction.
    pub(crate) fn parse(number: usize, text: &str) -> Result<Self, SyntaxError> {
        let text = text.trim();
        let (keyword, mut rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let keyword = keyword.to_ascii_uppercase();
        let mut flags = Vec::new();
        if takes_flags(&keyword) {
            while let Some(flag) = rest.trim_start().strip_prefix("--") {
                let (flag, left) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
                rest = left;
                if flag.is_empty() {
                    break;
                }
                let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
                flags.push((name.to_owned(), value.to_owned()));
            }
        }
        let rest = rest.trim();
        if matches!(keyword.as_str(), "RUN" | "COPY" | "ADD")
            && let Some(name) = rest.split_whitespace().find_map(heredoc)
        {
            return Err(SyntaxError::Heredoc { line: number, name });
        }
        Ok(Self { number, keyword, flags, rest: rest.to_owned(), text: text.to_owned() })
    }
}

fn takes_flags(keyword: &str) -> bool {
    matches!(keyword, "FROM" | "COPY" | "ADD" | "RUN" | "HEALTHCHECK")
}

/// The name of a here-document that a word begins.
fn heredoc(word: &str) -> Option<String> {
    let after = word.split_once("<<")?.1;
    let name = after.trim_start_matches('-').trim_matches(['"', '\'']);
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    // `<<<` is a shell's here-string.
    (word.starts_with("<<") && is_name).then(|| name.to_owned())
}

/// The line without its trailing escape character, and whether there was one. An escaped one is none.
fn continued(line: &str, escape: char) -> (&str, bool) {
    let trimmed = line.trim_end_matches([' ', '\t']);
    match trimmed.strip_suffix(escape) {
        Some(before) if !before.ends_with(escape) => (before, true),
        _ => (line, false),
    }
}

/// What the directives say the escape character is.
fn escape_of(text: &str) -> Result<char, SyntaxError> {
    for (line, raw) in (1..).zip(text.lines()) {
        let Some((name, value)) = raw.trim().strip_prefix('#').and_then(|c| c.split_once('='))
        else {
            break;
        };
        let name = name.trim().to_ascii_lowercase();
        match (name.as_str(), value.trim()) {
            ("escape", "\\") => return Ok('\\'),
            ("escape", "`") => return Ok('`'),
            ("escape", value) => {
                return Err(SyntaxError::Escape { line, value: value.chars().take(20).collect() });
            }
            ("syntax" | "check", _) => {}
            // The first comment that is no directive ends them.
            _ => break,
        }
    }
    Ok('\\')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(text: &str) -> Vec<(usize, String, String)> {
        let file = Dockerfile::parse(text.as_bytes()).unwrap();
        file.lines.into_iter().map(|line| (line.number, line.keyword, line.rest)).collect()
    }

    #[test]
    fn joins_continued_lines_and_drops_comments() {
        let text = "# syntax=x\n# a comment\nfrom scratch\r\n\nENV a=1 \\\n  # within\n\n  b=2 \\  \n c=3\nCMD x\\\\\n";
        assert_eq!(
            lines(text),
            [
                (3, "FROM".to_owned(), "scratch".to_owned()),
                (5, "ENV".to_owned(), "a=1   b=2  c=3".to_owned()),
                (10, "CMD".to_owned(), "x\\\\".to_owned()),
            ]
        );
    }

    #[test]
    fn the_escape_character_can_be_chosen() {
        let file = Dockerfile::parse(b"# escape=`\nFROM `\n scratch\nCOPY a\\b c\\").unwrap();
        assert_eq!((file.escape, file.lines.len()), ('`', 2));
        assert!(Dockerfile::parse(b"# escape=x\nFROM scratch").is_err());
        // After another comment it is only a comment.
        assert_eq!(Dockerfile::parse(b"# x\n# escape=`\nFROM a").unwrap().escape, '\\');
    }

    #[test]
    fn flags_stand_before_the_rest() {
        let file = Dockerfile::parse(b"COPY --from=a --chown=1:2  x y\nCMD --not a flag").unwrap();
        let flags = [("from", "a"), ("chown", "1:2")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(
            (file.lines[0].flags.as_slice(), file.lines[0].rest.as_str()),
            (&flags[..], "x y")
        );
        assert!(file.lines[1].flags.is_empty());
    }

    #[test]
    fn here_documents_are_told_by_line() {
        let error = Dockerfile::parse(b"FROM x\nCOPY <<EOF /a\nhello\nEOF").unwrap_err();
        assert_eq!(error.to_string(), "line 2: here-documents (<<EOF) are not built yet");
        assert!(Dockerfile::parse(b"# only\n").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Dockerfile::parse(&bytes);
        }

        #[test]
        fn every_line_is_accounted_for(text in "([A-Z]{1,5} [a-z\\\\ #]{0,10}\n){1,8}") {
            if let Ok(file) = Dockerfile::parse(text.as_bytes()) {
                let numbers: Vec<_> = file.lines.iter().map(|line| line.number).collect();
                prop_assert!(numbers.is_sorted() && numbers.iter().all(|n| *n <= text.lines().count()));
            }
        }
    }
}
