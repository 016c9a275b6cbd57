//! Pushes: from an image that is here to a name at a registry.
//!
//! ```text
//!   tags ─► images ─► manifest and blobs that go out (see outgoing)
//!     └─► blobs: five at a time; there already? mounted? else sent ─► manifest under each tag
//! ```
//!
//! The manifest goes last, so that the registry never has one whose blobs it lacks. Dropping the future
//! stops all of it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dhow_error::{Error, Result};
use dhow_spec::{DEFAULT_TAG, Digest, Reference};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::error::ImageError;
use crate::outgoing::{Outgoing, Part, outgoing};
use crate::registry::{Client, Mounted, Registry, Source, Upload};
use crate::store::{Blob, Session, blocking, unstopped};
use crate::{Progress, Push, Pushed};

/// How many blobs are sent at once, as with Docker.
const UPLOADS: usize = 5;
/// How many other repositories are asked for a layer.
const SOURCES_MAX: usize = 3;
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// Everything that the blobs of one push have in common.
struct Pushing {
    session: Arc<Session>,
    registry: Registry,
    target: Reference,
    progress: Progress,
    permits: Semaphore,
}

/// Pushes one tag or all of a repository.
pub(crate) async fn push(
    session: &Arc<Session>,
    client: &Client,
    push: Push,
) -> Result<Vec<Pushed>> {
    let targets = targets(session, &push)?;
    let repository = push.reference.repository();
    let context = |error: Error| error.context(format!("cannot push {}", push.reference));
    push.progress.say(format!("The push refers to repository [{repository}]"));
    let mut images: HashMap<Digest, Outgoing> = HashMap::new();
    let mut sources = BTreeSet::new();
    for (_, id) in &targets {
        if !images.contains_key(id) {
            let image = outgoing(session, *id, true).await.map_err(context)?;
            for diff_id in &image.diff_ids {
                sources.extend(sources_of(session, diff_id, &push.reference));
            }
            images.insert(*id, image);
        }
    }
    let registry = Registry::new(client, &push.reference, push.credentials.clone());
    let pushing = Arc::new(Pushing {
        session: Arc::clone(session),
        registry: registry.for_push(sources.iter().map(String::as_str)),
        target: push.reference.clone(),
        progress: push.progress.clone(),
        permits: Semaphore::new(UPLOADS),
    });
    let mut pushed = Vec::new();
    let mut sent = BTreeSet::new();
    for (reference, id) in targets {
        let Some(image) = images.get(&id) else { continue };
        if sent.insert(id) {
            pushing.blobs(image).await.map_err(context)?;
        }
        pushed.push(pushing.name(&reference, image).await.map_err(context)?);
    }
    Ok(pushed)
}

/// Which names of which images are meant.
fn targets(session: &Session, push: &Push) -> Result<Vec<(Reference, Digest)>> {
    if push.reference.digest().is_some() {
        return Err(Error::invalid("cannot push a digest reference")
            .with_hint("give the image a tag with `dhow tag` and push that"));
    }
    let catalog = session.store.catalog();
    let targets = if push.all_tags {
        catalog.tags_of(&push.reference.repository())
    } else {
        let reference = push.reference.clone().with_default_tag();
        catalog.target(&reference).map(|id| (reference, id)).into_iter().collect()
    };
    if targets.is_empty() {
        let name = push.reference.familiar();
        return Err(Error::not_found(format!(
            "An image does not exist locally with the tag: {name}"
        )));
    }
    Ok(targets)
}

/// Other repositories at the target's registry that may have a layer.
fn sources_of(session: &Session, diff_id: &Digest, target: &Reference) -> Vec<String> {
    let sources = session.store.catalog().sources(diff_id, target);
    sources.into_iter().take(SOURCES_MAX).collect()
}

