//! What can go wrong with images, in the words people know.

use std::path::PathBuf;

use dhow_error::{Classify, Kind};
use dhow_spec::Digest;

/// A failure of an operation on images.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    #[error("No such image: {0}")]
    NotFound(String),
    #[error("image id prefix {prefix:?} is ambiguous: {count} images begin with it")]
    Ambiguous { prefix: String, count: usize },
    #[error(
        "conflict: unable to remove repository reference {reference:?} (must force) - container {container} is using its referenced image {image}"
    )]
    ReferenceInUse { reference: String, container: String, image: String },
    #[error("conflict: unable to delete {image} ({force}) - {why}")]
    InUse { image: String, force: &'static str, why: String },
    #[error("{what} has {size} bytes, more than the {limit} that are allowed")]
    TooLarge { what: String, size: u64, limit: u64 },
    #[error("cannot read {what}")]
    Json { what: String, source: serde_json::Error },
    #[error("digest mismatch for {what}: expected {expected}, got {got}")]
    Digest { what: String, expected: Digest, got: Digest },
    #[error("the configuration names {diff_ids} layers, the manifest {layers}")]
    LayerCount { diff_ids: usize, layers: usize },
    #[error("image has {0} layers, more than the {max} that fit an overlay", max = crate::manifest::LAYERS_MAX)]
    TooManyLayers(usize),
    #[error("image is for {found}, not for linux")]
    NotLinux { found: String },
    #[error("cannot {operation} {}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: std::io::Error },
    #[error("work on an image was interrupted")]
    Interrupted,
}

impl Classify for ImageError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) => Kind::NotFound,
            Self::ReferenceInUse { .. } | Self::InUse { .. } => Kind::Conflict,
            Self::Io { .. } => Kind::Internal,
            Self::Interrupted => Kind::Cancelled,
            _ => Kind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Ambiguous { .. } => Some("give more digits of the id".to_owned()),
            _ => None,
        }
    }
}
