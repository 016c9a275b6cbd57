//! `docker save`'s format: `manifest.json` lists images by the names of their files.

use dhow_error::{Error, Result};
use dhow_spec::{Digest, Reference};
use serde::Deserialize;

use super::Found;
use super::spool::Archive;
use crate::error::ImageError;
use crate::manifest::{CONFIG_MAX, LAYERS_MAX, MANIFEST_MAX};

/// The most images in one archive.
const IMAGES_MAX: usize = 1024;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// The images that `manifest.json` lists. Blocks.
pub(super) fn images(archive: &Archive) -> Result<Vec<Found>> {
    let text = archive.small("manifest.json", MANIFEST_MAX)?;
    let items: Vec<Item> = serde_json::from_slice(&text)
        .map_err(|source| ImageError::Json { what: "manifest.json".to_owned(), source })?;
    if items.len() > IMAGES_MAX {
        return Err(Error::invalid(format!("the archive has more than {IMAGES_MAX} images")));
    }
    items.into_iter().map(|item| image(archive, item)).collect()
}

fn image(archive: &Archive, item: Item) -> Result<Found> {
    let config = archive.small(&item.config, CONFIG_MAX)?;
    check_name(&item.config, &config)?;
    let names = item.layers.unwrap_or_default();
    if names.len() > LAYERS_MAX {
        return Err(ImageError::TooManyLayers(names.len()).into());
    }
    let layers = names.iter().map(|name| archive.layer(name)).collect::<Result<_>>()?;
    let tags = item.repo_tags.unwrap_or_default();
    let references = tags
        .iter()
        .map(|tag| Ok(tag.parse::<Reference>()?.with_default_tag()))
        .collect::<Result<_>>()?;
    Ok(Found { config, layers, manifest: None, index: None, references })
}

/// A configuration is usually named by its digest; then it must have it.
fn check_name(name: &str, config: &[u8]) -> Result<()> {
    let stem = name.rsplit('/').next().unwrap_or(name);
    let stem = stem.strip_suffix(".json").unwrap_or(stem);
    match format!("sha256:{stem}").parse::<Digest>() {
        Ok(expected) if expected != Digest::of(config) => {
            let got = Digest::of(config);
            Err(ImageError::Digest { what: format!("configuration {name}"), expected, got }.into())
        }
        _ => Ok(()),
    }
}
