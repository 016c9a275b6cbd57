//! What the object store keeps of an image, and under which keys.
//!
//! ```text
//!   images/records/<hex of id>      Record
//!   images/references/<canonical>   Pointer        docker.io/library/x:1, docker.io/library/x@sha256:…
//! ```
//!
//! The configuration itself is a blob of the content store; a record repeats only what cannot be found
//! again from there.

use dhow_spec::{Digest, Reference};
use serde::{Deserialize, Serialize};

use crate::Layer;
use crate::leases::Item;

/// The prefix of all records.
pub(crate) const RECORDS: &str = "images/records/";
/// The prefix of all references.
pub(crate) const REFERENCES: &str = "images/references/";

/// One image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The manifest it came with.
    pub(crate) manifest: Option<Digest>,
    /// The index the manifest was chosen from.
    #[serde(default)]
    pub(crate) index: Option<Digest>,
    /// The layers, bottom first.
    pub(crate) layers: Vec<Layer>,
    /// When the image was made, in seconds since 1970.
    pub(crate) created_seconds: i64,
}

/// Where a reference points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pointer {
    pub(crate) reference: Reference,
    pub(crate) image: Digest,
}

impl Record {
    /// Everything that the image `id` needs.
    pub(crate) fn items(&self, id: &Digest) -> Vec<Item> {
        let own = [Some(*id), self.manifest, self.index].into_iter().flatten().map(Item::Blob);
        let layers = self.layers.iter();
        own.chain(layers.flat_map(|l| [Item::Blob(l.blob), Item::Layer(l.chain_id)])).collect()
    }
}

/// The key of an image's record.
pub(crate) fn record_key(id: &Digest) -> String {
    format!("{RECORDS}{}", id.hex())
}

/// The key of a reference.
pub(crate) fn reference_key(reference: &Reference) -> String {
    format!("{REFERENCES}{}", reference.canonical())
}
