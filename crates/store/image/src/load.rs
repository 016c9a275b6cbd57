//! Images from archives: what `docker save`, `podman save` and `skopeo copy` write.
//!
//! ```text
//!   tar ─► spool: every file is a verified or at least named blob, small JSON stays in memory
//!            ├─ index.json there ────► oci: images by digest
//!            └─ else manifest.json ──► docker: images by path
//!                  └─► each: configuration, layers unpacked bottom up, then visible
//! ```
//!
//! Files come in any order and layers can be links to others, so nothing is looked at before the archive
//! has ended. What turns out not to be needed is swept with the session.

mod docker;
mod oci;
mod spool;

use std::io::Read;
use std::sync::Arc;

use dhow_error::{Error, Result};
use dhow_spec::{Digest, Reference};

use crate::leases::Item;
use crate::manifest::OCI_LAYER;
use crate::store::{Blob, NewImage, Session, blocking, check_layers, parse_config};
use crate::{Loaded, Progress};

/// An image found in an archive, all of whose parts are in the content store.
#[derive(Debug)]
struct Found {
    config: Vec<u8>,
    layers: Vec<Blob>,
    manifest: Option<Digest>,
    index: Option<Digest>,
    references: Vec<Reference>,
}

/// Takes in every image of an archive.
pub(crate) async fn load(
    session: &Arc<Session>,
    reader: Box<dyn Read + Send>,
    progress: &Progress,
) -> Result<Vec<Loaded>> {
    let spooling = Arc::clone(session);
    let found = blocking(move || {
        let archive = spool::spool(&spooling, reader)?;
        if archive.has("manifest.json") && archive.has("oci-layout") {
            both(&archive)
        } else if archive.has("manifest.json") {
            docker::images(&archive)
        } else if archive.has("index.json") {
            oci::images(&archive)
        } else {
            Err(Error::invalid("the archive has no manifest.json and no index.json")
                .with_hint("a root filesystem is taken in by `dhow import`"))
        }
    })
    .await?;
    let mut loaded = Vec::with_capacity(found.len());
    for image in found {
        loaded.push(install(session, image, progress).await?);
    }
    Ok(loaded)
}

/// The images of an archive that is both: as an OCI layout, because that keeps manifests and so their
/// digests. Layers that are not compressed were never at a registry, so their manifest is nobody's.
fn both(archive: &spool::Archive) -> Result<Vec<Found>> {
    let Ok(mut found) = oci::images(archive) else { return docker::images(archive) };
    for image in &mut found {
        if image.layers.iter().any(|layer| layer.media_type == OCI_LAYER) {
            (image.manifest, image.index) = (None, None);
        }
    }
    Ok(found)
}

async fn install(session: &Arc<Session>, found: Found, progress: &Progress) -> Result<Loaded> {
    let config = parse_config(&found.config)?;
    check_layers(&config, found.layers.len())?;
    let mut layers = Vec::with_capacity(found.layers.len());
    let mut parents = Vec::with_capacity(found.layers.len());
    for (diff_id, blob) in config.rootfs.diff_ids.iter().zip(found.layers) {
        session.lease.pin(Item::Blob(blob.digest)).await;
        progress.bytes(&diff_id.short(), "Loading layer", blob.size, Some(blob.size));
        let layer = session.unpack(&parents, *diff_id, blob).await?;
        parents.push(layer.chain_id);
        layers.push(layer);
    }
    let references = found.references;
    let new = NewImage {
        config: found.config,
        layers,
        manifest: found.manifest,
        index: found.index,
        references: references.clone(),
    };
    Ok(Loaded { id: session.commit(new).await?, references })
}
