//! What the black-box tests, the demo and the benchmarks share: a daemon of one's own, bundles, images
//! made from Debian's static busybox, and a census of what dhow may leave on a machine.
//!
//! Nothing here knows dhow's insides: it runs the built binary and reads what the kernel shows.

pub mod bundle;
pub mod census;
pub mod daemon;
pub mod engines;
pub mod http;
pub mod images;
pub mod registry;
pub mod terminal;

pub use bundle::Bundle;
pub use daemon::{Daemon, Output};
pub use dhow_sys::rustix;
pub use registry::Registry;

/// Whether this process is root, without whom no test can run a container.
pub fn is_root() -> bool {
    dhow_sys::rustix::process::geteuid().is_root()
}
