//! The parts of a [`ContainerSpec`](super::ContainerSpec) that concern the machine: mounts, network,
//! limits, security, logs, restarts.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Port;

/// Something mounted into the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The path inside the container; absolute.
    pub target: String,
    /// What is mounted.
    pub kind: MountKind,
    /// Whether it cannot be written.
    pub read_only: bool,
}

/// What a [`Mount`] shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A file or folder of the host.
    Bind {
        /// The path on the host; absolute.
        source: PathBuf,
        /// How mounts made below it later are passed on.
        propagation: Propagation,
        /// Make a missing source as a folder (as `-v` does; `--mount` refuses instead).
        create: bool,
        /// Leave out what is mounted below the source.
        non_recursive: bool,
    },
    /// A folder that dhow keeps.
    Volume {
        /// Its name; empty makes an anonymous one, which is given a name when the container is created.
        name: String,
        /// Do not copy what the image has at the target into a new volume.
        no_copy: bool,
        /// Made for this container only, and removed with it on request.
        #[serde(default)]
        anonymous: bool,
    },
    /// Memory.
    Tmpfs {
        /// Mount options such as `size=64m`, over Docker's `noexec,nosuid,nodev`.
        options: Vec<String>,
    },
}

/// How mount events pass between a bind mount and its source (`mount_namespaces(7)`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Not at all.
    #[default]
    Rprivate,
    /// Not at all, for the topmost mount only.
    Private,
    /// Both ways.
    Rshared,
    /// Both ways, for the topmost mount only.
    Shared,
    /// From the host to the container.
    Rslave,
    /// From the host to the container, for the topmost mount only.
    Slave,
}

impl fmt::Display for Propagation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rprivate => "rprivate",
            Self::Private => "private",
            Self::Rshared => "rshared",
            Self::Shared => "shared",
            Self::Rslave => "rslave",
            Self::Slave => "slave",
        })
    }
}

/// How a container is connected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSpec {
    /// Where its interfaces come from.
    pub mode: NetworkMode,
    /// Host ports that lead into the container.
    pub ports: Vec<PortBinding>,
    /// Give every exposed port a free host port.
    pub publish_all: bool,
    /// The MAC address asked for, `02:42:ac:11:00:02`.
    pub mac: Option<String>,
    /// The address asked for.
    pub ip: Option<IpAddr>,
    /// `name:address` lines for `/etc/hosts`; the address `host-gateway` is the host's.
    pub extra_hosts: Vec<String>,
    /// Name servers; empty takes the daemon's.
    pub dns: Vec<IpAddr>,
    /// Search domains; empty takes the daemon's, a single `.` means none.
    pub dns_search: Vec<String>,
    /// Resolver options.
    pub dns_options: Vec<String>,
}

/// Where a container's network interfaces come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub enum NetworkMode {
    /// The daemon's bridge.
    #[default]
    Default,
    /// The daemon's bridge, by its name.
    Bridge,
    /// Only a loopback interface.
    None,
    /// The host's own.
    Host,
    /// Those of another container, by id or name (by id once created).
    Container(String),
    /// A network by name.
    Named(String),
}

impl From<String> for NetworkMode {
    fn from(text: String) -> Self {
        match text.as_str() {
            "" | "default" => Self::Default,
            "bridge" => Self::Bridge,
            "none" => Self::None,
            "host" => Self::Host,
            other => match other.strip_prefix("container:") {
                Some(id) => Self::Container(id.to_owned()),
                None => Self::Named(text),
            },
        }
    }
}

impl From<NetworkMode> for String {
    fn from(mode: NetworkMode) -> Self {
        mode.to_string()
    }
}

impl fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Bridge => f.write_str("bridge"),
            Self::None => f.write_str("none"),
            Self::Host => f.write_str("host"),
            Self::Container(id) => write!(f, "container:{id}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// A host port that leads to a container's port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    /// The container's port.
    pub port: Port,
    /// The host's address; `None` is all of them.
    pub host_ip: Option<IpAddr>,
    /// The host's ports, of which the first free one is taken; `None` takes any free one.
    pub host_ports: Option<RangeInclusive<u16>>,
}

