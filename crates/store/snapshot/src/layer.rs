//! What is written down about a layer: `layer.json` beside its files.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use dhow_spec::Digest;
use serde::{Deserialize, Serialize};

use crate::error::{Result, SnapshotError, at};

/// The folder with the layer's files, within the layer's folder.
pub(crate) const FS: &str = "fs";
const INFO: &str = "layer.json";

/// What is known of an unpacked layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerInfo {
    /// The digest of its uncompressed archive.
    pub diff_id: Digest,
    /// The sum of the sizes of its files in bytes, hard links counted once: what Docker calls its size.
    pub size_bytes: u64,
    /// How many files, folders, links and whiteouts it has.
    pub inodes: u64,
}

/// A layer that was unpacked without its digest being known before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// Its chain id.
    pub chain: Digest,
    /// The digest of its uncompressed archive.
    pub diff_id: Digest,
    /// What is known of it.
    pub info: LayerInfo,
}

/// Writes `layer.json` into the folder of a layer, durably.
pub(crate) fn write_info(layer: &Path, info: &LayerInfo) -> Result<()> {
    let path = layer.join(INFO);
    let text =
        serde_json::to_vec(info).map_err(|error| at("write", &path)(io::Error::from(error)))?;
    let write = || {
        let mut file = File::create_new(&path)?;
        file.write_all(&text)?;
        file.sync_all()
    };
    write().map_err(at("write", &path))
}

/// Reads `layer.json` from the folder of the layer `chain`.
pub(crate) fn read_info(layer: &Path, chain: &Digest) -> Result<LayerInfo> {
    let path = layer.join(INFO);
    let text = fs::read(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SnapshotError::NoLayer(*chain),
        _ => at("read", &path)(error),
    })?;
    serde_json::from_slice(&text).map_err(|error| at("read", &path)(io::Error::from(error)))
}

/// The chain ids of all layers in the folder `layers`.
pub(crate) fn list(layers: &Path) -> Result<Vec<Digest>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(layers).map_err(at("list", layers))? {
        let name = entry.map_err(at("list", layers))?.file_name();
        found.extend(name.to_str().and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok()));
    }
    Ok(found)
}
