//! Images to archives: an OCI layout, which is an archive of `docker save` at the same time.
//!
//! ```text
//!   blobs/sha256/…   configurations, layers and manifests, by digest, each once
//!   index.json       the manifests, with their names       ┐ OCI image-spec, image-layout.md
//!   oci-layout                                             ┘
//!   manifest.json    the same for docker, podman and skopeo; not in the OCI format
//! ```
//!
//! Blobs go out as they are kept, so that what is loaded from it has the same digests. The same images
//! give the same bytes. How long the archive will be is known before it is written.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::sync::Arc;

use dhow_error::{Error, Kind, Result};
use dhow_spec::{DEFAULT_TAG, Digest, Reference};
use serde::Serialize;
use tar::{EntryType, Header};

use crate::error::ImageError;
use crate::manifest::OCI_INDEX;
use crate::outgoing::{Described, Outgoing, outgoing};
use crate::store::{Session, blocking};

const BLOCK: u64 = 512;
/// What is read of a blob at once.
const PIECE: usize = 256 << 10;
const FULL_NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What an archive is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// For docker, and for whoever reads OCI layouts.
    #[default]
    Docker,
    /// An OCI layout only.
    Oci,
}

/// An archive that is ready to be written: all of it is in the store, and stays until this is dropped.
pub struct Saving {
    session: Arc<Session>,
    files: Vec<(String, Content)>,
}

enum Content {
    Folder,
    Bytes(Vec<u8>),
    Blob(Digest, u64),
}

/// An element of `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u32,
    media_type: &'a str,
    manifests: Vec<Named<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Named<'a> {
    #[serde(flatten)]
    described: Described<'a>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'a str, String>,
}

/// Prepares an archive of these images. A name without a tag means every tag of it, as with Docker.
pub(crate) async fn save(
    session: &Arc<Session>,
    names: &[String],
    format: ArchiveFormat,
) -> Result<Saving> {
    let mut images = Vec::new();
    for (id, references) in wanted(session, names)? {
        images.push((outgoing(session, id, false).await?, references));
    }
    let taking = Arc::clone(session);
    let files = blocking(move || files(&taking, &images, format)).await?;
    Ok(Saving { session: Arc::clone(session), files })
}

/// The images that are meant and the tags that go with them, each image once, in the order of the names.
fn wanted(session: &Session, names: &[String]) -> Result<Vec<(Digest, BTreeSet<Reference>)>> {
    let catalog = session.store.catalog();
    let mut images: Vec<(Digest, BTreeSet<Reference>)> = Vec::new();
    let mut add = |id: Digest, reference: Option<Reference>| {
        let place = images.iter().position(|(other, _)| *other == id);
        let place = place.unwrap_or_else(|| {
            images.push((id, BTreeSet::new()));
            images.len() - 1
        });
        if let Some((_, references)) = images.get_mut(place) {
            references.extend(reference);
        }
    };
    for name in names {
        let reference = name.parse::<Reference>().ok().filter(|it| it.digest().is_none());
        let tags = match &reference {
            Some(all) if all.is_name_only() => catalog.tags_of(&all.repository()),
            Some(one) => catalog.target(one).map(|id| (one.clone(), id)).into_iter().collect(),
            None => Vec::new(),
        };
        if tags.is_empty() {
            add(catalog.resolve(name)?, None);
        }
        for (reference, id) in tags {
            add(id, Some(reference));
        }
    }
    Ok(images)
}

fn files(
    session: &Session,
    images: &[(Outgoing, BTreeSet<Reference>)],
    format: ArchiveFormat,
) -> Result<Vec<(String, Content)>> {
    let mut blobs = BTreeMap::new();
    for (image, _) in images {
        let manifest = Content::Bytes(image.manifest.clone());
        blobs.insert(path(&image.manifest_digest), manifest);
        let layers = image.layers.iter().map(|part| &part.blob);
        for blob in layers.chain([&image.config]) {
            if session.store.content.size(&blob.digest)? != Some(blob.size) {
                return Err(ImageError::NotFound(blob.digest.to_string()).into());
            }
            blobs.insert(path(&blob.digest), Content::Blob(blob.digest, blob.size));
        }
    }
    let folders = ["blobs/", "blobs/sha256/"].map(|name| (name.to_owned(), Content::Folder));
    let mut files = Vec::from(folders);
    files.extend(blobs);
    files.push(("index.json".to_owned(), Content::Bytes(json("index.json", &index(images))?)));
    if format == ArchiveFormat::Docker {
        let items: Vec<_> = images.iter().map(item).collect();
        files.push(("manifest.json".to_owned(), Content::Bytes(json("manifest.json", &items)?)));
    }
    let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
    files.push(("oci-layout".to_owned(), Content::Bytes(layout.to_vec())));
    Ok(files)
}

