//! Netlink: routes, links, addresses, nftables.
//!
//! ```text
//! Messages ── one buffer, many requests, each with a name for people ("add address 10.1.0.2/16 …")
//!    │ Socket::send: one sendmsg; the kernel works them off in order
//!    ▼
//! one acknowledgement each; the first failure becomes an Error with the kernel's own words
//! ```
//!
//! - [`message`] writes requests and reads answers: attributes, nothing more.
//! - [`socket`] sends, matches acknowledgements, collects dumps. A socket belongs for ever to the network
//!   namespace of the thread that opened it, wherever it is used later: that is how an interface inside
//!   a container's namespace is set up without entering it.
//! - [`route`] is rtnetlink(7): links, addresses, routes.
//! - [`lasting`] keeps addresses while an interface moves to another namespace.
//! - [`diag`] is sock_diag(7): who holds a port.
//! - [`conntrack`] is ctnetlink: connections that the kernel keeps track of.
//! - [`nft`] is nf_tables: atomic batches of tables, chains, rules, maps and elements.
//!
//! What the kernel answers is read within bounds: a length that lies ends the reading. Nothing here
//! decides anything about dhow's networks, and nothing here runs a program.

pub mod conntrack;
pub mod diag;
pub mod lasting;
pub mod message;
pub mod nft;
pub mod route;
pub mod socket;

use std::borrow::Cow;

use dhow_error::{Classify, Kind};
use rustix::io::Errno;

pub use message::Messages;
pub use socket::{Family, LinkEvents, Socket};

/// Why a netlink request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket could not be opened or set up.
    #[error("cannot open a {family} netlink socket")]
    Open {
        /// `route`, `netfilter` or `socket diagnosis`.
        family: &'static str,
        /// The kernel's answer.
        source: Errno,
    },
    /// The kernel understood the request and refused it.
    #[error("cannot {what}{}", detail(.words.as_deref()))]
    Refused {
        /// What was being done to what.
        what: Cow<'static, str>,
        /// The kernel's own explanation (NETLINK_EXT_ACK), when it gave one.
        words: Option<String>,
        /// The kernel's error number.
        source: Errno,
    },
    /// The answer could not be read from the socket.
    #[error("cannot {what}: no answer from the kernel")]
    Unanswered {
        /// What was being done to what.
        what: Cow<'static, str>,
        /// What reading said.
        source: Errno,
    },
    /// The kernel's answer made no sense.
    #[error("cannot {what}: the kernel's answer makes no sense")]
    Malformed {
        /// What was being done to what.
        what: Cow<'static, str>,
    },
    /// An attribute grew beyond the 64 KiB that its length field can say.
    #[error("cannot {what}: the request is too long")]
    TooLong {
        /// What was being done to what.
        what: Cow<'static, str>,
    },
}

impl Error {
    /// The kernel's error number, if the kernel refused.
    pub fn refusal(&self) -> Option<Errno> {
        match self {
            Self::Refused { source, .. } => Some(*source),
            _ => None,
        }
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Refused { source: Errno::EXIST | Errno::BUSY, .. } => Kind::Conflict,
            Self::Refused { source: Errno::PERM | Errno::ACCESS, .. } => Kind::Forbidden,
            Self::Refused { source: Errno::OPNOTSUPP | Errno::AFNOSUPPORT, .. }
            | Self::Open { source: Errno::PROTONOSUPPORT, .. } => Kind::Unsupported,
            _ => Kind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self.kind() {
            Kind::Forbidden => Some("networks need root or CAP_NET_ADMIN".to_owned()),
            _ => None,
        }
    }
}

/// The kernel's explanation as the tail of a message.
fn detail(words: Option<&str>) -> String {
    words.map(|words| format!(" ({words})")).unwrap_or_default()
}
