//! Compiles seccomp profiles to BPF.
//!
//! [`compile`] turns the OCI's seccomp object into a [`Program`], which is plain data: it can be kept,
//! sent to another process and loaded there. [`docker`] reads Docker's own profile format and carries
//! Docker's default profile; resolving one for a container's capabilities gives the OCI object.
//!
//! Nothing here makes a system call. Loading is `dhow_sys::seccomp::load`.
//!
//! References: seccomp(2), the OCI runtime-spec's config-linux.md ("Seccomp"), the kernel's
//! userspace-api/seccomp_filter.

mod compile;
pub mod docker;
mod error;
mod program;

pub use compile::compile;
pub use error::SeccompError;
pub use program::{Flags, Program};

/// A result with this crate's error.
pub type Result<T, E = SeccompError> = std::result::Result<T, E>;
