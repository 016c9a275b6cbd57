//! Digests, references, ids and the OCI's own types: the nouns that every floor shares.
//!
//! Nothing here does I/O but for reading random bytes in [`ContainerId::random`].

mod configuration;
mod digest;
mod id;
mod reference;

pub use configuration::{Configuration, ConfigurationError, LARGEST_CONFIGURATION};
pub use digest::{Digest, DigestError, Hasher};
pub use id::{ContainerId, IdError};
pub use oci_spec::image as oci_image;
pub use oci_spec::runtime as oci_runtime;
pub use reference::{DEFAULT_DOMAIN, DEFAULT_TAG, Reference, ReferenceError};
