//! A client of the registry API (OCI distribution-spec 1.1): manifests and blobs, to read and to write.
//!
//! ```text
//!   request ─► 2xx                                   done
//!          ├─► 401 with a challenge ─► token or basic authorization, once, and again
//!          ├─► 3xx ─► Location, at most five times; authorization is for the registry's own origin only
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
mod hosts;
mod origin;
mod repository;
mod request;
mod sending;
mod sources;
mod upload;

pub(crate) use backoff::Backoff;
pub(crate) use error::RegistryError;
pub(crate) use hosts::{endpoints, registry};
pub(crate) use repository::Registry;
pub(crate) use request::{Client, wait};
pub(crate) use sources::Sources;
pub(crate) use upload::{Mounted, Source, Upload};
