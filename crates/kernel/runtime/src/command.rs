//! What is executed: finding it as a shell would, and executing it.
//!
//! The candidates are worked out before the fork; the child only tries them, with the identity and in the
//! root that the command will have. What people know from Docker is said in Docker's words.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dhow_error::Kind;
use dhow_sys::process::{Reason, SignalMask, Springboard, Strings, execve, execveat};
use dhow_sys::rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};
use dhow_sys::rustix::io::Errno;

use crate::error::LaunchError;

const STEP: &str = "exec";
/// What `$PATH` is when the environment has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command, ready to be executed.
#[derive(Debug)]
pub(crate) struct Command {
    /// What was typed, for messages.
    name: String,
    /// Where it may be: one path if the name has a slash, else one for each directory of `$PATH`.
    candidates: Vec<CString>,
    arguments: Strings,
    pub(crate) environment: Strings,
    has_home: bool,
    /// Our own binary, executed instead as pid 1 with the command as its arguments.
    reaper: Option<OwnedFd>,
}

impl Command {
    /// Prepares a command with its environment (`KEY=value`). With `reaper`, that program is executed and
    /// is given the command.
    pub(crate) fn new(
        arguments: &[String],
        environment: &[String],
        reaper: Option<OwnedFd>,
    ) -> Result<Self, LaunchError> {
        let name = arguments.first().filter(|name| !name.is_empty()).ok_or_else(|| {
            LaunchError::new(STEP, Kind::Invalid, "no command specified")
                .with_hint("give one after the image's name, or an image with CMD or ENTRYPOINT")
        })?;
        let path = value_of(environment, "PATH").unwrap_or(DEFAULT_PATH);
        let candidates = candidates(name, path)?;
        let given = arguments.iter().map(String::as_str);
        let prefix = if reaper.is_some() { Some("dhow-init") } else { None };
        Ok(Self {
            name: name.clone(),
            candidates,
            arguments: Strings::new(texts(prefix.into_iter().chain(given))?),
            environment: Strings::new(texts(last_wins(environment).into_iter())?),
            has_home: value_of(environment, "HOME").is_some_and(|home| !home.is_empty()),
            reaper,
        })
    }

    /// Whether the environment says where home is.
    pub(crate) fn has_home(&self) -> bool {
        self.has_home
    }

    /// Executes it; comes back only with why not.
    pub(crate) fn execute(&self) -> LaunchError {
        let path = match self.find() {
            Ok(path) => path,
            Err(error) => return error,
        };
        let errno = match &self.reaper {
            Some(reaper) => {
                // What comes before the reaper waits for signals is kept for it: to pid 1 the kernel
                // delivers none that would have its default action, unless it is blocked.
                SignalMask::block_all();
                execveat(reaper.as_fd(), &self.arguments, &self.environment)
            }
            None => execve(path, &self.arguments, &self.environment),
        };
        refused(&path.to_string_lossy(), errno)
    }

    /// Executes it from the springboard; comes back only with why not. `channel` is what that was made for.
    pub(crate) fn execute_by(&self, board: &Springboard, channel: BorrowedFd<'_>) -> LaunchError {
        match self.find() {
            Ok(path) => {
                let errno = board.exec(channel, path, &self.arguments, &self.environment);
                let message = format!("cannot execute the springboard: {}", Reason(errno));
                LaunchError::new(STEP, Kind::Internal, message)
            }
            Err(error) => error,
        }
    }

    /// The first candidate that is a file and may be executed.
    pub(crate) fn find(&self) -> Result<&CString, LaunchError> {
        if let [only] = self.candidates.as_slice()
            && self.name.contains('/')
        {
            return check(only).map(|()| only).map_err(|errno| self.not_startable(errno));
        }
        self.candidates.iter().find(|candidate| check(candidate).is_ok()).ok_or_else(|| {
            let message = format!("exec: {:?}: executable file not found in $PATH", self.name);
            LaunchError::new(STEP, Kind::CommandNotFound, message)
        })
    }

    fn not_startable(&self, errno: Errno) -> LaunchError {
        let name = &self.name;
        let reason = Reason(errno);
        let (kind, message) = match errno {
            Errno::NOENT => {
                (Kind::CommandNotFound, format!("exec: {name:?}: stat {name}: {reason}"))
            }
            Errno::NOTDIR | Errno::LOOP => {
                (Kind::CommandNotExecutable, format!("exec: {name:?}: stat {name}: {reason}"))
            }
            _ => (Kind::CommandNotExecutable, format!("exec: {name:?}: {reason}")),
        };
        LaunchError::new(STEP, kind, message)
    }
}

