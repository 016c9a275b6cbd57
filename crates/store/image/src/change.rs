//! Instructions that change an image's configuration: `CMD`, `ENV`, `EXPOSE` … as Dockerfiles and
//! `docker import --change` write them.
//!
//! Pure. A [`Change`] is read from a keyword and the rest of its line, with variables put in where Docker
//! does so, and then applied to a configuration.

use dhow_error::{Classify, Kind};

use crate::ExecutionConfig;
use crate::words::{Expander, WordError, split};

/// A change of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `CMD`.
    Cmd(Command),
    /// `ENTRYPOINT`.
    Entrypoint(Command),
    /// `ENV`: names and values.
    Env(Vec<(String, String)>),
    /// `EXPOSE`: `80/tcp`.
    Expose(Vec<String>),
    /// `LABEL`: names and values.
    Label(Vec<(String, String)>),
    /// `USER`.
    User(String),
    /// `WORKDIR`, not yet joined with the one before.
    WorkDir(String),
    /// `VOLUME`.
    Volume(Vec<String>),
    /// `STOPSIGNAL`.
    StopSignal(String),
    /// `SHELL`.
    Shell(Vec<String>),
    /// `ONBUILD`.
    OnBuild(String),
    /// `MAINTAINER`, given up by Docker, but still found.
    Maintainer(String),
}

/// A command in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `["program", "argument"]`.
    Exec(Vec<String>),
    /// A line for the shell.
    Shell(String),
}

/// Why an instruction cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There is no such instruction among those that change a configuration.
    #[error("{0} is not an instruction that changes an image's configuration")]
    Unknown(String),
    /// It needs arguments.
    #[error("{keyword} needs {needs}")]
    Arguments {
        /// The instruction.
        keyword: String,
        /// What it needs.
        needs: &'static str,
    },
    /// A `name=value` has no `=`.
    #[error("{keyword} wants name=value, and {word:?} has no '='")]
    Pair {
        /// The instruction.
        keyword: String,
        /// The word.
        word: String,
    },
    /// Not a port, a range of ports, or a protocol.
    #[error("invalid port {0:?}")]
    Port(String),
    /// A word cannot be read.
    #[error(transparent)]
    Word(#[from] WordError),
}

impl Classify for ChangeError {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Port(_) => Some("write 80, 80/udp or 8000-8010/tcp".to_owned()),
            _ => None,
        }
    }
}

impl Change {
    /// Reads an instruction. `keyword` may be in any case.
    pub fn parse(keyword: &str, rest: &str, words: &Expander<'_>) -> Result<Self, ChangeError> {
        let keyword = keyword.to_ascii_uppercase();
        let rest = rest.trim();
        let needs = |needs| ChangeError::Arguments { keyword: keyword.clone(), needs };
        let one = || match rest {
            "" => Err(needs("one argument")),
            _ => Ok(words.expand(rest)?),
        };
        Ok(match keyword.as_str() {
            "CMD" => Self::Cmd(Command::parse(rest)),
            "ENTRYPOINT" => Self::Entrypoint(Command::parse(rest)),
            "ENV" => Self::Env(pairs(&keyword, rest, words)?),
            "LABEL" => Self::Label(pairs(&keyword, rest, words)?),
            "EXPOSE" => Self::Expose(ports(&list(rest, words, || needs("ports"))?)?),
            "VOLUME" => Self::Volume(list(rest, words, || needs("paths"))?),
            "USER" => Self::User(one()?),
            "WORKDIR" => Self::WorkDir(one()?),
            "STOPSIGNAL" => Self::StopSignal(one()?),
            "SHELL" => match Command::parse(rest) {
                Command::Exec(words) if !words.is_empty() => Self::Shell(words),
                _ => return Err(needs("a JSON list such as [\"/bin/sh\", \"-c\"]")),
            },
            "ONBUILD" if rest.is_empty() => return Err(needs("an instruction")),
            "ONBUILD" => Self::OnBuild(rest.to_owned()),
            "MAINTAINER" => Self::Maintainer(rest.to_owned()),
            _ => return Err(ChangeError::Unknown(keyword)),
        })
    }

