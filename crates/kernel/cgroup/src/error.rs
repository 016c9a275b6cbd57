//! What can go wrong with cgroups, in words that name value, path and way out.

use dhow_error::{Classify, Kind};
use dhow_sys::bpf::BpfError;
use dhow_sys::process::Reason;
use dhow_sys::rustix::io::Errno;

/// A failure to find, shape, enter or remove a cgroup.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The mount table could not be read.
    #[error("cannot read the mounted cgroup hierarchies from {path}")]
    Detect {
        /// The file that was read.
        path: &'static str,
        /// Why not.
        source: Reason,
    },
    /// No cgroup file system is mounted at all.
    #[error("no cgroup hierarchy is mounted")]
    NotMounted,
    /// A cgroup path that is empty, relative or climbs.
    #[error(
        "cgroup path {path:?} must name a cgroup below the root, without empty, '.' or '..' components"
    )]
    BadPath {
        /// The path as given.
        path: String,
    },
    /// What names no cgroup below a container's.
    #[error("cannot join cgroup {text:?}: {why}")]
    BadBelow {
        /// What was given.
        text: String,
        /// Why it names none.
        why: &'static str,
    },
    /// A directory could not be made.
    #[error("cannot create cgroup {directory}")]
    Create {
        /// The directory, with its mount point.
        directory: String,
        /// Why not.
        source: Reason,
    },
    /// The cgroup was there before, with processes of somebody else.
    #[error("cgroup {path} is not empty: it has {count} process{}", if *count == 1 { "" } else { "es" })]
    NotEmpty {
        /// The cgroup's path.
        path: String,
        /// How many processes are in it and below it.
        count: usize,
    },
    /// The cgroup was there before and is frozen, so that nothing would ever run in it.
    #[error("cgroup {path} is frozen")]
    Frozen {
        /// The cgroup's path.
        path: String,
    },
    /// A new v1 cpuset could not be given its parent's processors and memory nodes.
    #[error("cannot initialise cpuset of {directory} from its parent")]
    InheritCpuset {
        /// The directory, with its mount point.
        directory: String,
        /// Why not.
        source: Reason,
    },
    /// A limit was refused by the kernel.
    #[error("cannot set {what} {value} on {path}")]
    Set {
        /// The limit in a user's words, such as "memory limit".
        what: &'static str,
        /// Its value in a user's words, such as "4 MiB".
        value: String,
        /// The cgroup's path.
        path: String,
        /// What to do about it.
        hint: Option<String>,
        /// Why not.
        source: Reason,
    },
    /// A value that no kernel takes.
    #[error("{what} {value} is out of range: {why}")]
    BadValue {
        /// The limit in a user's words.
        what: &'static str,
        /// Its value in a user's words.
        value: String,
        /// What the range is.
        why: String,
    },
    /// A limit needs a controller that is mounted or enabled nowhere.
    #[error("cannot set {what} {value} on {path}: the {controller} controller is not available")]
    NoController {
        /// The limit in a user's words.
        what: &'static str,
        /// Its value in a user's words.
        value: String,
        /// The cgroup's path.
        path: String,
        /// The missing controller.
        controller: &'static str,
        /// What to do about it.
        hint: String,
    },
    /// The cgroup could not be given to a user.
    #[error("cannot give cgroup {directory} to user {uid}")]
    Delegate {
        /// The directory, with its mount point.
        directory: String,
        /// The host's user.
        uid: u32,
        /// Why not.
        source: Reason,
    },
    /// There is nothing to watch for the OOM killer.
    #[error("cannot watch {path} for the OOM killer: the memory controller is not available")]
    NoWatch {
        /// The cgroup's path.
        path: String,
        /// What to do about it.
        hint: String,
    },
    /// A limit that this cgroup version cannot express.
    #[error("cannot set {what} {value} on {path}: {why}")]
    Unsupported {
        /// The limit in a user's words.
        what: &'static str,
        /// Its value in a user's words.
        value: String,
        /// The cgroup's path.
        path: String,
        /// Why not.
        why: String,
    },
    /// The device program could not be put in place.
    #[error("cannot restrict devices of {path}")]
    Devices {
        /// The cgroup's path.
        path: String,
        /// Why not.
        source: BpfError,
    },
    /// A process could not be moved.
    #[error("cannot move process {pid} into cgroup {directory}")]
    Add {
        /// The process.
        pid: i32,
        /// The directory, with its mount point.
        directory: String,
        /// Why not.
        source: Reason,
    },
    /// A control file could not be opened, read or written outside of setting limits.
    #[error("cannot {action} {file}")]
    Control {
        /// What was being done, such as "read".
        action: &'static str,
        /// The file.
        file: String,
        /// Why not.
        source: Reason,
    },
    /// Processes outlived SIGKILL for the whole grace time.
    #[error("cgroup {path} still has processes after SIGKILL: {pids:?}")]
    Unkillable {
        /// The cgroup's path.
        path: String,
        /// Who is left.
        pids: Vec<i32>,
    },
    /// Freezing or thawing did not finish in time.
    #[error("cgroup {path} did not become {state} within {seconds} s")]
    Freeze {
        /// The cgroup's path.
        path: String,
        /// The state asked for.
        state: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// A directory could not be removed.
    #[error("cannot remove cgroup {directory}")]
    Destroy {
        /// The directory, with its mount point.
        directory: String,
        /// Why not.
        source: Reason,
    },
}

