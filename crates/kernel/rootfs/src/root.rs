//! What a container's root file system is made of.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where a container's root comes from. All paths are the host's and absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Root {
    /// An overlay of layers, attached only inside the container's mount namespace.
    Overlay {
        /// Read-only layers, topmost first; at least one.
        lower: Vec<PathBuf>,
        /// The container's writable layer.
        upper: PathBuf,
        /// The overlay's scratch folder, on the same file system as `upper`.
        work: PathBuf,
    },
    /// A directory as it is (an OCI bundle's `rootfs`).
    Dir(PathBuf),
}