impl Pushing {
    /// Sees to it that the registry has all blobs of an image.
    async fn blobs(self: &Arc<Self>, image: &Outgoing) -> Result<()> {
        let layers = image.layers.iter().zip(&image.diff_ids);
        let mut tasks = JoinSet::new();
        let mut begun = BTreeSet::new();
        // The topmost first, as Docker shows them.
        for (part, diff_id) in layers.rev() {
            let short = diff_id.short();
            self.progress.layer(&short, "Preparing");
            if begun.insert(part.blob.digest) {
                let (this, part, diff_id) = (Arc::clone(self), part.clone(), *diff_id);
                tasks.spawn(async move { this.layer(part, &diff_id).await });
            } else {
                self.progress.layer(&short, "Layer already exists");
            }
        }
        let (this, config) = (Arc::clone(self), image.config.clone());
        tasks.spawn(async move { this.config(&config).await });
        // Dropping the set stops the others.
        while let Some(done) = tasks.join_next().await {
            done.map_err(|_| ImageError::Interrupted)??;
        }
        Ok(())
    }

    async fn layer(self: Arc<Self>, part: Part, diff_id: &Digest) -> Result<()> {
        let short = diff_id.short();
        if self.permits.available_permits() == 0 {
            self.progress.layer(&short, "Waiting");
        }
        let _permit = self.permits.acquire().await.map_err(|_| ImageError::Interrupted)?;
        let digest = part.blob.digest;
        if self.registry.has_blob(&digest).await? {
            self.progress.layer(&short, "Layer already exists");
            return Ok(());
        }
        let mut begun = None;
        for source in sources_of(&self.session, diff_id, &self.target) {
            match self.registry.begin(&digest, Some(&source)).await? {
                Mounted::Done => {
                    self.progress.layer(&short, &format!("Mounted from {source}"));
                    return Ok(());
                }
                // What could not be mounted is an upload that waits.
                Mounted::Not(upload) => begun = Some(upload),
            }
        }
        let (session, blob) = (Arc::clone(&self.session), part.blob.clone());
        blocking(move || part.provide(&session)).await?;
        self.send(&blob, begun, &short).await?;
        self.progress.layer(&short, "Pushed");
        Ok(())
    }

    async fn config(self: Arc<Self>, config: &Blob) -> Result<()> {
        if self.registry.has_blob(&config.digest).await? {
            return Ok(());
        }
        self.send(config, None, "").await
    }

    /// Sends a blob, telling how far it is under the name `short`.
    async fn send(&self, blob: &Blob, begun: Option<Upload>, short: &str) -> Result<()> {
        let content = self.session.store.content.clone();
        let (digest, size) = (blob.digest, blob.size);
        let file = blocking(move || Ok(content.blob(&digest)?)).await?;
        let sent = Arc::new(AtomicU64::new(0));
        let source = Source { digest, file: Arc::new(file), size, sent: Arc::clone(&sent) };
        let upload = match begun {
            Some(upload) => upload,
            None => match self.registry.begin(&digest, None).await? {
                Mounted::Done => return Ok(()),
                Mounted::Not(upload) => upload,
            },
        };
        let mut sending = std::pin::pin!(self.registry.send(upload, &source));
        let mut clock = tokio::time::interval(TELL_EVERY);
        loop {
            tokio::select! {
                done = &mut sending => {
                    if !short.is_empty() {
                        self.progress.bytes(short, "Pushing", size, Some(size));
                    }
                    return Ok(done?);
                }
                _ = clock.tick(), if !short.is_empty() => {
                    let sent = sent.load(Ordering::Relaxed);
                    self.progress.bytes(short, "Pushing", sent, Some(size));
                }
            }
        }
    }

    /// Gives the manifest to the registry, and remembers under which digest it has it.
    async fn name(&self, reference: &Reference, image: &Outgoing) -> Result<Pushed> {
        let tag = reference.tag().unwrap_or(DEFAULT_TAG).to_owned();
        let manifest = image.manifest.clone();
        self.registry.put_manifest(&tag, &image.media_type, manifest.into()).await?;
        let (digest, size_bytes) = (image.manifest_digest, image.manifest.len() as u64);
        self.progress.say(format!("{tag}: digest: {digest} size: {size_bytes}"));
        let (store, id) = (Arc::clone(&self.session.store), image.id);
        let known = reference.with_digest(digest);
        unstopped(async move {
            let _changes = store.changes.lock().await;
            if store.catalog().record(&id).is_some() {
                store.refer(id, &[known]).await?;
            }
            Ok(())
        })
        .await?;
        Ok(Pushed { tag, digest, size_bytes })
    }
}
