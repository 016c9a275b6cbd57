//! From the OCI's seccomp object to BPF.

use dhow_spec::oci_runtime::LinuxSeccomp;

use crate::Result;
use crate::error::SeccompError;
use crate::program::Program;

/// Compiles a profile.
pub fn compile(_profile: &LinuxSeccomp) -> Result<Program> {
    Err(SeccompError::Unsupported {
        what: "any profile".into(),
        why: "the compiler is being written",
    })
}
