//! Mounts of a container: its root, what is on it, what is hidden.

mod root;

pub use root::Root;
