//! What people ask for: a container's specification, as it is kept in the object store.
//!
//! These are dhow's own types. Faces translate a foreign request (a Docker create body, later a pod)
//! into a [`ContainerSpec`]; nothing below knows where it came from. Every field has a default, so that
//! a specification written by an older dhow reads into a newer one. Nothing here does I/O.
//!
//! [`crate::resolve`] merges the image's configuration into it, [`crate::validate`] refuses what cannot be.

mod host;
mod parse;
mod tmpfs;

pub use host::{
    DeviceMapping, Limits, LogConfig, LogDriver, Mount, MountKind, NamespaceMode, NetworkMode,
    NetworkSpec, PortBinding, Propagation, RestartPolicy, SeccompChoice, Security, Ulimit,
};
pub use parse::ParseError;
#[cfg(test)]
pub(crate) use parse::ULIMITS;
pub(crate) use parse::{clean_target, is_object_name};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Everything that a container is asked to be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// The image as it was asked for: a reference, an id, or a unique prefix of an id.
    pub image: String,
    /// What runs in front of `cmd`. `None` takes the image's; an empty list, or one empty string, resets
    /// the image's and, as with Docker, the image's `cmd` with it.
    pub entrypoint: Option<Vec<String>>,
    /// The command or the entrypoint's arguments. `None` takes the image's.
    pub cmd: Option<Vec<String>>,
    /// `KEY=VALUE` entries, over those of the image; `KEY` alone removes one of the image's.
    pub env: Vec<String>,
    /// The working directory; empty takes the image's, else `/`.
    pub workdir: String,
    /// `user`, `uid`, `user:group` or `uid:gid`; empty takes the image's, else root.
    pub user: String,
    /// Further groups, by name or number.
    pub group_add: Vec<String>,
    /// The host name; empty takes the first twelve digits of the id.
    pub hostname: String,
    /// The NIS domain name.
    pub domainname: String,
    /// Labels, over those of the image.
    pub labels: BTreeMap<String, String>,
    /// Ports the container says it serves, besides those of the image.
    pub expose: BTreeSet<Port>,
    /// Paths that get an anonymous volume each, besides those of the image.
    pub volumes: BTreeSet<String>,
    /// Bind mounts, named volumes and tmpfs.
    pub mounts: Vec<Mount>,
    /// Whether the container gets a terminal.
    pub tty: bool,
    /// Whether its standard input stays open.
    pub open_stdin: bool,
    /// Whether standard input closes when the first attached client goes.
    pub stdin_once: bool,
    /// Whether the creating client means to attach to standard input (kept for inspection).
    pub attach_stdin: bool,
    /// Whether the creating client means to attach to standard output (kept for inspection).
    pub attach_stdout: bool,
    /// Whether the creating client means to attach to standard error (kept for inspection).
    pub attach_stderr: bool,
    /// The signal that asks the container to stop; empty takes the image's, else SIGTERM.
    pub stop_signal: String,
    /// How long `stop` waits before SIGKILL, in seconds; negative waits for ever.
    pub stop_timeout_secs: Option<i64>,
    /// Whether a reaper runs as process 1 in front of the command.
    pub init: bool,
    /// Remove the container once it has ended.
    pub auto_remove: bool,
    /// Whether and when it starts again by itself.
    pub restart: RestartPolicy,
    /// Where its output is kept.
    pub log: LogConfig,
    /// How it is connected.
    pub network: NetworkSpec,
    /// What it may use of the machine.
    pub limits: Limits,
    /// What it may do.
    pub security: Security,
    /// The size of the terminal at start, as rows and columns.
    pub console_size: Option<ConsoleSize>,
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub cols: u16,
}

/// A transport protocol with ports.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Transmission Control Protocol.
    #[default]
    Tcp,
    /// User Datagram Protocol.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of a container, written `80/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Port {
    /// The number, never 0.
    pub number: u16,
    /// The protocol.
    pub protocol: Protocol,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

impl FromStr for Port {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let invalid = || ParseError::Port(parse::quoted(text));
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" | "" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => return Err(ParseError::Protocol(parse::quoted(other))),
        };
        let number = number.parse().ok().filter(|number| *number != 0).ok_or_else(invalid)?;
        Ok(Self { number, protocol })
    }
}

impl TryFrom<String> for Port {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<Port> for String {
    fn from(port: Port) -> Self {
        port.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_read_and_write() {
        assert_eq!("80".parse::<Port>().unwrap().to_string(), "80/tcp");
        assert_eq!("53/UDP".parse::<Port>().unwrap().to_string(), "53/udp");
        for bad in ["", "0", "65536", "80/sctp", "-1", "80/tcp/x", "é"] {
            assert!(bad.parse::<Port>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_empty_specification_reads() {
        let spec: ContainerSpec = serde_json::from_str("{}").unwrap();
        assert_eq!(spec, ContainerSpec::default());
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<ContainerSpec>(&text).unwrap(), spec);
    }
}
