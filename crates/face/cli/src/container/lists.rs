//! `NAME=VALUE` in flags and files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::bad;
use crate::failure::Failure;

/// The environment of `--env-file` and `--env`, in this order. A name without a value takes ours, and
/// is left out if we have none.
pub(crate) fn environment(files: &[PathBuf], flags: &[String]) -> Result<Vec<String>, Failure> {
    let mut variables = pairs_of_files(files)?;
    variables.extend(flags.iter().cloned());
    if let Some(unnamed) = variables.iter().find(|it| it.starts_with('=') || it.is_empty()) {
        return Err(bad(format!("invalid environment variable: {unnamed:?}")));
    }
    let taken_over = |variable: String| match variable.contains('=') {
        true => Some(variable),
        false => std::env::var(&variable).ok().map(|value| format!("{variable}={value}")),
    };
    Ok(variables.into_iter().filter_map(taken_over).collect())
}

/// The lines of files but for empty ones and comments.
pub(super) fn pairs_of_files(files: &[PathBuf]) -> Result<Vec<String>, Failure> {
    let mut pairs = Vec::new();
    for file in files {
        pairs.extend(lines(&read(file)?).map(str::to_owned));
    }
    Ok(pairs)
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Reads a file that a flag names.
pub(super) fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file)
        .map_err(|error| bad(format!("cannot read {}: {error}", file.display())))
}

/// `NAME=VALUE` apart; a name alone has an empty value.
pub(super) fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

/// A map of `NAME=VALUE` flags, each of which needs a value.
pub(super) fn map(flags: &[String], flag: &str) -> Result<BTreeMap<String, String>, Failure> {
    let checked = |text: &String| match text.contains('=') {
        true => Ok(pair(text)),
        false => Err(bad(format!("invalid {flag} {text:?}: expected NAME=VALUE"))),
    };
    flags.iter().map(checked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_comments() {
        let text = "\u{feff}A=1\n# no\n\n  B=x y \nC";
        assert_eq!(lines(text).collect::<Vec<_>>(), ["A=1", "B=x y ", "C"]);
    }

    #[test]
    fn variables_are_taken_over() -> Result<(), String> {
        let flags = ["A=1", "PATH", "NOT_SET_ANYWHERE_AT_ALL"].map(str::to_owned);
        let found = environment(&[], &flags).map_err(|it| it.message)?;
        assert_eq!(found.len(), 2);
        assert_eq!(found.first().map(String::as_str), Some("A=1"));
        assert!(found.iter().any(|it| it.starts_with("PATH=/")));
        Ok(())
    }
}
