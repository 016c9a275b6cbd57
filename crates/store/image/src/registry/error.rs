//! What a registry, or the way to it, can do wrong.

use std::io;
use std::time::Duration;

use dhow_error::{Classify, Kind};
use hyper::StatusCode;

/// A failure of a request. Every one names the address that was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    #[error("cannot reach {url}")]
    Unreachable { url: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the connection to {url} was lost")]
    Lost { url: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{url} did not answer within {seconds} s")]
    Silent { url: String, seconds: u64 },
    #[error("{url} said {status}{said}")]
    Status {
        url: String,
        status: StatusCode,
        said: String,
        /// A refusal is about who asks, not about what there is.
        is_secret: bool,
        retry_after: Option<Duration>,
    },
    #[error("{url} redirects {what}")]
    Redirect { url: String, what: &'static str },
    #[error("{url} asks for an authorization that is not understood: {challenge}")]
    Challenge { url: String, challenge: String },
    #[error("{url} sent {what}")]
    Answer { url: String, what: String },
    #[error("{url} sent more than {limit} bytes")]
    TooLarge { url: String, limit: u64 },
    #[error("{}; before that {before}", dhow_error::chain(last.as_ref()))]
    Mirrored { last: Box<Self>, before: String },
    #[error("{url} is not an address that can be asked")]
    Address { url: String },
}

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("cannot resolve {host}")]
    Resolve { host: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("no address is known for {host}")]
    NoAddress { host: String },
    #[error("cannot connect to {address}")]
    Connect { address: std::net::SocketAddr, source: io::Error },
    #[error("cannot agree on TLS with {host}")]
    Tls { host: String, source: io::Error },
    #[error("cannot verify certificates: {0}")]
    Roots(String),
    #[error("the address has no host")]
    NoHost,
}

impl RegistryError {
    /// Whether the same request may succeed a little later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Lost { .. } | Self::Silent { .. } => true,
            Self::Mirrored { last, .. } => last.is_transient(),
            Self::Status { status, .. } => {
                *status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
            }
            _ => false,
        }
    }
}

impl RegistryError {
    /// How long the registry asks to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Mirrored { last, .. } => last.retry_after(),
            _ => None,
        }
    }

    /// The status, if that is what went wrong.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

impl Classify for RegistryError {
    fn kind(&self) -> Kind {
        match self {
            Self::Mirrored { last, .. } => last.kind(),
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Silent { .. } => Kind::Unavailable,
            Self::Status { status, is_secret, .. } => match *status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if *is_secret => {
                    Kind::Unauthorized
                }
                // Registries hide what does not exist behind a refusal.
                StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    Kind::NotFound
                }
                StatusCode::TOO_MANY_REQUESTS => Kind::Exhausted,
                status if status.is_server_error() => Kind::Unavailable,
                _ => Kind::Invalid,
            },
            _ => Kind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self.kind() {
            Kind::NotFound => {
                "check the name and the tag; a private image needs credentials; an image that is on \
                 this machine comes in with `dhow load`, `dhow import` or `dhow build`"
            }
            Kind::Unauthorized => "log in with `dhow login REGISTRY`, as someone who may do this",
            Kind::Exhausted => "the registry limits how much is pulled: wait, or log in",
            Kind::Unavailable => {
                "check the network and the registry's name; without a network, images come in with \
                 `dhow load`"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}
