//! Why a namespace, a bridge or the table could not be set up.

use std::io;
use std::path::PathBuf;

use dhow_error::{Classify, Kind};
use dhow_sys::netlink;

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a namespace, a bridge or the table could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A new network namespace could not be made or opened.
    #[error("cannot {what}")]
    Namespace {
        /// What was being done.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused a netlink request.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// A kernel setting could not be written.
    #[error("cannot set {} to {value}", .path.display())]
    Setting {
        /// The file below /proc/sys.
        path: PathBuf,
        /// What was to be written.
        value: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A name that cannot be an interface's.
    #[error(
        "invalid bridge name {0:?}: expected 1 to 15 letters, digits, dots, dashes or underscores"
    )]
    Name(String),
    /// The name belongs to something that is no bridge.
    #[error("cannot use {0} as a bridge: it is an interface of another kind")]
    NotABridge(String),
    /// An interface that has just been made is gone.
    #[error("interface {0} vanished while it was set up")]
    Vanished(String),
    /// IPv6 where only IPv4 is built.
    #[error("cannot put {0} on bridge networks: they are IPv4 only")]
    NotIpv4(std::net::IpAddr),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Netlink(error) => error.kind(),
            Self::Name(_) | Self::NotIpv4(_) => Kind::Invalid,
            Self::NotABridge(_) => Kind::Conflict,
            Self::Namespace { source, .. } | Self::Setting { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => Kind::Forbidden,
                _ => Kind::Internal,
            },
            Self::Vanished(_) => Kind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Netlink(error) => error.hint(),
            Self::NotABridge(_) => Some("choose another name with --bridge".to_owned()),
            Self::Namespace { .. } | Self::Setting { .. } if self.kind() == Kind::Forbidden => {
                Some("networks need root or CAP_NET_ADMIN".to_owned())
            }
            _ => None,
        }
    }
}
