//! Compiles seccomp profiles to BPF.
//!
//! [`compile`] turns the OCI's seccomp object into a [`Program`], which is plain data: it can be kept,
//! sent to another process and loaded there. [`docker`] reads Docker's own profile format and carries
//! Docker's default profile; resolving one for a container's capabilities gives the OCI object.
//!
//! ```text
//!   docker::Profile ── resolve(capabilities, kernel) ──► LinuxSeccomp ── compile ──► Program
//! ```
//!
//! Nothing here loads a filter (`dhow_sys::seccomp::load` does) or keeps one: callers cache programs.
//! Profiles come from users, so the parser is bounded and compiling never panics.
//!
//! References: seccomp(2), the OCI runtime-spec's config-linux.md ("Seccomp"), the kernel's
//! userspace-api/seccomp_filter.

mod arch;
mod assembler;
mod compile;
pub mod docker;
mod error;
mod program;
mod rules;
mod verdict;

pub use compile::compile;
pub use error::SeccompError;
pub use program::{Flags, Program};

/// A result with this crate's error.
pub type Result<T, E = SeccompError> = std::result::Result<T, E>;
