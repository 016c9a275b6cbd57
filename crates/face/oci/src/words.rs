//! Command lines as runc reads them: flags by name, then arguments.
//!
//! `--name value`, `--name=value`, `-name` and a short `-n` are the same. Flags may stand after arguments,
//! except where the first argument begins somebody else's command line (`exec`). `--` ends the flags.

use std::str::FromStr;

use dhow_error::{Error, Result};

/// A flag that a command line may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    /// Its long name, without dashes.
    pub(crate) name: &'static str,
    short: Option<&'static str>,
    takes_value: bool,
    /// What it is for, for `--help`.
    pub(crate) about: &'static str,
}

impl Flag {
    /// A flag that is there or not.
    pub(crate) const fn switch(name: &'static str, about: &'static str) -> Self {
        Self { name, short: None, takes_value: false, about }
    }

    /// A flag with a value.
    pub(crate) const fn value(name: &'static str, about: &'static str) -> Self {
        Self { name, short: None, takes_value: true, about }
    }

    /// The same flag with a short name too.
    pub(crate) const fn short(mut self, short: &'static str) -> Self {
        self.short = Some(short);
        self
    }

    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.short == Some(name)
    }

    /// How `--help` names it.
    pub(crate) fn usage(&self) -> String {
        let short = self.short.map(|short| format!(", -{short}")).unwrap_or_default();
        let value = if self.takes_value { " VALUE" } else { "" };
        format!("--{}{short}{value}", self.name)
    }
}

/// Where a command line's flags end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlagsEnd {
    /// Nowhere before `--`.
    Never,
    /// At the first argument.
    AtArgument,
}

/// A command line that has been read.
#[derive(Debug, Default)]
pub(crate) struct Words {
    given: Vec<(&'static str, String)>,
    /// What is no flag.
    pub(crate) arguments: Vec<String>,
    /// Whether help was asked for.
    pub(crate) help: bool,
}

impl Words {
    /// Reads `words` as `flags` and arguments.
    ///
    /// Errors: invalid for flags that are not among `flags`, and for missing or needless values.
    pub(crate) fn read(flags: &[Flag], end: FlagsEnd, words: &[String]) -> Result<Self> {
        let mut read = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                break;
            }
            if let Some(rest) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) {
                let rest = rest.strip_prefix('-').unwrap_or(rest);
                read.take(flags, rest, &mut words)?;
                continue;
            }
            read.arguments.push(word.clone());
            if end == FlagsEnd::AtArgument {
                break;
            }
        }
        read.arguments.extend(words.cloned());
        Ok(read)
    }

    fn take<'a>(
        &mut self,
        flags: &[Flag],
        word: &str,
        words: &mut impl Iterator<Item = &'a String>,
    ) -> Result<()> {
        let (name, value) = word.split_once('=').map_or((word, None), |it| (it.0, Some(it.1)));
        let Some(flag) = flags.iter().find(|flag| flag.is_called(name)) else {
            if name == "help" || name == "h" {
                self.help = true;
                return Ok(());
            }
            return Err(Error::invalid(format!("flag provided but not defined: -{name}")));
        };
        let value = match (flag.takes_value, value) {
            (_, Some(value)) => value.to_owned(),
            (true, None) => words
                .next()
                .cloned()
                .ok_or_else(|| Error::invalid(format!("flag needs an argument: --{name}")))?,
            (false, None) => "true".to_owned(),
        };
        if !flag.takes_value && boolean(&value).is_none() {
            return Err(Error::invalid(format!("invalid boolean value {value:?} for --{name}")));
        }
        self.given.push((flag.name, value));
        Ok(())
    }

    /// Whether a switch is on; the last one counts.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.value(name).and_then(boolean).unwrap_or(false)
    }

    /// A flag's value; the last one counts.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.given.iter().rev().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// All values of a flag that may be given several times, in their order.
    #[allow(dead_code, reason = "of exec's flags")]
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.given.iter().filter(move |(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// A flag's value as a number.
    ///
    /// Errors: invalid if it is none.
    pub(crate) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        let number = |value: &str| {
            value
                .parse()
                .map_err(|_| Error::invalid(format!("invalid value {value:?} for --{name}")))
        };
        self.value(name).map(number).transpose()
    }

    /// The first argument, which the command's checked number of arguments says is there.
    pub(crate) fn first(&self) -> Result<&str> {
        self.arguments
            .first()
            .map(String::as_str)
            .filter(|id| !id.is_empty())
            .ok_or_else(|| Error::invalid("container id cannot be empty"))
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] =
        &[Flag::value("bundle", "").short("b"), Flag::switch("detach", "").short("d")];

    fn read(line: &str, end: FlagsEnd) -> Result<Words> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Words::read(FLAGS, end, &words)
    }

    #[test]
    fn all_forms_are_read() {
        for line in ["--bundle /b -d it", "-b=/b --detach=true it", "it -bundle /b --detach=1"] {
            let words = read(line, FlagsEnd::Never).unwrap();
            assert_eq!(words.value("bundle"), Some("/b"), "{line}");
            assert!(words.is_on("detach"), "{line}");
            assert_eq!(words.arguments, ["it"], "{line}");
        }
        let words = read("-d --detach=false -- -b", FlagsEnd::Never).unwrap();
        assert!(!words.is_on("detach"));
        assert_eq!(words.arguments, ["-b"]);
    }

    #[test]
    fn an_argument_may_end_the_flags() {
        let words = read("-d it ls -b --x", FlagsEnd::AtArgument).unwrap();
        assert_eq!(words.arguments, ["it", "ls", "-b", "--x"]);
    }

    #[test]
    fn the_rest_is_refused() {
        for line in ["--nope", "--bundle", "--detach=maybe"] {
            assert!(read(line, FlagsEnd::Never).is_err(), "{line}");
        }
        assert!(read("-h", FlagsEnd::Never).unwrap().help);
    }
}
