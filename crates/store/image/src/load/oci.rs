//! OCI image layouts (OCI image-spec, `image-layout.md`): `index.json` leads to manifests by digest.

use std::collections::BTreeMap;

use dhow_error::Result;
use dhow_spec::Reference;

use super::Found;
use super::spool::{Archive, blob_name};
use crate::Platform;
use crate::manifest::{
    CONFIG_MAX, Descriptor, Document, MANIFEST_MAX, Manifest, ManifestError, NESTING_MAX,
    OCI_INDEX, choose, is_attestation,
};

/// containerd's and BuildKit's full name of an image.
const FULL_NAME: &str = "io.containerd.image.name";
/// The specification's name, which may be a full one or only a tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The images that `index.json` lists: one for each name, for this machine's platform. Blocks.
pub(super) fn images(archive: &Archive) -> Result<Vec<Found>> {
    let text = archive.small("index.json", MANIFEST_MAX)?;
    let Document::Index(entries) = Document::parse(&text, Some(OCI_INDEX))? else {
        return Err(ManifestError::NotAnImage("index.json is a manifest".to_owned()).into());
    };
    // One image for several platforms can stand here as several entries with one name.
    let mut named: BTreeMap<String, Vec<Descriptor>> = BTreeMap::new();
    let mut groups: Vec<Vec<Descriptor>> = Vec::new();
    for entry in entries.into_iter().filter(|entry| !is_attestation(entry)) {
        match name_of(&entry) {
            Some(name) => named.entry(name).or_default().push(entry),
            None => groups.push(vec![entry]),
        }
    }
    groups.extend(named.into_values());
    let mut found: Vec<Found> = Vec::new();
    for group in groups {
        let image = image(archive, &group)?;
        // Several names for one manifest are one image with several references.
        match found.iter_mut().find(|other| other.manifest == image.manifest) {
            Some(other) => other.references.extend(image.references),
            None => found.push(image),
        }
    }
    Ok(found)
}

fn image(archive: &Archive, group: &[Descriptor]) -> Result<Found> {
    let platform = Platform::default();
    let mut entry = match group {
        // A single image is taken whatever it is for: somebody put it there on purpose.
        [only] => only.clone(),
        _ => choose(group, &platform)?.clone(),
    };
    let references = name_of(&entry).and_then(|name| reference(&name)).into_iter().collect();
    let mut index = None;
    for _ in 0..NESTING_MAX {
        let content = archive.blob(&entry.digest, MANIFEST_MAX)?;
        match Document::parse(&content, Some(&entry.media_type))? {
            Document::Index(entries) => {
                index.get_or_insert(archive.keep(&content)?);
                entry = choose(&entries, &platform)?.clone();
            }
            Document::Manifest(manifest) => {
                let digest = archive.keep(&content)?;
                let mut found = parts(archive, &manifest)?;
                found.references = references;
                found.index = index;
                found.manifest = Some(digest);
                return Ok(found);
            }
        }
    }
    Err(ManifestError::TooDeep.into())
}

fn parts(archive: &Archive, manifest: &Manifest) -> Result<Found> {
    let config = archive.blob(&manifest.config.digest, CONFIG_MAX)?;
    let layer = |entry: &Descriptor| archive.layer(&blob_name(&entry.digest));
    let layers = manifest.layers.iter().map(layer).collect::<Result<_>>()?;
    Ok(Found { config, layers, manifest: None, index: None, references: Vec::new() })
}

fn name_of(entry: &Descriptor) -> Option<String> {
    let annotations = entry.annotations.as_ref()?;
    annotations.get(FULL_NAME).or_else(|| annotations.get(REF_NAME)).cloned()
}

/// A bare tag names no image; then the image has only its id.
fn reference(name: &str) -> Option<Reference> {
    let is_full = name.contains(['/', ':']);
    is_full.then(|| name.parse::<Reference>().ok()).flatten().map(Reference::with_default_tag)
}
