//! What went wrong inside the container's mount namespace, and what was wrong with the plan for it.

use std::fmt;

use dhow_error::{Classify, Kind};
use dhow_sys::process::Reason;
use dhow_sys::rustix::io::Errno;

/// A step that failed in the child: what it was doing, and the kernel's reason. Its message is made only
/// when it has failed; a successful start allocates nothing for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    message: String,
    errno: Errno,
    hint: Option<&'static str>,
}

impl Failure {
    /// `message` failed for the reason `errno`.
    pub fn new(errno: Errno, message: impl Into<String>) -> Self {
        Self { message: message.into(), errno, hint: None }
    }

    /// The same failure with what to do about it.
    #[must_use]
    pub(crate) fn with_hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        self.hint
    }

    /// The kernel's reason.
    pub fn errno(&self) -> Errno {
        self.errno
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.message, Reason(self.errno))
    }
}

impl std::error::Error for Failure {}

/// Says what a failed call was doing.
pub(crate) trait Doing<T> {
    /// Names what was being done; `message` is called only on failure.
    fn doing<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T, Failure>;
}

impl<T> Doing<T> for Result<T, Errno> {
    fn doing<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T, Failure> {
        self.map_err(|errno| Failure::new(errno, message()))
    }
}

/// Why a specification cannot become a plan of mounts. Found before anything is started.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    /// A text with a NUL in it.
    #[error("{what} {value:?} has a NUL byte in it")]
    Nul {
        /// What it is.
        what: &'static str,
        /// The text.
        value: String,
    },
    /// A path that is relative.
    #[error("{what} {path:?} is not an absolute path")]
    Relative {
        /// What it is.
        what: &'static str,
        /// The path.
        path: String,
    },
    /// A mount without what it needs.
    #[error("mount on {destination} has no {what}")]
    Incomplete {
        /// Where it goes.
        destination: String,
        /// What is missing.
        what: &'static str,
    },
    /// A mount option that is not offered.
    #[error("mount option {option:?} on {destination} is not supported")]
    Option {
        /// The option.
        option: String,
        /// Where the mount goes.
        destination: String,
    },
    /// A mount inside /proc that would hide what the kernel says there.
    #[error("cannot mount on {0}: it lies inside /proc")]
    InsideProc(String),
    /// An overlay without layers.
    #[error("the root has no layers")]
    NoLayers,
    /// A device of a type that cannot be made.
    #[error("device {0} has no type that can be made")]
    DeviceType(String),
    /// A sysctl that would change the host.
    #[error("sysctl {key} is not separate for this container: {why}")]
    Sysctl {
        /// Its name.
        key: String,
        /// Why not.
        why: &'static str,
    },
    /// Ids that cannot be mapped so.
    #[error("{field}: {why}")]
    IdMap {
        /// Which field of the specification.
        field: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// A propagation that does not exist.
    #[error("unknown mount propagation {0:?}")]
    Propagation(String),
}

impl Classify for PlanError {
    fn kind(&self) -> Kind {
        match self {
            Self::Option { .. } => Kind::Unsupported,
            _ => Kind::Invalid,
        }
    }
}
