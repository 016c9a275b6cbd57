//! Starts a process in a container: plan, clone3, prepared steps, exec.
