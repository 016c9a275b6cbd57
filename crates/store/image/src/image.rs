//! What is known of one image, and what operations on images answer.

use std::sync::Arc;

use dhow_spec::{Digest, Reference};

use crate::ImageConfiguration;

/// An image that is here completely. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Image {
    /// The digest of the configuration blob.
    pub id: Digest,
    /// The tags that point at it, in Docker's normal form, sorted.
    pub references: Vec<Reference>,
    /// `name@digest` under which it was pulled, in familiar form, sorted.
    pub repo_digests: Vec<String>,
    /// The parsed configuration.
    pub config: Arc<ImageConfiguration>,
    /// The layers, bottom first.
    pub layers: Arc<[Layer]>,
    /// The sum of the unpacked layers' sizes.
    pub size_bytes: u64,
    /// When it was made, in seconds since 1970 (0 when the configuration does not say).
    pub created_seconds: i64,
    /// The CPU architecture in Go's words.
    pub architecture: String,
    /// The operating system in Go's words.
    pub os: String,
    /// The digest of the manifest it came with, if any.
    pub manifest: Option<Digest>,
}

impl Image {
    /// The chain ids of the layers, bottom first: what `dhow-snapshot` wants.
    pub fn chain(&self) -> Vec<Digest> {
        self.layers.iter().map(|layer| layer.chain_id).collect()
    }
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Layer {
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// The digest that names this layer on top of those below it (OCI image-spec, "Layer ChainID").
    pub chain_id: Digest,
    /// The blob as received, compressed or not.
    pub blob: Digest,
    /// The size of the blob.
    pub blob_bytes: u64,
    /// The size of the unpacked layer.
    pub size_bytes: u64,
    /// The blob's media type.
    pub media_type: String,
}

/// An image that came out of a loaded archive.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The image.
    pub id: Digest,
    /// The references the archive gave it; Docker prints `Loaded image: x:y` for each, and
    /// `Loaded image ID: sha256:…` when there is none.
    pub references: Vec<Reference>,
}

/// What removing an image did, in order; Docker's response lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// This reference (`alpine:latest`, `alpine@sha256:…`) is gone.
    Untagged(String),
    /// This image or layer is gone.
    Deleted(Digest),
}

/// A container that uses an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUser {
    /// The container's short id.
    pub container: String,
    /// Whether it is running (then nothing can force the removal).
    pub running: bool,
}
