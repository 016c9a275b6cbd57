//! An image as it goes out, to a registry or an archive: its manifest and its blobs.
//!
//! An image that came with a manifest goes out with that, to the byte, as long as the blobs it names are
//! kept: then its digest stays. Otherwise a manifest is made, always the same for the same layers. Layers
//! go out as they came; those that are kept plain are compressed if the receiver wants that.

use std::collections::HashMap;
use std::io::{BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

use dhow_error::{Error, Kind, Result};
use dhow_spec::Digest;
use serde::{Deserialize, Serialize};

use crate::deflate::gzip;
use crate::error::ImageError;
use crate::inflate::Compression;
use crate::leases::Item;
use crate::manifest::{Document, MANIFEST_MAX, Manifest, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST};
use crate::record::Record;
use crate::store::{Blob, Session, blocking};

/// For how many layers it is remembered what they come to.
const PACKED_MAX: usize = 4096;

/// A layer that goes out.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) blob: Blob,
    /// The blob that it is made of by compressing, if so.
    plain: Option<Digest>,
}

/// What goes out.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    /// The image.
    pub(crate) id: Digest,
    /// The manifest's text.
    pub(crate) manifest: Vec<u8>,
    pub(crate) manifest_digest: Digest,
    pub(crate) media_type: String,
    /// The configuration.
    pub(crate) config: Blob,
    /// The layers, bottom first, pinned.
    pub(crate) layers: Vec<Part>,
    /// The digests of their tars, bottom first.
    pub(crate) diff_ids: Vec<Digest>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: Described<'a>,
    layers: Vec<Described<'a>>,
}

/// A descriptor (OCI image-spec, `descriptor.md`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Described<'a> {
    pub(crate) media_type: &'a str,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed {
    #[serde(default)]
    media_type: Option<String>,
}

/// Puts together what goes out of the image `id`, all of it pinned under the session's lease.
///
/// Errors: no such image (not found).
pub(crate) async fn outgoing(
    session: &Arc<Session>,
    id: Digest,
    compressed: bool,
) -> Result<Outgoing> {
    session.lease.pin(Item::Image(id)).await;
    let record = session.store.catalog().record(&id).cloned();
    let record = record.ok_or_else(|| ImageError::NotFound(id.to_string()))?;
    for item in record.items(&id) {
        session.lease.pin(item).await;
    }
    let session = Arc::clone(session);
    blocking(move || match as_it_came(&session, &id, &record)? {
        Some(found) => Ok(found),
        None => made(&session, &id, &record, compressed),
    })
    .await
}

/// With the manifest that the image came with, if everything it names is here.
fn as_it_came(session: &Session, id: &Digest, record: &Record) -> Result<Option<Outgoing>> {
    let content = &session.store.content;
    let Some(digest) = record.manifest else { return Ok(None) };
    let Ok(manifest) = content.read(&digest, MANIFEST_MAX) else { return Ok(None) };
    let Ok(Document::Manifest(Manifest { config, layers })) = Document::parse(&manifest, None)
    else {
        return Ok(None);
    };
    for part in layers.iter().chain([&config]) {
        if content.size(&part.digest)? != Some(part.size) {
            return Ok(None);
        }
    }
    let typed: Option<Typed> = serde_json::from_slice(&manifest).ok();
    let media_type = typed.and_then(|typed| typed.media_type);
    let blob = |part: crate::manifest::Descriptor| Blob {
        digest: part.digest,
        size: part.size,
        media_type: part.media_type,
    };
    Ok((config.digest == *id).then(|| Outgoing {
        id: *id,
        manifest_digest: digest,
        manifest,
        media_type: media_type.unwrap_or_else(|| OCI_MANIFEST.to_owned()),
        config: blob(config),
        layers: layers.into_iter().map(blob).map(|blob| Part { blob, plain: None }).collect(),
        diff_ids: record.layers.iter().map(|layer| layer.diff_id).collect(),
    }))
}