impl CgroupError {
    fn errno(&self) -> Option<Errno> {
        match self {
            Self::Detect { source, .. }
            | Self::Create { source, .. }
            | Self::InheritCpuset { source, .. }
            | Self::Set { source, .. }
            | Self::Add { source, .. }
            | Self::Control { source, .. }
            | Self::Destroy { source, .. } => Some(source.0),
            _ => None,
        }
    }
}

impl Classify for CgroupError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotMounted
            | Self::NoController { .. }
            | Self::NoWatch { .. }
            | Self::Unsupported { .. } => Kind::Unsupported,
            Self::BadPath { .. } | Self::BadBelow { .. } | Self::BadValue { .. } => Kind::Invalid,
            Self::NotEmpty { .. } | Self::Frozen { .. } => Kind::Conflict,
            Self::Devices { source, .. } => source.kind(),
            Self::Set { .. } => match self.errno() {
                Some(Errno::INVAL | Errno::RANGE) => Kind::Invalid,
                Some(Errno::BUSY) => Kind::Conflict,
                _ => Kind::Internal,
            },
            Self::Create { .. } if self.errno() == Some(Errno::NOSPC) => Kind::Exhausted,
            Self::Add { .. } if self.errno() == Some(Errno::SRCH) => Kind::NotFound,
            _ => Kind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Set { hint, .. } => return hint.clone(),
            Self::Devices { source, .. } => return source.hint(),
            Self::NoController { hint, .. } | Self::NoWatch { hint, .. } => hint.as_str(),
            Self::NotMounted => "mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup",
            Self::Create { .. } | Self::Destroy { .. } | Self::Add { .. } => match self.errno()? {
                Errno::ROFS => "cgroups are mounted read-only here: remount them read-write",
                Errno::ACCESS | Errno::PERM => {
                    "run as root, or have this part of the tree delegated"
                }
                Errno::NOSPC => {
                    "the tree is full: see cgroup.max.descendants, or empty cpusets on v1"
                }
                Errno::BUSY => "processes or child cgroups are still in it",
                _ => return None,
            },
            Self::NotEmpty { .. } => {
                "each container needs a cgroup of its own: choose another cgroupsPath"
            }
            Self::Frozen { .. } => "thaw it, or choose another cgroupsPath",
            Self::Unkillable { .. } => "they hang in the kernel (state D): look at dmesg",
            _ => return None,
        };
        Some(text.to_owned())
    }
}
