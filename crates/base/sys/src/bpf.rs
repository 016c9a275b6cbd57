//! BPF programs for device cgroups.