/// With a manifest made for it.
fn made(session: &Session, id: &Digest, record: &Record, compressed: bool) -> Result<Outgoing> {
    let content = &session.store.content;
    let size = content.size(id)?.ok_or_else(|| ImageError::NotFound(id.to_string()))?;
    let config = Blob { digest: *id, size, media_type: OCI_CONFIG.to_owned() };
    let mut layers = Vec::with_capacity(record.layers.len());
    for layer in &record.layers {
        layers.push(match kind_of(session, &layer.blob)? {
            Compression::Plain if compressed => packed(session, &layer.blob)?,
            kind => {
                let media_type = match kind {
                    Compression::Plain => OCI_LAYER.to_owned(),
                    Compression::Gzip => format!("{OCI_LAYER}+gzip"),
                    Compression::Zstd => format!("{OCI_LAYER}+zstd"),
                };
                let blob = Blob { digest: layer.blob, size: layer.blob_bytes, media_type };
                Part { blob, plain: None }
            }
        });
    }
    let made = Made {
        schema_version: 2,
        media_type: OCI_MANIFEST,
        config: config.described(),
        layers: layers.iter().map(|part| part.blob.described()).collect(),
    };
    let manifest = serde_json::to_vec(&made)
        .map_err(|source| ImageError::Json { what: "a new manifest".to_owned(), source })?;
    Ok(Outgoing {
        id: *id,
        manifest_digest: Digest::of(&manifest),
        manifest,
        media_type: OCI_MANIFEST.to_owned(),
        config,
        layers,
        diff_ids: record.layers.iter().map(|layer| layer.diff_id).collect(),
    })
}

impl Blob {
    /// Its descriptor.
    pub(crate) fn described(&self) -> Described<'_> {
        Described { media_type: &self.media_type, digest: self.digest, size: self.size }
    }
}

/// How a blob is compressed, told by its first bytes.
fn kind_of(session: &Session, blob: &Digest) -> Result<Compression> {
    let mut start = Vec::with_capacity(4);
    let content = &session.store.content;
    content.blob(blob)?.take(4).read_to_end(&mut start).map_err(|source| ImageError::Io {
        operation: "read",
        path: content.path(blob),
        source,
    })?;
    Ok(Compression::of(&start))
}

/// A plain blob, compressed. What came of it before is believed: see [`Part::provide`].
fn packed(session: &Session, plain: &Digest) -> Result<Part> {
    let plain = *plain;
    let (digest, size) = match session.store.packed.get(&plain) {
        Some(known) => known,
        None => compress(session, &plain)?,
    };
    let blob = Blob { digest, size, media_type: format!("{OCI_LAYER}+gzip") };
    Ok(Part { blob, plain: Some(plain) })
}

/// Compresses a plain blob: a blob of its own until the session ends.
fn compress(session: &Session, plain: &Digest) -> Result<(Digest, u64)> {
    let content = &session.store.content;
    let file = content.blob(plain)?;
    let mut ingest = content.ingest()?;
    gzip(&mut BufReader::with_capacity(1 << 20, file), &mut ingest).map_err(|source| {
        Error::caused(Kind::Internal, format!("cannot compress layer {plain}"), source)
    })?;
    let size = ingest.written();
    let digest = session.finish(ingest, None, Some(size))?;
    session.store.packed.put(*plain, (digest, size));
    Ok((digest, size))
}

impl Part {
    /// Sees to it that the blob is in the store. Blocks.
    pub(crate) fn provide(&self, session: &Session) -> Result<()> {
        if let Some(plain) = self.plain
            && !session.store.content.has(&self.blob.digest)?
        {
            let (got, _) = compress(session, &plain)?;
            let expected = self.blob.digest;
            if got != expected {
                let what = format!("layer {plain}, compressed again");
                return Err(ImageError::Digest { what, expected, got }.into());
            }
        }
        Ok(())
    }
}

/// What plain blobs come to when they are compressed, so that a registry that has them already can be asked
/// without doing it again. Forgotten when the daemon ends.
#[derive(Debug, Default)]
pub(crate) struct Packed(Mutex<HashMap<Digest, (Digest, u64)>>);

impl Packed {
    fn get(&self, plain: &Digest) -> Option<(Digest, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(plain).copied()
    }

    fn put(&self, plain: Digest, packed: (Digest, u64)) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= PACKED_MAX {
            known.clear();
        }
        known.insert(plain, packed);
    }
}
