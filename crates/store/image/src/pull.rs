//! Pulls: from a name to an image that is here.
//!
//! ```text
//!   manifest ─► (index ─► manifest for the platform) ─► configuration
//!     └─► layers: three downloads at a time, straight into the content store
//!            └─► unpacked bottom up as they come ─► visible
//! ```
//!
//! A layer that is unpacked already is not fetched, a blob that is here already neither. Dropping the
//! future stops all of it.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use dhow_error::{Error, Result};
use dhow_snapshot::chain_ids;
use dhow_spec::{Digest, Reference};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::error::ImageError;
use crate::leases::Item;
use crate::manifest::{
    CONFIG_MAX, Descriptor, Document, Manifest, ManifestError, NESTING_MAX, choose,
};
use crate::registry::{Backoff, Client, RegistryError, Sources, endpoints, registry, wait};
use crate::store::{Blob, NewImage, Session, blocking, check_layers, parse_config};
use crate::{BridgeWriter, Layer, Platform, Progress, Pull, bridge};

/// How many layers are fetched at once.
const DOWNLOADS: usize = 3;
/// How many chunks wait for the disk.
const CHUNKS_WAITING: usize = 16;
/// How often progress is told, in bytes.
const PROGRESS_STEP: u64 = 512 << 10;

/// What a pull came to.
pub(crate) struct Done {
    pub(crate) id: Digest,
    pub(crate) digest: Digest,
    pub(crate) up_to_date: bool,
}

/// A download that ends with its handle.
struct Task(JoinHandle<Result<Blob>>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the registry says the image is.
struct Resolved {
    /// The digest of what the name leads to.
    digest: Digest,
    index: Option<Digest>,
    manifest_digest: Digest,
    manifest: Manifest,
}

/// Pulls an image, asking the mirrors that the folder `hosts` tells of first.
pub(crate) async fn pull(
    session: &Arc<Session>,
    client: &Client,
    hosts: Option<&Path>,
    pull: Pull,
) -> Result<Done> {
    let reference = pull.reference.with_default_tag();
    let platform = pull.platform.unwrap_or_default();
    let context = |error: Error| error.context(format!("cannot pull {reference}"));
    let endpoints = match hosts {
        None => vec![registry(reference.domain())],
        Some(folder) => {
            let (folder, domain) = (folder.to_owned(), reference.domain().to_owned());
            blocking(move || Ok(endpoints(&folder, &domain)?)).await.map_err(context)?
        }
    };
    let sources = Sources::new(client, endpoints, &reference, pull.credentials.as_ref());
    let registry = Arc::new(sources);
    fetch(session, &registry, &reference, &platform, &pull.progress).await.map_err(context)
}

async fn fetch(
    session: &Arc<Session>,
    registry: &Arc<Sources>,
    reference: &Reference,
    platform: &Platform,
    progress: &Progress,
) -> Result<Done> {
    let name = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or(dhow_spec::DEFAULT_TAG).to_owned(),
    };
    progress.layer(&name, &format!("Pulling from {}", reference.path()));
    let resolved = resolve(session, registry, &name, reference.digest(), platform).await?;
    let config = small(session, registry, &resolved.manifest.config).await?;
    let id = Digest::of(&config);
    let was = session.store.catalog().target(reference);
    let layers = layers(session, registry, &resolved.manifest, &config, progress).await?;
    let mut references = vec![reference.with_digest(resolved.digest)];
    if reference.digest().is_none() {
        references.push(reference.clone());
    }
    let new = NewImage {
        config,
        layers,
        manifest: Some(resolved.manifest_digest),
        index: resolved.index,
        references,
    };
    let done = session.commit(new).await?;
    let up_to_date = was == Some(id);
    progress.say(format!("Digest: {}", resolved.digest));
    progress.say(if up_to_date {
        format!("Status: Image is up to date for {reference}")
    } else {
        format!("Status: Downloaded newer image for {reference}")
    });
    Ok(Done { id: done, digest: resolved.digest, up_to_date })
}