    /// Applies it. `cmd_is_own` remembers, over all changes of one build stage, whether it has set `CMD`:
    /// a new entrypoint drops a command that was inherited.
    pub fn apply(self, config: &mut ExecutionConfig, cmd_is_own: &mut bool) {
        match self {
            Self::Cmd(command) => {
                config.cmd = Some(command.argv(config.shell.as_deref()));
                *cmd_is_own = true;
            }
            Self::Entrypoint(command) => {
                config.entrypoint = Some(command.argv(config.shell.as_deref()));
                if !*cmd_is_own {
                    config.cmd = None;
                }
            }
            Self::Env(pairs) => {
                for (name, value) in pairs {
                    set_env(&mut config.env, &name, &value);
                }
            }
            Self::Label(pairs) => config.labels.extend(pairs),
            Self::Expose(ports) => config.exposed_ports.extend(ports),
            Self::User(user) => config.user = user,
            Self::WorkDir(path) => config.working_dir = join(&config.working_dir, &path),
            Self::Volume(paths) => config.volumes.extend(paths),
            Self::StopSignal(signal) => config.stop_signal = Some(signal),
            Self::Shell(words) => config.shell = Some(words),
            Self::OnBuild(instruction) => config.on_build.push(instruction),
            Self::Maintainer(_) => {}
        }
    }
}

impl Command {
    /// Reads a command; what is not a JSON list of texts is a line for the shell.
    pub fn parse(text: &str) -> Self {
        if text.starts_with('[')
            && let Ok(words) = serde_json::from_str::<Vec<String>>(text)
        {
            return Self::Exec(words);
        }
        Self::Shell(text.to_owned())
    }

    /// The argument list.
    pub fn argv(self, shell: Option<&[String]>) -> Vec<String> {
        match self {
            Self::Exec(words) => words,
            Self::Shell(line) if line.is_empty() => Vec::new(),
            Self::Shell(line) => {
                let default = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
                let mut words = shell.map_or_else(default, <[String]>::to_vec);
                words.push(line);
                words
            }
        }
    }
}

/// Sets a variable in a `NAME=value` list, in its old place if it has one.
pub fn set_env(env: &mut Vec<String>, name: &str, value: &str) {
    let pair = format!("{name}={value}");
    let is_it = |old: &&mut String| old.split('=').next() == Some(name);
    match env.iter_mut().find(is_it) {
        Some(old) => *old = pair,
        None => env.push(pair),
    }
}