/// A regular file that we may execute, or why it is not.
fn check(path: &CString) -> Result<(), Errno> {
    match FileType::from_raw_mode(stat(path.as_c_str())?.st_mode) {
        FileType::Directory => Err(Errno::ISDIR),
        FileType::RegularFile => accessat(CWD, path.as_c_str(), Access::EXEC_OK, AtFlags::EACCESS),
        _ => Err(Errno::ACCESS),
    }
}

/// Why the kernel did not execute what is there.
pub(crate) fn refused(path: &str, errno: Errno) -> LaunchError {
    let message = format!("exec {path}: {}", Reason(errno));
    match errno {
        Errno::NOENT => LaunchError::new(STEP, Kind::CommandNotFound, message).with_hint(
            "the file is there, but not the interpreter that its first line or its ELF header names",
        ),
        Errno::NOEXEC => LaunchError::new(STEP, Kind::CommandNotExecutable, message).with_hint(
            "it is made for another processor, or is a script without #! in its first line",
        ),
        _ => LaunchError::new(STEP, Kind::CommandNotExecutable, message),
    }
}

fn candidates(name: &str, path: &str) -> Result<Vec<CString>, LaunchError> {
    if name.contains('/') {
        return texts(std::iter::once(name));
    }
    // Relative directories in $PATH are not searched: what they mean depends on who calls.
    let paths: Vec<String> = path
        .split(':')
        .filter(|directory| directory.starts_with('/'))
        .map(|directory| [directory.trim_end_matches('/'), "/", name].concat())
        .collect();
    texts(paths.iter().map(String::as_str))
}

/// The value of a variable; the last one counts.
fn value_of<'a>(environment: &'a [String], key: &str) -> Option<&'a str> {
    let value = |entry: &'a String| entry.strip_prefix(key)?.strip_prefix('=');
    environment.iter().rev().find_map(value)
}

/// The environment with only the last entry of each key, at the place of its first.
fn last_wins(environment: &[String]) -> Vec<&str> {
    let key = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let mut kept: Vec<&str> = Vec::with_capacity(environment.len());
    for entry in environment {
        match kept.iter_mut().find(|other| key(other) == key(entry)) {
            Some(place) => *place = entry,
            None => kept.push(entry),
        }
    }
    kept
}

fn texts<'a>(list: impl Iterator<Item = &'a str>) -> Result<Vec<CString>, LaunchError> {
    let text = |text: &str| {
        CString::new(text).map_err(|_| {
            LaunchError::new(STEP, Kind::Invalid, format!("{text:?} has a NUL byte in it"))
        })
    };
    list.map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    fn found(name: &str) -> Result<String, (i32, String)> {
        let command =
            Command::new(&strings(&[name]), &strings(&["PATH=/nowhere:/usr/bin:/bin"]), None);
        match command.unwrap().find() {
            Ok(path) => Ok(path.to_string_lossy().into_owned()),
            Err(error) => Err((error.exit_code(), error.message().to_owned())),
        }
    }

    #[test]
    fn finds_and_refuses_in_known_words() {
        assert_eq!(found("busybox"), Ok("/usr/bin/busybox".to_owned()));
        for (name, code, message) in [
            ("nosuch", 127, "exec: \"nosuch\": executable file not found in $PATH"),
            ("/nosuch", 127, "exec: \"/nosuch\": stat /nosuch: no such file or directory"),
            ("/etc/passwd", 126, "exec: \"/etc/passwd\": permission denied"),
            ("/etc", 126, "exec: \"/etc\": is a directory"),
            ("/etc/passwd/x", 126, "exec: \"/etc/passwd/x\": stat /etc/passwd/x: not a directory"),
        ] {
            assert_eq!(found(name), Err((code, message.to_owned())));
        }
    }

    #[test]
    fn the_last_of_a_key_counts() {
        let environment = strings(&["A=1", "PATH=/a", "A=2", "B"]);
        assert_eq!(last_wins(&environment), ["A=2", "PATH=/a", "B"]);
        assert_eq!(value_of(&environment, "A"), Some("2"));
        assert_eq!(value_of(&environment, "PAT"), None);
    }

    #[test]
    fn relative_directories_of_the_path_are_not_searched() {
        let found = candidates("x", "/a/::.:b:/c").unwrap();
        assert_eq!(found, [c"/a/x".to_owned(), c"/c/x".to_owned()]);
    }

    #[test]
    fn no_command_is_said() {
        assert!(Command::new(&[], &[], None).is_err());
        assert!(Command::new(&strings(&[""]), &[], None).is_err());
        assert!(Command::new(&strings(&["a\0b"]), &[], None).is_err());
    }
}