/// What a container may use. Zero or `None` everywhere means no limit of its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Memory in bytes.
    pub memory_bytes: Option<i64>,
    /// Memory and swap together in bytes; -1 is unlimited swap. With a memory limit and none here it is
    /// twice the memory limit.
    pub memory_swap_bytes: Option<i64>,
    /// A soft limit on memory in bytes.
    pub memory_reservation_bytes: Option<i64>,
    /// How readily pages are swapped out, 0 to 100 (cgroup v1).
    pub memory_swappiness: Option<i64>,
    /// Do not kill on running out of memory (cgroup v1).
    pub oom_kill_disable: bool,
    /// How readily the kernel picks it as victim, -1000 to 1000.
    pub oom_score_adj: i32,
    /// CPUs in billionths.
    pub nano_cpus: Option<i64>,
    /// Relative weight, 1024 by default.
    pub cpu_shares: Option<u64>,
    /// CPU time per period in microseconds.
    pub cpu_quota_us: Option<i64>,
    /// The period in microseconds.
    pub cpu_period_us: Option<u64>,
    /// CPUs it runs on: `0-2,4`.
    pub cpuset_cpus: String,
    /// Memory nodes it allocates on.
    pub cpuset_mems: String,
    /// How many processes it may have.
    pub pids: Option<i64>,
    /// Relative weight of its block I/O, 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// Resource limits, over the daemon's.
    pub ulimits: Vec<Ulimit>,
    /// Size of `/dev/shm` in bytes; 64 MiB by default.
    pub shm_bytes: Option<i64>,
}

/// A resource limit (`getrlimit(2)`). -1 is unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Its name without `RLIMIT_`, in lower case: `nofile`.
    pub name: String,
    /// What processes begin with.
    pub soft: i64,
    /// How far they may raise it.
    pub hard: i64,
}

/// What a container may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// All capabilities, all devices, no masks, no filters.
    pub privileged: bool,
    /// Capabilities besides the default ones, without `CAP_`; `ALL` is every one.
    pub cap_add: Vec<String>,
    /// Capabilities to take away; `ALL` takes every default one.
    pub cap_drop: Vec<String>,
    /// Which system calls are allowed.
    pub seccomp: SeccompChoice,
    /// Set-uid programs gain nothing (`prctl(2)`, `PR_SET_NO_NEW_PRIVS`).
    pub no_new_privileges: bool,
    /// Show the paths that are otherwise masked or read-only in `/proc` and `/sys`.
    pub unmask_paths: bool,
    /// The root filesystem cannot be written.
    pub read_only_rootfs: bool,
    /// Devices of the host.
    pub devices: Vec<DeviceMapping>,
    /// Further device rules as the cgroup writes them: `c 1:3 mr`.
    pub device_cgroup_rules: Vec<String>,
    /// Kernel parameters of the container's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// System V IPC and POSIX queues.
    pub ipc: NamespaceMode,
    /// Process ids.
    pub pid: NamespaceMode,
    /// Host name.
    pub uts: NamespaceMode,
    /// The view of cgroups.
    pub cgroupns: NamespaceMode,
    /// The options as they were written, for inspection.
    pub options: Vec<String>,
}

/// Which system calls a container may make.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeccompChoice {
    /// The daemon's default profile.
    #[default]
    Default,
    /// All.
    Unconfined,
    /// A profile in Docker's JSON.
    Profile(String),
}

/// Whose namespace of a kind a container has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceMode {
    /// Its own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// Another container's, by id or name (by id once created).
    Container(String),
}

/// A device of the host that appears in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// The path on the host.
    pub host: PathBuf,
    /// The path in the container.
    pub container: PathBuf,
    /// Any of `r`, `w` and `m`.
    pub permissions: String,
}

/// Where a container's output is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogConfig {
    /// How.
    pub driver: LogDriver,
    /// A log file is rotated at this size; `None` never.
    pub max_size_bytes: Option<u64>,
    /// How many files are kept, the current one among them; at least 1.
    pub max_files: Option<u32>,
    /// The options as they were written, for inspection.
    pub options: BTreeMap<String, String>,
}

/// How output is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// Docker's JSON lines in a file.
    #[default]
    JsonFile,
    /// Not at all.
    None,
}

/// Whether a container starts again by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// Whenever it ends, and when the daemon starts.
    Always,
    /// Whenever it ends, unless it was stopped.
    UnlessStopped,
    /// When it ends with another code than 0.
    OnFailure {
        /// How often at most; 0 is without limit.
        max_retries: u32,
    },
}
