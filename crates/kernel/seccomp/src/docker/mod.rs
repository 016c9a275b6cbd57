//! Docker's seccomp profiles: its JSON format, its default profile, and resolving one for a container.

use dhow_spec::oci_runtime::{Capability, LinuxSeccomp};

use crate::Result;

/// A kernel's version as far as profiles look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// The 6 of 6.18.
    pub major: u32,
    /// The 18 of 6.18.
    pub minor: u32,
}

/// A profile that still has its conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {}

impl Profile {
    /// Reads Docker's JSON format.
    pub fn parse(_json: &[u8]) -> Result<Self> {
        Ok(Self {})
    }

    /// Docker's default profile.
    pub fn default_profile() -> Self {
        Self {}
    }

    /// What the profile means for a container whose bounding set is `capabilities`, on a kernel.
    pub fn resolve(
        &self,
        _capabilities: &[Capability],
        _kernel: KernelVersion,
    ) -> Result<LinuxSeccomp> {
        Ok(LinuxSeccomp::default())
    }
}
