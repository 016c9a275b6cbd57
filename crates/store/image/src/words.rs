//! The words of a Dockerfile instruction: where one ends, what quotes mean, which variables are put in.
//!
//! ```text
//!   $name  ${name}  ${name:-word}  ${name-word}  ${name:+word}  ${name+word}  ${name:?why}  ${name?why}
//!   'as it is'   "with $variables"   \x is x
//! ```
//!
//! Pure and bounded: output and nesting have limits, so that no chain of variables can grow without end.

/// The most bytes one word may grow to.
const OUTPUT_MAX: usize = 1 << 20;
/// How deep `${a:-${b:-…}}` may nest.
const NESTING_MAX: usize = 16;

/// Why words cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// A quote is opened and not closed.
    #[error("a {0} is opened and never closed")]
    Unclosed(char),
    /// What stands in `${…}` is not understood.
    #[error("unsupported substitution ${{{0}}}")]
    Substitution(String),
    /// `${name:?why}` and there is no such variable.
    #[error("{name}: {why}")]
    Required {
        /// The variable.
        name: String,
        /// What the author says.
        why: String,
    },
    /// It grows beyond 1 MiB or nests deeper than 16.
    #[error("the text is too long or too deeply nested after substitution")]
    TooLarge,
}

/// How variables are looked up and which character escapes (`\`, or `` ` `` by parser directive).
#[derive(Clone, Copy)]
pub struct Expander<'a> {
    /// The value of a variable.
    pub lookup: &'a dyn Fn(&str) -> Option<String>,
    /// The escape character.
    pub escape: char,
}

impl std::fmt::Debug for Expander<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Expander").field("escape", &self.escape).finish_non_exhaustive()
    }
}

/// Splits at blanks that are neither quoted nor escaped. Quotes and escapes stay as they are.
pub fn split(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match quote {
            None if letter.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if letter == '\'' || letter == '"' => quote = Some(letter),
            Some(open) if letter == open => quote = None,
            _ => {}
        }
        word.push(letter);
        if letter == escape && quote != Some('\'') {
            word.extend(letters.next());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

impl Expander<'_> {
    /// The word with variables put in, quotes and escapes taken away.
    pub fn expand(&self, word: &str) -> Result<String, WordError> {
        let letters: Vec<char> = word.chars().collect();
        let mut scan = Scan { letters: &letters, at: 0, expander: self };
        scan.run(None, 0)
    }
}

struct Scan<'a> {
    letters: &'a [char],
    at: usize,
    expander: &'a Expander<'a>,
}

