//! Reading the words of a command line or a request into parts of a specification.
//!
//! The grammar is Docker's: `host:dest[:options]` for binds, `/dev/a:/dev/b:rwm` for devices,
//! `name=soft[:hard]` for limits. Everything is bounded by the length of the text; nothing is looked up.

use std::path::PathBuf;
use std::str::FromStr;

use dhow_error::{Classify, Kind};

use super::{
    ContainerSpec, DeviceMapping, Mount, MountKind, NamespaceMode, Propagation, SeccompChoice,
    Security, Ulimit,
};

/// Why a text could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not a port.
    #[error("invalid port {0:?}: expected a number from 1 to 65535, with /tcp or /udp behind it")]
    Port(String),
    /// Not a protocol with ports.
    #[error("invalid protocol {0:?}: expected tcp or udp")]
    Protocol(String),
    /// Not a bind.
    #[error("invalid volume specification: '{0}'")]
    Bind(String),
    /// The path in the container is not one.
    #[error("invalid mount path: '{0}' mount path must be absolute")]
    Relative(String),
    /// The root cannot be mounted over.
    #[error("invalid specification: destination can't be '/'")]
    Root,
    /// Neither a path nor the name of a volume.
    #[error(
        "{0:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed"
    )]
    VolumeName(String),
    /// Not an option of a mount.
    #[error("invalid mode: {0}")]
    Mode(String),
    /// Not an option of a tmpfs, or one with a value that is none.
    #[error("invalid tmpfs option {0:?}")]
    TmpfsOption(String),
    /// Not a device.
    #[error("invalid device specification: {0}")]
    Device(String),
    /// Not the name of a limit.
    #[error("invalid ulimit type: {0}")]
    UlimitName(String),
    /// Not a limit.
    #[error("invalid ulimit argument: {0}")]
    Ulimit(String),
    /// The soft limit is above the hard one.
    #[error("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")]
    UlimitOrder {
        /// The soft limit.
        soft: i64,
        /// The hard limit.
        hard: i64,
    },
    /// Not a security option.
    #[error("invalid --security-opt: {0:?}")]
    SecurityOption(String),
    /// A security option for something that is not here.
    #[error("security option {0:?} is not supported")]
    SecurityUnsupported(String),
    /// Not a namespace mode.
    #[error("invalid {kind} mode: {text}")]
    Namespace {
        /// Which namespace.
        kind: &'static str,
        /// What was given.
        text: String,
    },
}

impl Classify for ParseError {
    fn kind(&self) -> Kind {
        match self {
            Self::SecurityUnsupported(_) => Kind::Unsupported,
            _ => Kind::Invalid,
        }
    }
}

/// The names of resource limits, as `--ulimit` has them.
pub(crate) const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// The beginning of a text for an error message.
pub(super) fn quoted(text: &str) -> String {
    text.chars().take(200).collect()
}

impl Mount {
    /// Reads `-v`: `/host:/dest[:options]`, `name:/dest[:options]` or `/dest` for an anonymous volume.
    pub fn from_bind(text: &str) -> Result<Self, ParseError> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, options) = match parts.as_slice() {
            [target] => ("", *target, ""),
            [source, target] => (*source, *target, ""),
            [source, target, options] => (*source, *target, *options),
            _ => return Err(ParseError::Bind(quoted(text))),
        };
        if parts.len() > 1 && source.is_empty() {
            return Err(ParseError::Bind(quoted(text)));
        }
        let target = clean_target(target)?;
        let mut mount = Self {
            target,
            kind: if source.starts_with('/') {
                MountKind::Bind {
                    source: PathBuf::from(source),
                    propagation: Propagation::default(),
                    create: true,
                    non_recursive: false,
                }
            } else {
                if !source.is_empty() && !is_object_name(source) {
                    return Err(ParseError::VolumeName(quoted(source)));
                }
                MountKind::Volume {
                    name: source.to_owned(),
                    no_copy: false,
                    anonymous: source.is_empty(),
                }
            },
            read_only: false,
        };
        for option in options.split(',').filter(|option| !option.is_empty()) {
            mount.apply_option(option)?;
        }
        Ok(mount)
    }

    /// Reads `--tmpfs`: `/dest[:options]`.
    pub fn from_tmpfs(target: &str, options: &str) -> Result<Self, ParseError> {
        let options: Vec<String> =
            options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
        options.iter().try_for_each(|option| super::tmpfs::check(option))?;
        let read_only = options.iter().any(|option| option == "ro");
        Ok(Self { target: clean_target(target)?, kind: MountKind::Tmpfs { options }, read_only })
    }

    /// Applies one option behind the second colon of a bind.
    fn apply_option(&mut self, option: &str) -> Result<(), ParseError> {
        match (option, &mut self.kind) {
            ("ro", _) => self.read_only = true,
            ("rw", _) => self.read_only = false,
            // Labels and consistency hints of other platforms: accepted everywhere, meaningless here.
            ("z" | "Z" | "cached" | "delegated" | "consistent" | "default", _) => {}
            ("nocopy", MountKind::Volume { no_copy, .. }) => *no_copy = true,
            (option, MountKind::Bind { propagation, non_recursive, .. }) => match option {
                "bind" => *non_recursive = true,
                "rbind" => *non_recursive = false,
                other => *propagation = other.parse()?,
            },
            _ => return Err(ParseError::Mode(quoted(option))),
        }
        Ok(())
    }
}