fn index(images: &[(Outgoing, BTreeSet<Reference>)]) -> Index<'_> {
    let mut manifests = Vec::new();
    for (image, references) in images {
        let entry = |annotations| Named {
            described: Described {
                media_type: &image.media_type,
                digest: image.manifest_digest,
                size: image.manifest.len() as u64,
            },
            annotations,
        };
        manifests.extend(references.iter().map(|reference| {
            let tag = reference.tag().unwrap_or(DEFAULT_TAG).to_owned();
            entry(BTreeMap::from([(FULL_NAME, reference.canonical()), (REF_NAME, tag)]))
        }));
        if references.is_empty() {
            manifests.push(entry(BTreeMap::new()));
        }
    }
    Index { schema_version: 2, media_type: OCI_INDEX, manifests }
}

fn item((image, references): &(Outgoing, BTreeSet<Reference>)) -> Item {
    Item {
        config: path(&image.id),
        repo_tags: references.iter().map(Reference::familiar).collect(),
        layers: image.layers.iter().map(|part| path(&part.blob.digest)).collect(),
    }
}

fn path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn json(what: &str, value: &impl Serialize) -> Result<Vec<u8>> {
    let failed = |source| ImageError::Json { what: what.to_owned(), source };
    Ok(serde_json::to_vec(value).map_err(failed)?)
}

impl Saving {
    /// The length of the archive in bytes.
    pub fn length_bytes(&self) -> u64 {
        let file =
            |(_, content): &(String, Content)| BLOCK + content.length().next_multiple_of(BLOCK);
        self.files.iter().map(file).sum::<u64>() + 2 * BLOCK
    }

    /// Writes the archive. Blocks.
    ///
    /// Errors: the writer's (cancelled: whoever reads has gone away), or those of reading a blob.
    pub fn write(self, writer: &mut impl Write) -> Result<()> {
        let gone = |source| Error::caused(Kind::Cancelled, "cannot write the archive", source);
        let mut buffer = vec![0; PIECE];
        for (name, content) in &self.files {
            writer.write_all(&header(name, content).map_err(gone)?).map_err(gone)?;
            match content {
                Content::Folder => {}
                Content::Bytes(bytes) => writer.write_all(bytes).map_err(gone)?,
                Content::Blob(digest, size) => self.blob(digest, *size, &mut buffer, writer)?,
            }
            let length = content.length();
            let padding = length.next_multiple_of(BLOCK) - length;
            writer.write_all(&[0; BLOCK as usize][..padding as usize]).map_err(gone)?;
        }
        writer.write_all(&[0; 2 * BLOCK as usize]).and_then(|()| writer.flush()).map_err(gone)
    }

    fn blob(
        &self,
        digest: &Digest,
        size: u64,
        buffer: &mut [u8],
        writer: &mut impl Write,
    ) -> Result<()> {
        let content = &self.session.store.content;
        let mut file = content.blob(digest)?;
        let path = content.path(digest);
        let mut left = size;
        while left > 0 {
            let most = left.min(buffer.len() as u64) as usize;
            let piece = buffer.get_mut(..most).unwrap_or_default();
            if let Err(source) = file.read_exact(piece) {
                return Err(ImageError::Io { operation: "read", path, source }.into());
            }
            let sent = writer.write_all(piece);
            sent.map_err(|it| Error::caused(Kind::Cancelled, "cannot write the archive", it))?;
            left -= most as u64;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Saving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Saving").field("files", &self.files.len()).finish_non_exhaustive()
    }
}

impl Content {
    fn length(&self) -> u64 {
        match self {
            Self::Folder => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Blob(_, size) => *size,
        }
    }
}

/// A header that belongs to root and to 1970.
fn header(name: &str, content: &Content) -> io::Result<[u8; BLOCK as usize]> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_size(content.length());
    let (kind, mode) = match content {
        Content::Folder => (EntryType::Directory, 0o755),
        _ => (EntryType::Regular, 0o644),
    };
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Ok(*header.as_bytes())
}
