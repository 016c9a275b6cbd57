//! A client of the registry API (OCI distribution-spec 1.1): manifests and blobs, for reading.
//!
//! ```text
//!   request ─► 2xx                                   done
//!          ├─► 401 with a challenge ─► token or basic authorization, once, and again
//!          ├─► 3xx ─► Location, at most five times; authorization stays with its own origin
//!          ├─► 429, 5xx, connection lost ─► wait (see backoff) and again
//!          └─► else: an error that names the address and what was said
//! ```
//!
//! https everywhere but for registries on this machine (127.0.0.0/8, ::1, localhost). Names are resolved
//! by hickory, never by glibc. Every body that is kept in memory is bounded.

mod auth;
mod backoff;
mod body;
mod connect;
mod error;
mod origin;
mod request;

pub(crate) use backoff::Backoff;
pub(crate) use body::Chunks;
pub(crate) use error::RegistryError;
pub(crate) use request::{Client, Registry, wait};
