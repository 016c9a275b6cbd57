//! `.dockerignore`: which files of the context are as if they were not there.
//!
//! A pattern counts for a path and everything below it; of several that match, the last decides, and one
//! that begins with `!` takes back. Pure.

use crate::path;
use crate::pattern::{Pattern, PatternError};

/// The most patterns.
const PATTERNS_MAX: usize = 2000;

/// The rules of a `.dockerignore`.
#[derive(Debug, Default)]
pub(crate) struct Ignore(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    pattern: Pattern,
    takes_back: bool,
}

impl Ignore {
    /// Reads the file. What is not UTF-8 matches nothing.
    pub(crate) fn parse(content: &[u8]) -> Result<Self, PatternError> {
        let text = String::from_utf8_lossy(content);
        let mut rules = Vec::new();
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') || rules.len() >= PATTERNS_MAX {
                continue;
            }
            let (line, takes_back) = match line.strip_prefix('!') {
                Some(rest) => (rest.trim(), true),
                None => (line, false),
            };
            let cleaned = path::clean_text(line);
            if !cleaned.is_empty() {
                rules.push(Rule { pattern: Pattern::parse(&cleaned)?, takes_back });
            }
        }
        Ok(Self(rules))
    }

    /// Whether there are no rules.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `path` is to be left out.
    pub(crate) fn excludes(&self, path: &[u8]) -> bool {
        let mut excluded = false;
        for rule in &self.0 {
            if rule.takes_back == excluded && path::prefixes(path).any(|p| rule.pattern.matches(p))
            {
                excluded = !rule.takes_back;
            }
        }
        excluded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_match_decides() {
        let ignore =
            Ignore::parse(b"# c\n/build/\n**/*.o\n!keep.o\ndocs\n!docs/README.md\n").unwrap();
        for excluded in ["build", "build/x/y", "a/b.o", "docs/x"] {
            assert!(ignore.excludes(excluded.as_bytes()), "{excluded}");
        }
        for kept in ["keep.o", "docs/README.md", "src/build", "a"] {
            assert!(!ignore.excludes(kept.as_bytes()), "{kept}");
        }
    }
}
