//! The few words of the command line, with runc's names.

use std::ffi::OsString;
use std::path::PathBuf;

use dhow_error::{Error, Kind, Result};

/// What `--help` prints.
pub(crate) const HELP: &str = "\
dhow oci [--root DIR] COMMAND

  run [--bundle DIR] [--pid-file FILE] ID   run a container of a bundle in the foreground
  spec [--bundle DIR]                       write a config.json to begin with
  --version                                 tell the version

  --root DIR   where its own files go (default: /run/dhow-oci)";

/// runc's commands that are not built.
const NOT_BUILT: &[&str] = &[
    "checkpoint",
    "create",
    "delete",
    "events",
    "exec",
    "features",
    "kill",
    "list",
    "pause",
    "ps",
    "restore",
    "resume",
    "start",
    "state",
    "update",
];

/// A command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Where the runtime's own files go.
    pub(crate) root: PathBuf,
    /// What is to be done.
    pub(crate) command: Command,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Run a container in the foreground.
    Run { id: String, bundle: PathBuf, pid_file: Option<PathBuf> },
    /// Write a configuration.
    Spec { bundle: PathBuf },
    /// Tell the version.
    Version,
    /// Tell what there is.
    Help,
}

impl Arguments {
    /// Reads what follows the program's name.
    ///
    /// Errors: invalid for words that are not known, unsupported for runc's commands that are not built.
    pub(crate) fn parse(words: &[OsString]) -> Result<Self> {
        let words: Option<Vec<&str>> = words.iter().map(|word| word.to_str()).collect();
        let words = words.ok_or_else(|| Error::invalid("an argument is not UTF-8"))?;
        let mut words = words.into_iter();
        let mut root = PathBuf::from("/run/dhow-oci");
        while let Some(word) = words.next() {
            let (flag, value) = word.split_once('=').map_or((word, None), |it| (it.0, Some(it.1)));
            match flag {
                "--root" => root = path(flag, value.or_else(|| words.next()))?,
                "--log" | "--log-format" => drop(path(flag, value.or_else(|| words.next()))?),
                "--debug" => {}
                "--version" | "-v" => return Ok(Self { root, command: Command::Version }),
                "--help" | "-h" | "help" => return Ok(Self { root, command: Command::Help }),
                "run" | "spec" => {
                    let command = command(flag, words)?;
                    return Ok(Self { root, command });
                }
                _ if NOT_BUILT.contains(&flag) => {
                    let message = format!("the command {flag} is not built yet");
                    return Err(Error::new(Kind::Unsupported, message)
                        .with_hint("`run` runs a bundle in the foreground"));
                }
                _ => return Err(unknown(flag)),
            }
        }
        Ok(Self { root, command: Command::Help })
    }
}

/// `run` and `spec` with their flags.
fn command<'a>(name: &str, mut words: impl Iterator<Item = &'a str>) -> Result<Command> {
    let (mut bundle, mut pid_file, mut id) = (PathBuf::from("."), None, None);
    while let Some(word) = words.next() {
        let (flag, value) = word.split_once('=').map_or((word, None), |it| (it.0, Some(it.1)));
        match flag {
            "--bundle" | "-b" => bundle = path(flag, value.or_else(|| words.next()))?,
            "--pid-file" if name == "run" => {
                pid_file = Some(path(flag, value.or_else(|| words.next()))?);
            }
            _ if flag.starts_with('-') => return Err(unknown(flag)),
            _ if name == "run" && id.is_none() => id = Some(word.to_owned()),
            _ => return Err(unknown(word)),
        }
    }
    if name == "spec" {
        return Ok(Command::Spec { bundle });
    }
    let id = id.ok_or_else(|| Error::invalid("run needs the container's id"))?;
    let is_fine = |letter: char| letter.is_ascii_alphanumeric() || "_+-.".contains(letter);
    if !id.chars().all(is_fine) || id.starts_with('.') || id.len() > 255 {
        return Err(Error::invalid(format!("invalid container id {id:?}"))
            .with_hint("letters, digits, _, +, - and . are allowed"));
    }
    Ok(Command::Run { id, bundle, pid_file })
}

fn path(flag: &str, value: Option<&str>) -> Result<PathBuf> {
    value.map(PathBuf::from).ok_or_else(|| Error::invalid(format!("{flag} needs a value")))
}

fn unknown(word: &str) -> Error {
    Error::invalid(format!("unknown argument {word:?}")).with_hint("dhow oci --help lists them")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments> {
        Arguments::parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn runs_are_read() {
        let read = parsed("--root /r --log=x run -b /b --pid-file=/p it").unwrap();
        let command =
            Command::Run { id: "it".to_owned(), bundle: "/b".into(), pid_file: Some("/p".into()) };
        assert_eq!(read, Arguments { root: "/r".into(), command });
        assert_eq!(parsed("spec").unwrap().command, Command::Spec { bundle: ".".into() });
        assert_eq!(parsed("-v").unwrap().command, Command::Version);
    }

    #[test]
    fn the_rest_is_refused() {
        for line in
            ["create x", "nope", "run", "run ../x", "run .x", "run a b", "run --nope x", "--root"]
        {
            assert!(parsed(line).is_err(), "{line}");
        }
        assert_eq!(parsed("create x").unwrap_err().kind(), Kind::Unsupported);
    }
}
