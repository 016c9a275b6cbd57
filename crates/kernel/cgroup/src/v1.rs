//! Limits on v1 hierarchies.
use crate::{Cgroup, Result};
use dhow_spec::oci_runtime::LinuxResources;
pub(crate) fn apply(_group: &Cgroup, _resources: &LinuxResources) -> Result<()> {
    Ok(())
}