impl FromStr for Propagation {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Ok(match text {
            "rprivate" => Self::Rprivate,
            "private" => Self::Private,
            "rshared" => Self::Rshared,
            "shared" => Self::Shared,
            "rslave" => Self::Rslave,
            "slave" => Self::Slave,
            other => return Err(ParseError::Mode(quoted(other))),
        })
    }
}

/// A path in the container, absolute and without `.`, `..` or doubled slashes; never the root.
pub(crate) fn clean_target(path: &str) -> Result<String, ParseError> {
    if !path.starts_with('/') {
        return Err(ParseError::Relative(quoted(path)));
    }
    let clean = clean_path(path);
    if clean == "/" { Err(ParseError::Root) } else { Ok(clean) }
}

/// `path` as an absolute path without `.`, `..` or doubled slashes.
pub(crate) fn clean_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Whether `name` may name a volume (and a container: the rules are the same).
pub(crate) fn is_object_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 255
        && bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.len() > 1
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

impl FromStr for DeviceMapping {
    type Err = ParseError;

    /// Reads `--device`: `/dev/host[:/dev/container[:rwm]]`.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let invalid = || ParseError::Device(quoted(text));
        let is_mode = |part: &str| !part.is_empty() && part.bytes().all(|b| b"rwm".contains(&b));
        let parts: Vec<&str> = text.split(':').collect();
        let (host, container, permissions) = match parts.as_slice() {
            [host] => (*host, *host, "rwm"),
            [host, mode] if is_mode(mode) => (*host, *host, *mode),
            [host, container] => (*host, *container, "rwm"),
            [host, container, mode] if is_mode(mode) => (*host, *container, *mode),
            _ => return Err(invalid()),
        };
        if !host.starts_with('/') || !container.starts_with('/') {
            return Err(invalid());
        }
        Ok(Self {
            host: PathBuf::from(host),
            container: PathBuf::from(clean_path(container)),
            permissions: permissions.to_owned(),
        })
    }
}

impl FromStr for Ulimit {
    type Err = ParseError;

    /// Reads `--ulimit`: `name=soft[:hard]`.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let invalid = || ParseError::Ulimit(quoted(text));
        let (name, values) = text.split_once('=').ok_or_else(invalid)?;
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let soft = soft.parse().map_err(|_| invalid())?;
        let hard = hard.parse().map_err(|_| invalid())?;
        let limit = Self { name: name.to_owned(), soft, hard };
        limit.check()?;
        Ok(limit)
    }
}

impl Ulimit {
    /// Refuses unknown names, values below -1 and a soft limit above the hard one.
    pub fn check(&self) -> Result<(), ParseError> {
        if !ULIMITS.contains(&self.name.as_str()) {
            return Err(ParseError::UlimitName(quoted(&self.name)));
        }
        if self.soft < -1 || self.hard < -1 {
            return Err(ParseError::Ulimit(format!("{}={}:{}", self.name, self.soft, self.hard)));
        }
        if self.hard != -1 && (self.soft == -1 || self.soft > self.hard) {
            return Err(ParseError::UlimitOrder { soft: self.soft, hard: self.hard });
        }
        Ok(())
    }
}