/// Follows the name to a manifest, through indexes.
async fn resolve(
    session: &Arc<Session>,
    registry: &Sources,
    name: &str,
    expected: Option<&Digest>,
    platform: &Platform,
) -> Result<Resolved> {
    let mut name = name.to_owned();
    let mut expected = expected.copied();
    let mut first = None;
    let mut index = None;
    for _ in 0..NESTING_MAX {
        let received = registry.manifest(&name).await?;
        let got = Digest::of(&received.content);
        if let Some(expected) = expected.filter(|expected| *expected != got) {
            let what = format!("manifest {name}");
            return Err(ImageError::Digest { what, expected, got }.into());
        }
        let document = Document::parse(&received.content, received.media_type.as_deref())?;
        keep(session, received.content).await?;
        let digest = *first.get_or_insert(got);
        match document {
            Document::Manifest(manifest) => {
                return Ok(Resolved { digest, index, manifest_digest: got, manifest });
            }
            Document::Index(entries) => {
                index.get_or_insert(got);
                let chosen = choose(&entries, platform)?;
                name = chosen.digest.to_string();
                expected = Some(chosen.digest);
            }
        }
    }
    Err(ManifestError::TooDeep.into())
}

/// All layers, bottom first, unpacked.
async fn layers(
    session: &Arc<Session>,
    registry: &Arc<Sources>,
    manifest: &Manifest,
    config: &[u8],
    progress: &Progress,
) -> Result<Vec<Layer>> {
    let config = parse_config(config)?;
    check_layers(&config, manifest.layers.len())?;
    let chains = chain_ids(&config.rootfs.diff_ids);
    let permits = Arc::new(Semaphore::new(DOWNLOADS));
    let mut waiting = Vec::with_capacity(chains.len());
    for (descriptor, chain) in manifest.layers.iter().zip(&chains) {
        let short = descriptor.digest.short();
        if let Some(layer) = present(session, chain).await? {
            progress.layer(&short, "Already exists");
            waiting.push(Err(layer));
        } else {
            progress.layer(&short, "Pulling fs layer");
            waiting.push(Ok(start(session, registry, descriptor, progress, &permits)));
        }
    }
    let mut layers = Vec::with_capacity(chains.len());
    for (place, (task, diff_id)) in waiting.into_iter().zip(&config.rootfs.diff_ids).enumerate() {
        layers.push(match task {
            Err(layer) => layer,
            Ok(mut task) => {
                let blob = (&mut task.0).await.map_err(|_| ImageError::Interrupted)??;
                let short = blob.digest.short();
                progress.bytes(&short, "Extracting", blob.size, Some(blob.size));
                let parents = chains.get(..place).unwrap_or_default();
                let layer = session.unpack(parents, *diff_id, blob).await?;
                progress.layer(&short, "Pull complete");
                layer
            }
        });
    }
    Ok(layers)
}

/// What is known of a layer that some image has already. It is pinned then.
async fn present(session: &Arc<Session>, chain: &Digest) -> Result<Option<Layer>> {
    let known = session.store.catalog().layer(chain).cloned();
    let Some(layer) = known else { return Ok(None) };
    session.lease.pin(Item::Layer(*chain)).await;
    session.lease.pin(Item::Blob(layer.blob)).await;
    // It may have gone between the two.
    let is_here = session.store.snapshots.has(chain)? && session.store.content.has(&layer.blob)?;
    Ok(is_here.then_some(layer))
}

fn start(
    session: &Arc<Session>,
    registry: &Arc<Sources>,
    descriptor: &Descriptor,
    progress: &Progress,
    permits: &Arc<Semaphore>,
) -> Task {
    let (session, registry) = (Arc::clone(session), Arc::clone(registry));
    let (descriptor, progress, permits) =
        (descriptor.clone(), progress.clone(), Arc::clone(permits));
    Task(tokio::spawn(async move {
        let _permit = permits.acquire_owned().await.map_err(|_| ImageError::Interrupted)?;
        download(&session, &registry, &descriptor, &progress).await
    }))
}

/// Fetches a blob unless it is here.
async fn download(
    session: &Arc<Session>,
    registry: &Sources,
    descriptor: &Descriptor,
    progress: &Progress,
) -> Result<Blob> {
    let digest = descriptor.digest;
    session.lease.pin(Item::Blob(digest)).await;
    let _turn = session.store.turns.take(digest).await;
    let blob = Blob { digest, size: descriptor.size, media_type: descriptor.media_type.clone() };
    if session.store.content.size(&digest)? != Some(descriptor.size) {
        let context = |error: Error| error.context(format!("cannot fetch layer {digest}"));
        fetch_blob(session, registry, descriptor, progress).await.map_err(context)?;
    }
    progress.layer(&digest.short(), "Download complete");
    Ok(blob)
}