/// A path upon a working directory, in shortest form, always absolute.
pub fn join(base: &str, path: &str) -> String {
    let start = if path.starts_with('/') { "" } else { base };
    let mut parts: Vec<&str> = Vec::new();
    for part in start.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `name=value …`, or the old form `name the whole rest`.
fn pairs(
    keyword: &str,
    rest: &str,
    expander: &Expander<'_>,
) -> Result<Vec<(String, String)>, ChangeError> {
    let needs = |needs| ChangeError::Arguments { keyword: keyword.to_owned(), needs };
    let words = split(rest, expander.escape);
    let first = words.first().ok_or_else(|| needs("name=value"))?;
    if !first.contains('=') {
        let (name, value) =
            rest.split_once(char::is_whitespace).ok_or_else(|| needs("name=value"))?;
        return Ok(vec![(expander.expand(name)?, expander.expand(value.trim())?)]);
    }
    let pair = |word: &String| {
        let Some((name, value)) = word.split_once('=') else {
            return Err(ChangeError::Pair { keyword: keyword.to_owned(), word: word.clone() });
        };
        let name = expander.expand(name)?;
        if name.is_empty() {
            return Err(needs("a name before '='"));
        }
        Ok((name, expander.expand(value)?))
    };
    words.iter().map(pair).collect()
}

/// A JSON list, or words.
fn list(
    rest: &str,
    expander: &Expander<'_>,
    needs: impl Fn() -> ChangeError,
) -> Result<Vec<String>, ChangeError> {
    let words = match Command::parse(rest) {
        Command::Exec(words) => words,
        Command::Shell(line) => split(&line, expander.escape),
    };
    let words = words.iter().map(|word| expander.expand(word)).collect::<Result<Vec<_>, _>>()?;
    // A variable may hold several, or nothing.
    let words: Vec<String> =
        words.iter().flat_map(|w| w.split_whitespace()).map(str::to_owned).collect();
    if words.is_empty() { Err(needs()) } else { Ok(words) }
}

/// `80`, `53/udp`, `8000-8002` as `80/tcp`, `53/udp`, `8000/tcp` …
fn ports(words: &[String]) -> Result<Vec<String>, ChangeError> {
    let mut ports = Vec::new();
    for word in words {
        let invalid = || ChangeError::Port(word.clone());
        let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
        let protocol = protocol.to_ascii_lowercase();
        if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
            return Err(invalid());
        }
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let (low, high) = number(low).zip(number(high)).ok_or_else(invalid)?;
        if low > high {
            return Err(invalid());
        }
        ports.extend((low..=high).map(|port| format!("{port}/{protocol}")));
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(line: &str) -> Result<Change, ChangeError> {
        let lookup = |name: &str| (name == "v").then(|| "val ue".to_owned());
        let expander = Expander { lookup: &lookup, escape: '\\' };
        let (keyword, rest) = line.split_once(' ').unwrap_or((line, ""));
        Change::parse(keyword, rest, &expander)
    }

    fn applied(lines: &[&str]) -> ExecutionConfig {
        let mut config =
            ExecutionConfig { cmd: Some(vec!["inherited".into()]), ..Default::default() };
        let mut own = false;
        for line in lines {
            parse(line).unwrap().apply(&mut config, &mut own);
        }
        config
    }

    #[test]
    fn commands_have_two_forms() {
        let config = applied(&[r#"ENTRYPOINT ["/a", "b c"]"#]);
        assert_eq!(config.entrypoint.unwrap(), ["/a", "b c"]);
        assert_eq!(config.cmd, None);
        let config = applied(&["cmd echo $v", r#"ENTRYPOINT ["/a"]"#]);
        assert_eq!(config.cmd.unwrap(), ["/bin/sh", "-c", "echo $v"]);
        let config = applied(&[r#"SHELL ["/bin/ash", "-ec"]"#, "CMD [bad json"]);
        assert_eq!(config.cmd.unwrap(), ["/bin/ash", "-ec", "[bad json"]);
    }

    #[test]
    fn variables_and_labels() {
        let config = applied(&["ENV a=1 b=\"x $v\"", "ENV c the rest of it", "ENV a=2"]);
        assert_eq!(config.env, ["a=2", "b=x val ue", "c=the rest of it"]);
        let config = applied(&["LABEL a.b=c d='e f'"]);
        assert_eq!(config.labels["d"], "e f");
        assert!(parse("ENV a=1 b").is_err());
        assert!(parse("ENV a").is_err());
        assert!(parse("LABEL").is_err());
    }

    #[test]
    fn ports_volumes_and_folders() {
        let config = applied(&["EXPOSE 80 53/UDP 8000-8002", "WORKDIR /a", "WORKDIR ../b/./c"]);
        let ports: Vec<_> = config.exposed_ports.into_iter().collect();
        assert_eq!(ports, ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]);
        assert_eq!(config.working_dir, "/b/c");
        let config = applied(&[r#"VOLUME ["/a", "/b"]"#, "VOLUME /c /d"]);
        assert_eq!(config.volumes.len(), 4);
        for bad in ["EXPOSE 0", "EXPOSE 80/icmp", "EXPOSE 9-8", "EXPOSE 70000", "VOLUME", "RUN x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(line in "(CMD|ENV|LABEL|EXPOSE|VOLUME|USER|SHELL) .{0,60}") {
            let _ = parse(&line);
        }

        #[test]
        fn joined_paths_are_absolute_and_clean(base in "(/[a-z.]{0,3}){0,4}", path in "[a-z./]{0,12}") {
            let joined = join(&base, &path);
            prop_assert!(joined.starts_with('/') && !joined.contains("//"));
            prop_assert!(joined.split('/').all(|part| part != ".." && part != "."));
        }
    }
}
