//! What is wrong with a profile.

use dhow_error::{Classify, Kind};

/// A profile that cannot be read, resolved or compiled.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// Not JSON, or not of a profile's form.
    #[error("cannot read the seccomp profile")]
    Json(#[source] serde_json::Error),
    /// More than the parser takes.
    #[error("cannot read the seccomp profile: {what} is {size}, and {limit} is the most")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        size: usize,
        /// How large it may be.
        limit: usize,
    },
    /// Two things that exclude each other, or something that makes no sense.
    #[error("the seccomp profile is contradictory: {0}")]
    Contradiction(String),
    /// Something that exists, but not here.
    #[error("the seccomp profile asks for {what}, which is not supported: {why}")]
    Unsupported {
        /// What is asked for.
        what: String,
        /// Why it is not to be had.
        why: &'static str,
    },
    /// The compiled filter is longer than the kernel takes.
    #[error(
        "the seccomp profile compiles to {instructions} instructions, and {limit} is the kernel's most"
    )]
    TooLong {
        /// Its length.
        instructions: usize,
        /// BPF_MAXINSNS.
        limit: usize,
    },
    /// Bytes that are no program.
    #[error("cannot decode a compiled seccomp program: {0}")]
    Decode(&'static str),
}

impl Classify for SeccompError {
    fn kind(&self) -> Kind {
        match self {
            Self::Unsupported { .. } => Kind::Unsupported,
            Self::Decode(_) => Kind::Internal,
            _ => Kind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Json(_) | Self::Contradiction(_) => Some(
                "the format is Docker's: https://docs.docker.com/engine/security/seccomp/".into(),
            ),
            Self::TooLong { .. } => Some("merge rules that differ only in their arguments".into()),
            _ => None,
        }
    }
}
