//! Error kinds, hints and chains: the one vocabulary in which every floor reports failure.
//!
//! A module has its own `thiserror` enum and says by [`Classify`] what kind of failure each variant
//! is. At a crate's edge such an enum becomes an [`Error`], which carries any of them upwards. Faces
//! map the [`Kind`] to an HTTP status or an exit code, once each; nothing else decides on kinds.
//!
//! Messages are lower case without a full stop, say what was being done and to what, and never repeat
//! their source: [`chain`] prints the sources once.

use std::error::Error as StdError;
use std::fmt;

/// A result with dhow's carrier error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it was, as far as a client has to act differently on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The named thing does not exist.
    NotFound,
    /// The request contradicts the state of things: name taken, container running.
    Conflict,
    /// The request itself is malformed or asks for something impossible.
    Invalid,
    /// Nothing to do: the container is already in the state asked for.
    NotModified,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// Understood and refused.
    Forbidden,
    /// Something outside could not be reached: a registry, a resolver.
    Unavailable,
    /// Not built, or not offered by this kernel.
    Unsupported,
    /// A limit is reached: disk, addresses, ports.
    Exhausted,
    /// The container's command does not exist (exit code 127).
    CommandNotFound,
    /// The container's command cannot be executed (exit code 126).
    CommandNotExecutable,
    /// The work was given up because its client went away.
    Cancelled,
    /// A fault of dhow or of the machine.
    Internal,
}

/// What an error enum says about itself, so that it can cross a crate's edge as an [`Error`].
pub trait Classify: StdError + Send + Sync + 'static {
    /// The kind of this failure.
    fn kind(&self) -> Kind;

    /// What to do next, where there is something useful to say.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// Any failure, with its kind, its message, an optional hint and the chain of its sources.
pub struct Error {
    kind: Kind,
    hint: Option<String>,
    cause: Box<dyn StdError + Send + Sync>,
}

impl Error {
    /// A failure without a source.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, hint: None, cause: Box::new(Message { text: message.into(), source: None }) }
    }

    /// A fault of dhow or of the machine.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// The named thing does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// The request is malformed or impossible.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// The request contradicts the state of things.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    /// A failure of the given kind that was caused by `source`.
    pub fn caused(
        kind: Kind,
        message: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        let text = message.into();
        Self { kind, hint: None, cause: Box::new(Message { text, source: Some(source.into()) }) }
    }

    /// The same failure, seen from one level higher: `message` now comes first in the chain. Kind and
    /// hint stay.
    #[must_use]
    pub fn context(self, message: impl Into<String>) -> Self {
        let (kind, hint) = (self.kind, self.hint.clone());
        let text = message.into();
        Self { kind, hint, cause: Box::new(Message { text, source: Some(Box::new(Source(self))) }) }
    }

    /// The same failure with a hint on what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What to do next, where there is something useful to say.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The message and all its sources on one line, separated by `: `.
    pub fn chain(&self) -> String {
        chain(self.cause.as_ref())
    }
}

/// `error` and all its sources on one line, separated by `: `.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

impl<E: Classify> From<E> for Error {
    fn from(error: E) -> Self {
        Self { kind: error.kind(), hint: error.hint(), cause: Box::new(error) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.chain())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.source()
    }
}

/// A plain message with what caused it.
#[derive(Debug)]
struct Message {
    text: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Message {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// An [`Error`] as a link of another's chain.
#[derive(Debug)]
struct Source(Error);

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Source {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_prints_each_source_once() {
        let io = std::io::Error::other("disk on fire");
        let error = Error::caused(Kind::Internal, "cannot write blob", io)
            .with_hint("use another disk")
            .context("cannot load image");
        assert_eq!(error.to_string(), "cannot load image");
        assert_eq!(error.chain(), "cannot load image: cannot write blob: disk on fire");
        assert_eq!(error.hint(), Some("use another disk"));
        assert_eq!(error.kind(), Kind::Internal);
    }
}
