//! The commands: a file each, and a line each in the table.

mod create;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
mod pause;
mod ps;
mod resume;
mod run;
mod spec;
mod start;
mod state;
mod update;

use dhow_error::{Error, Kind, Result};

use crate::globals::{self, Globals};
use crate::words::{Flag, FlagsEnd, Words};

/// Every command. A new one is a file here and a line in this table.
const ALL: &[&Command] = &[
    &create::COMMAND,
    &delete::COMMAND,
    &events::COMMAND,
    &exec::COMMAND,
    &features::COMMAND,
    &kill::COMMAND,
    &list::COMMAND,
    &pause::COMMAND,
    &ps::COMMAND,
    &resume::COMMAND,
    &run::COMMAND,
    &spec::COMMAND,
    &start::COMMAND,
    &state::COMMAND,
    &update::COMMAND,
];

/// runc's commands that are not there, and why.
const NOT_THERE: &[(&str, &str)] = &[
    ("checkpoint", "checkpointing needs criu, which dhow does not drive yet"),
    ("restore", "restoring needs criu, which dhow does not drive yet"),
];

/// A command of the command line.
pub(crate) struct Command {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its arguments, for `--help`.
    pub(crate) usage: &'static str,
    /// What it does, for `--help`.
    pub(crate) about: &'static str,
    /// Its flags.
    pub(crate) flags: &'static [Flag],
    /// Where they end.
    pub(crate) flags_end: FlagsEnd,
    /// The least and the most arguments that it takes.
    pub(crate) arguments: (usize, usize),
    /// The exit code when it fails.
    pub(crate) failure: u8,
    /// Does it; gives the exit code.
    pub(crate) run: fn(&Globals, &Words) -> Result<u8>,
}

/// What all commands have alike.
pub(crate) const PLAIN: Command = Command {
    name: "",
    usage: "ID",
    about: "",
    flags: &[],
    flags_end: FlagsEnd::Never,
    arguments: (1, 1),
    failure: 1,
    run: |_, _| Ok(0),
};

impl Command {
    /// The command of that name.
    ///
    /// Errors: unsupported for runc's commands that are not there, else invalid.
    pub(crate) fn named(name: &str) -> Result<&'static Self> {
        if let Some(command) = ALL.iter().find(|command| command.name == name) {
            return Ok(command);
        }
        match NOT_THERE.iter().find(|(known, _)| *known == name) {
            Some((_, why)) => {
                let message = format!("the command {name} is not there yet");
                Err(Error::new(Kind::Unsupported, message).with_hint(*why))
            }
            None => Err(Error::invalid(format!("no command {name:?}"))
                .with_hint("dhow oci --help lists them")),
        }
    }

    /// Reads its words.
    ///
    /// Errors: invalid for unknown flags and for too few or too many arguments.
    pub(crate) fn read(&self, words: &[String]) -> Result<Words> {
        let words = Words::read(self.flags, self.flags_end, words)?;
        if words.help {
            return Ok(words);
        }
        let count = words.arguments.len();
        let (least, most) = self.arguments;
        let how = if least == most { "exactly" } else { "a minimum of" };
        if count < least || (count > most && least == most) {
            let message = format!("{:?} requires {how} {least} argument(s)", self.name);
            return Err(Error::invalid(message));
        }
        if count > most {
            let message = format!("{:?} requires a maximum of {most} argument(s)", self.name);
            return Err(Error::invalid(message));
        }
        Ok(words)
    }

    /// What its `--help` prints.
    pub(crate) fn help(&self) -> String {
        let flags = if self.flags.is_empty() { "" } else { " [FLAGS]" };
        let heading = format!("dhow oci {}{flags} {}\n\n{}", self.name, self.usage, self.about);
        [heading.trim_end(), &listed(self.flags)].concat()
    }
}

/// What `--help` prints.
pub(crate) fn help() -> String {
    let line = |command: &&Command| format!("\n  {:<11}{}", command.name, command.about);
    let commands: String = ALL.iter().map(line).collect();
    ["dhow oci [FLAGS] COMMAND\n\nCOMMANDS", &commands, &listed(globals::FLAGS)].concat()
}

fn listed(flags: &[Flag]) -> String {
    if flags.is_empty() {
        return String::new();
    }
    let line = |flag: &Flag| format!("\n  {:<28}{}", flag.usage(), flag.about);
    let lines: String = flags.iter().map(line).collect();
    format!("\n\nFLAGS{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_and_explained() {
        for command in ALL {
            assert_eq!(Command::named(command.name).unwrap().name, command.name);
            assert!(!command.about.is_empty() && help().contains(command.about));
        }
        assert_eq!(Command::named("restore").err().unwrap().kind(), Kind::Unsupported);
        assert_eq!(Command::named("nope").err().unwrap().kind(), Kind::Invalid);
    }

    #[test]
    fn arguments_are_counted() {
        let words = |count: usize| vec!["x".to_owned(); count];
        assert!(run::COMMAND.read(&words(0)).is_err());
        assert!(run::COMMAND.read(&words(1)).is_ok());
        assert!(run::COMMAND.read(&words(2)).is_err());
        assert!(spec::COMMAND.read(&words(1)).is_err());
    }
}
