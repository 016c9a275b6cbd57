//! What takes room on the disk: `GET /system/df`.

use std::collections::BTreeMap;

use dhow_docker_wire::system::DiskUsage;
use dhow_engine::ListOptions;
use dhow_error::Result;
use dhow_image::Image;
use dhow_spec::{Digest, Reference};

use crate::answer::{self, Answer};
use crate::{Services, containers, translate};

/// `GET /system/df`. A layer counts once, however many images have it.
pub(crate) async fn usage(services: &Services) -> Result<Answer> {
    let images = services.images.list().await?;
    let layers = layers(&images);
    let users = services.engine.image_users();
    let summaries = images.iter().map(|image| {
        let names = image.references.iter().map(Reference::familiar).collect();
        let containers = users.get(&image.id).map_or(0, Vec::len);
        let mut summary = translate::image_summary(image, names, containers);
        summary.shared_size = shared(image, &layers) as i64;
        summary
    });
    let options = ListOptions { all: true, ..ListOptions::default() };
    Ok(answer::ok(&DiskUsage {
        layers_size: layers.values().map(|(size, _)| *size).sum::<u64>() as i64,
        images: summaries.collect(),
        containers: containers::summaries(services, &options, true).await?,
        ..DiskUsage::default()
    }))
}

/// The size of each layer in bytes, and how many images have it.
fn layers(images: &[Image]) -> BTreeMap<Digest, (u64, usize)> {
    let mut layers = BTreeMap::new();
    for image in images {
        // An image cannot have the same chain twice.
        for layer in image.layers.iter() {
            layers.entry(layer.chain_id).or_insert((layer.size_bytes, 0)).1 += 1;
        }
    }
    layers
}

/// The bytes of an image that other images have, too.
fn shared(image: &Image, layers: &BTreeMap<Digest, (u64, usize)>) -> u64 {
    let known = image.layers.iter().filter_map(|layer| layers.get(&layer.chain_id));
    known.filter(|(_, images)| *images > 1).map(|(size, _)| *size).sum()
}
