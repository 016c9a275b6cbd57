//! Limits on cgroup2.
use crate::{Cgroup, Result, layout::Hierarchy};
use dhow_spec::oci_runtime::LinuxResources;
pub(crate) fn apply(_group: &Cgroup, _resources: &LinuxResources) -> Result<()> {
    Ok(())
}
pub(crate) fn enable_controllers(_tree: &Hierarchy, _path: &str) {}