/// Fetches a blob, going on after a lost connection where it was lost. The body goes through a bounded
/// pipe to a thread that hashes and writes.
async fn fetch_blob(
    session: &Arc<Session>,
    registry: &Sources,
    descriptor: &Descriptor,
    progress: &Progress,
) -> Result<()> {
    let (writer, mut reader) = bridge(CHUNKS_WAITING);
    let (taking, digest, size) = (Arc::clone(session), descriptor.digest, descriptor.size);
    let ingest = tokio::spawn(blocking(move || {
        let mut ingest = taking.store.content.ingest()?;
        while let Some(chunk) = reader.next_chunk().map_err(|_| ImageError::Interrupted)? {
            ingest.take_in(&chunk)?;
        }
        taking.finish(ingest, Some(&digest), Some(size))
    }));
    let mut fetching = Fetching { writer: &writer, descriptor, progress, received: 0, told: 0 };
    let mut backoff = Backoff::default();
    let sent = loop {
        let before = fetching.received;
        match fetching.attempt(registry).await {
            Ok(()) => break Ok(()),
            Err(Failure::Store(error)) => break Err(error),
            Err(Failure::Registry(error)) => {
                // What goes forward is not given up.
                if fetching.received - before >= PROGRESS_STEP {
                    backoff = Backoff::default();
                }
                if let Err(error) = wait(&mut backoff, error).await {
                    break Err(error.into());
                }
            }
        }
    };
    match sent {
        Ok(()) => drop(writer.finish().await),
        // The thread sees that the pipe has broken, and removes what it wrote.
        Err(_) => drop(writer),
    }
    let taken = ingest.await.unwrap_or_else(|_| Err(ImageError::Interrupted.into()));
    sent?;
    taken.map(drop)
}

/// A blob on its way.
struct Fetching<'a> {
    writer: &'a BridgeWriter,
    descriptor: &'a Descriptor,
    progress: &'a Progress,
    received: u64,
    told: u64,
}

enum Failure {
    Registry(RegistryError),
    Store(Error),
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}

impl Fetching<'_> {
    /// Asks for what is missing and sends it into the pipe, as long as somebody reads and it is no longer
    /// than promised.
    async fn attempt(&mut self, registry: &Sources) -> Result<(), Failure> {
        let (digest, size) = (self.descriptor.digest, self.descriptor.size);
        if self.received == size && size > 0 {
            return Ok(());
        }
        let mut arriving = registry.blob(&digest, self.received).await?;
        // A registry that does not know parts sends what is here once more.
        let mut known = self.received - arriving.from;
        while let Some(mut chunk) = arriving.chunks.next().await? {
            let again = known.min(chunk.len() as u64);
            known -= again;
            let chunk = chunk.split_off(again as usize);
            if chunk.is_empty() {
                continue;
            }
            self.received += chunk.len() as u64;
            if self.received > size {
                let what = format!("blob {digest}");
                let error = ImageError::TooLarge { what, size: self.received, limit: size };
                return Err(Failure::Store(error.into()));
            }
            if self.received - self.told >= PROGRESS_STEP {
                self.told = self.received;
                self.progress.bytes(&digest.short(), "Downloading", self.received, Some(size));
            }
            // Whoever no longer reads says why.
            if self.writer.send(chunk).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// A small blob such as the configuration: from the store, or fetched whole.
async fn small(
    session: &Arc<Session>,
    registry: &Sources,
    descriptor: &Descriptor,
) -> Result<Vec<u8>> {
    let digest = descriptor.digest;
    session.lease.pin(Item::Blob(digest)).await;
    let store = Arc::clone(&session.store);
    if let Ok(content) = blocking(move || Ok(store.content.read(&digest, CONFIG_MAX)?)).await {
        return Ok(content);
    }
    let mut backoff = Backoff::default();
    let content = loop {
        let attempt = async { registry.blob(&digest, 0).await?.chunks.whole(CONFIG_MAX).await };
        match attempt.await {
            Ok(content) => break content,
            Err(error) => wait(&mut backoff, error).await?,
        }
    };
    let got = Digest::of(&content);
    if got != digest {
        let what = "the image's configuration".to_owned();
        return Err(ImageError::Digest { what, expected: digest, got }.into());
    }
    Ok(content.to_vec())
}

/// Keeps a manifest as a blob.
async fn keep(session: &Arc<Session>, content: Bytes) -> Result<Digest> {
    let session = Arc::clone(session);
    blocking(move || session.put(&content)).await
}