impl Security {
    /// Applies `--security-opt`: `no-new-privileges[=true|false]`, `seccomp=unconfined|builtin|JSON`,
    /// `systempaths=unconfined`, `apparmor=unconfined`, `label=disable`. With the older `:` as well.
    pub fn apply_option(&mut self, text: &str) -> Result<(), ParseError> {
        let split = text.split_once('=').or_else(|| text.split_once(':'));
        let (name, value) = split.unwrap_or((text, ""));
        match (name, value) {
            ("no-new-privileges", "" | "true") => self.no_new_privileges = true,
            ("no-new-privileges", "false") => self.no_new_privileges = false,
            ("seccomp", "unconfined") => self.seccomp = SeccompChoice::Unconfined,
            ("seccomp", "builtin") => self.seccomp = SeccompChoice::Default,
            ("seccomp", json) if json.trim_start().starts_with('{') => {
                self.seccomp = SeccompChoice::Profile(json.to_owned());
            }
            ("systempaths", "unconfined") => self.unmask_paths = true,
            // No such security module is used: leaving it out is what is asked for.
            ("apparmor", "unconfined" | "docker-default" | "") | ("label", "disable") => {}
            ("apparmor" | "label", _) => {
                return Err(ParseError::SecurityUnsupported(quoted(text)));
            }
            _ => return Err(ParseError::SecurityOption(quoted(text))),
        }
        self.options.push(text.to_owned());
        Ok(())
    }
}

impl NamespaceMode {
    /// Reads `--ipc`, `--pid`, `--uts` or `--cgroupns` (`kind` is for the message).
    pub fn parse(kind: &'static str, text: &str) -> Result<Self, ParseError> {
        match text {
            "" | "private" | "shareable" => Ok(Self::Private),
            "host" => Ok(Self::Host),
            other => match other.strip_prefix("container:").filter(|id| !id.is_empty()) {
                Some(id) => Ok(Self::Container(id.to_owned())),
                None => Err(ParseError::Namespace { kind, text: quoted(text) }),
            },
        }
    }
}

impl ContainerSpec {
    /// What runs: the entrypoint with the command behind it.
    pub fn arguments(&self) -> Vec<String> {
        let entrypoint = self.entrypoint.iter().flatten();
        entrypoint.chain(self.cmd.iter().flatten()).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_read_as_docker_reads_them() {
        let mount = Mount::from_bind("/srv:/data/../www:ro,rslave").unwrap();
        assert_eq!(mount.target, "/www");
        assert!(mount.read_only);
        let MountKind::Bind { source, propagation, create, .. } = mount.kind else { panic!() };
        assert_eq!(source, PathBuf::from("/srv"));
        assert_eq!((propagation, create), (Propagation::Rslave, true));

        let mount = Mount::from_bind("cache:/var/cache:nocopy").unwrap();
        assert!(
            matches!(mount.kind, MountKind::Volume { ref name, no_copy: true, .. } if name == "cache")
        );
        let mount = Mount::from_bind("/var/lib").unwrap();
        assert!(matches!(mount.kind, MountKind::Volume { anonymous: true, .. }));

        for bad in [
            "",
            ":",
            "a",
            "/a:b",
            ":/a",
            "/a:/b:wat",
            "/a:/b:ro:x",
            "../x:/b",
            "/a:/",
            "x:/y:rshared",
        ] {
            assert!(Mount::from_bind(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn devices_read() {
        let device: DeviceMapping = "/dev/fuse".parse().unwrap();
        assert_eq!((device.container.to_str(), &*device.permissions), (Some("/dev/fuse"), "rwm"));
        let device: DeviceMapping = "/dev/a:r".parse().unwrap();
        assert_eq!((device.container.to_str(), &*device.permissions), (Some("/dev/a"), "r"));
        let device: DeviceMapping = "/dev/a:/dev/b:rw".parse().unwrap();
        assert_eq!((device.container.to_str(), &*device.permissions), (Some("/dev/b"), "rw"));
        for bad in ["", "dev", "/dev/a:/dev/b:x", "/a:/b:r:w"] {
            assert!(bad.parse::<DeviceMapping>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ulimits_read() {
        let limit: Ulimit = "nofile=10:20".parse().unwrap();
        assert_eq!((limit.soft, limit.hard), (10, 20));
        assert!("nofile=20:10".parse::<Ulimit>().is_err());
        assert!("nofile=-1:10".parse::<Ulimit>().is_err());
        assert!("cheese=1".parse::<Ulimit>().is_err());
        assert!("core=-1".parse::<Ulimit>().is_ok());
    }

    #[test]
    fn security_options_read() {
        let mut security = Security::default();
        security.apply_option("seccomp=unconfined").unwrap();
        security.apply_option("no-new-privileges").unwrap();
        assert_eq!(security.seccomp, SeccompChoice::Unconfined);
        assert!(security.no_new_privileges);
        security.apply_option("no-new-privileges:false").unwrap();
        assert!(!security.no_new_privileges);
        assert!(security.apply_option("seccomp=/etc/x.json").is_err());
        assert!(security.apply_option("nonsense").is_err());
        assert!(security.apply_option("apparmor=mine").is_err());
    }

    #[test]
    fn paths_become_clean() {
        assert_eq!(clean_path("//a/./b/../../c/"), "/c");
        assert_eq!(clean_path("/../.."), "/");
    }
}