impl Scan<'_> {
    /// Reads until `end` (not consumed) or the end of the text.
    fn run(&mut self, end: Option<char>, depth: usize) -> Result<String, WordError> {
        if depth > NESTING_MAX {
            return Err(WordError::TooLarge);
        }
        let mut out = String::new();
        while let Some(letter) = self.peek() {
            if Some(letter) == end {
                break;
            }
            self.at += 1;
            match letter {
                '\'' => self.single(&mut out)?,
                '"' => self.double(&mut out, depth)?,
                '$' => out.push_str(&self.dollar(depth)?),
                _ if letter == self.expander.escape => out.extend(self.next()),
                _ => out.push(letter),
            }
            if out.len() > OUTPUT_MAX {
                return Err(WordError::TooLarge);
            }
        }
        Ok(out)
    }

    fn single(&mut self, out: &mut String) -> Result<(), WordError> {
        loop {
            match self.next() {
                Some('\'') => return Ok(()),
                Some(letter) => out.push(letter),
                None => return Err(WordError::Unclosed('\'')),
            }
        }
    }

    fn double(&mut self, out: &mut String, depth: usize) -> Result<(), WordError> {
        loop {
            match self.next() {
                Some('"') => return Ok(()),
                Some('$') => out.push_str(&self.dollar(depth)?),
                Some(letter) if letter == self.expander.escape => match self.peek() {
                    Some(next) if next == '"' || next == '$' || next == letter => {
                        out.push(next);
                        self.at += 1;
                    }
                    _ => out.push(letter),
                },
                Some(letter) => out.push(letter),
                None => return Err(WordError::Unclosed('"')),
            }
            if out.len() > OUTPUT_MAX {
                return Err(WordError::TooLarge);
            }
        }
    }

    /// What follows a `$`.
    fn dollar(&mut self, depth: usize) -> Result<String, WordError> {
        if self.peek() != Some('{') {
            let name = self.name();
            // `$` before anything else is a dollar.
            return Ok(if name.is_empty() { "$".to_owned() } else { self.value(&name) });
        }
        self.at += 1;
        let name = self.name();
        if name.is_empty() {
            return Err(self.unsupported(&name));
        }
        match self.next() {
            Some('}') => Ok(self.value(&name)),
            Some(':') => match self.next() {
                Some(operator @ ('-' | '+' | '?')) => self.operate(&name, operator, true, depth),
                _ => Err(self.unsupported(&name)),
            },
            Some(operator @ ('-' | '+' | '?')) => self.operate(&name, operator, false, depth),
            _ => Err(self.unsupported(&name)),
        }
    }

    fn operate(
        &mut self,
        name: &str,
        operator: char,
        empty_is_unset: bool,
        depth: usize,
    ) -> Result<String, WordError> {
        let word = self.run(Some('}'), depth + 1)?;
        if self.next() != Some('}') {
            return Err(WordError::Unclosed('{'));
        }
        let value = (self.expander.lookup)(name).filter(|v| !(empty_is_unset && v.is_empty()));
        match (operator, value) {
            ('-', value) => Ok(value.unwrap_or(word)),
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (_, None) => {
                let why = if word.is_empty() { "is not set".to_owned() } else { word };
                Err(WordError::Required { name: name.to_owned(), why })
            }
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(letter) = self.peek() {
            if !(letter.is_ascii_alphanumeric() || letter == '_') {
                break;
            }
            name.push(letter);
            self.at += 1;
            // Positional and special parameters have one digit.
            if name.len() == 1 && letter.is_ascii_digit() {
                break;
            }
        }
        name
    }

    fn value(&self, name: &str) -> String {
        (self.expander.lookup)(name).unwrap_or_default()
    }

    fn unsupported(&self, name: &str) -> WordError {
        let rest: String = self.letters.iter().skip(self.at.saturating_sub(1)).take(10).collect();
        WordError::Substitution(format!("{name}{rest}").trim_end_matches('}').to_owned())
    }

    fn peek(&self) -> Option<char> {
        self.letters.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.at += 1;
        Some(letter)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expand(word: &str) -> Result<String, WordError> {
        let lookup = |name: &str| match name {
            "a" => Some("x".to_owned()),
            "empty" => Some(String::new()),
            _ => None,
        };
        Expander { lookup: &lookup, escape: '\\' }.expand(word)
    }

    #[test]
    fn substitutes_as_docker_does() {
        for (word, expected) in [
            ("$a", "x"),
            ("${a}b", "xb"),
            ("$ab", ""),
            ("\\$a", "$a"),
            ("'$a'", "$a"),
            ("\"$a\"", "x"),
            ("\"\\$a \\n\"", "$a \\n"),
            ("${none:-d}", "d"),
            ("${none:-${a}}", "x"),
            ("${empty:-d}", "d"),
            ("${empty-d}", ""),
            ("${a:+y}", "y"),
            ("${none:+y}", ""),
            ("${empty+y}", "y"),
            ("${a:?no}", "x"),
            ("a$", "a$"),
            ("$/", "$/"),
        ] {
            assert_eq!(expand(word).unwrap(), expected, "{word}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for word in ["'a", "\"a", "${a", "${a:-b", "${}", "${a/b/c}", "${a%b}", "${none:?gone}"] {
            assert!(expand(word).is_err(), "{word}");
        }
        assert_eq!(expand("${none:?gone}").unwrap_err().to_string(), "none: gone");
        assert_eq!(expand(&"${z:-".repeat(40)), Err(WordError::TooLarge));
    }

    #[test]
    fn splits_outside_quotes() {
        assert_eq!(split(r#" a="b c" d\ e 'f g'  h"#, '\\'), [r#"a="b c""#, r"d\ e", "'f g'", "h"]);
    }

    proptest! {
        #[test]
        fn never_panics(word in ".{0,80}") {
            let _ = expand(&word);
            let _ = split(&word, '\\');
        }

        #[test]
        fn plain_words_are_kept(word in "[a-zA-Z0-9_./:=-]{0,40}") {
            prop_assert_eq!(expand(&word).unwrap(), word);
        }
    }
}
