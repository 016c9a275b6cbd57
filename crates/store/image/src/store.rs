//! The stores that images live in, and the steps that every way of getting an image shares: take in a
//! blob, unpack a layer, make the image visible, sweep what nobody needs.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use dhow_content::{Batch, Content, Ingest};
use dhow_error::{Error, Result};
use dhow_kv::{Kv, Transaction};
use dhow_snapshot::{Snapshots, chain_id};
use dhow_spec::{Digest, Reference};

use crate::catalog::{Catalog, Entry, Removal};
use crate::error::ImageError;
use crate::leases::{Item, Lease, Leases};
use crate::manifest::{CONFIG_MAX, LAYERS_MAX};
use crate::outgoing::Packed;
use crate::record::{self, Pointer, Record};
use crate::turns::Turns;
use crate::{ImageConfiguration, Layer};

/// The most references that are written with one transaction, below the store's limit.
const REFERENCES_AT_ONCE: usize = 100;

/// Everything behind [`Images`](crate::Images).
pub(crate) struct Store {
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) content: Content,
    pub(crate) snapshots: Snapshots,
    pub(crate) leases: Leases,
    /// Downloads by blob, unpacking by chain id.
    pub(crate) turns: Turns,
    /// What plain layers come to when they are compressed.
    pub(crate) packed: Packed,
    catalog: RwLock<Catalog>,
    /// Held while a change is planned, written and applied to the catalog.
    pub(crate) changes: Arc<tokio::sync::Mutex<()>>,
}

/// Work under a lease. What it pinned and no image came to need is swept when it ends, however it ends.
pub(crate) struct Session {
    pub(crate) store: Arc<Store>,
    pub(crate) lease: Lease,
}

/// A layer's blob in the content store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) media_type: String,
}

/// An image whose layers are all unpacked.
#[derive(Debug)]
pub(crate) struct NewImage {
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) manifest: Option<Digest>,
    pub(crate) index: Option<Digest>,
    pub(crate) references: Vec<Reference>,
}

/// Runs what blocks on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ImageError::Interrupted)?
}

/// Runs what must not stop in the middle: dropping the future lets it go on. Store and catalog stay equal
/// that way when a client goes away.
pub(crate) async fn unstopped<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(work).await.map_err(|_| ImageError::Interrupted)?
}

impl Store {
    /// Reads the catalog and sweeps what interrupted work left.
    pub(crate) async fn open(
        kv: Arc<dyn Kv>,
        content: Content,
        snapshots: Snapshots,
    ) -> Result<Arc<Self>> {
        let records = kv.range(record::RECORDS).await?;
        let pointers = kv.range(record::REFERENCES).await?;
        let store = Arc::new(Self {
            kv,
            content,
            snapshots,
            leases: Leases::default(),
            turns: Turns::default(),
            packed: Packed::default(),
            catalog: RwLock::default(),
            changes: Arc::default(),
        });
        let reading = Arc::clone(&store);
        let candidates = blocking(move || {
            reading.read_catalog(records, pointers);
            let blobs = reading.content.list()?.into_iter().map(|(digest, _)| Item::Blob(digest));
            let layers = reading.snapshots.list()?.into_iter().map(Item::Layer);
            Ok(blobs.chain(layers).collect::<Vec<_>>())
        });
        let candidates = candidates.await?;
        store.sweep(candidates).await?;
        Ok(store)
    }

    pub(crate) fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn catalog_mut(&self) -> RwLockWriteGuard<'_, Catalog> {
        self.catalog.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins work that adds to the store.
    pub(crate) fn session(self: &Arc<Self>) -> Arc<Session> {
        Arc::new(Session { store: Arc::clone(self), lease: self.leases.lease() })
    }

    /// Removes those of `candidates` that no image needs and nobody pins; tells which, topmost layers
    /// first as they were given.
    pub(crate) async fn sweep(self: &Arc<Self>, candidates: Vec<Item>) -> Result<Vec<Item>> {
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let store = Arc::clone(self);
        blocking(move || {
            let is_layer = |item: &Item| matches!(item, Item::Layer(_));
            let (layers, blobs): (Vec<_>, Vec<_>) = candidates.into_iter().partition(is_layer);
            let needed = || store.catalog().needed();
            let mut removed = Vec::new();
            {
                let _removing = store.leases.removing();
                let condemned = store.leases.condemn(blobs, needed);
                for item in condemned.items() {
                    if let Item::Blob(digest) = item {
                        store.content.remove(digest)?;
                        removed.push(*item);
                    }
                }
            }
            let condemned = store.leases.condemn(layers, needed);
            for item in condemned.items() {
                if let Item::Layer(chain) = item {
                    store.snapshots.remove(chain)?;
                    removed.push(*item);
                }
            }
            Ok(removed)
        })
        .await
    }

    /// Writes a removal down and applies it.
    pub(crate) async fn remove(&self, removal: &Removal) -> Result<Option<Entry>> {
        let mut transaction = Transaction::new();
        if let Some(id) = &removal.image {
            transaction = transaction.delete(record::record_key(id));
        }
        for (number, reference) in removal.references.iter().enumerate() {
            if number > 0 && number % REFERENCES_AT_ONCE == 0 {
                self.kv.commit(std::mem::take(&mut transaction)).await?;
            }
            transaction = transaction.delete(record::reference_key(reference));
        }
        self.kv.commit(transaction).await?;
        Ok(self.catalog_mut().apply(removal))
    }

    /// Lets references point at an image that is in the catalog. The caller holds `changes`.
    pub(crate) async fn refer(&self, id: Digest, references: &[Reference]) -> Result<()> {
        for some in references.chunks(REFERENCES_AT_ONCE) {
            self.kv.commit(pointing(Transaction::new(), id, some)?).await?;
            let mut catalog = self.catalog_mut();
            for reference in some {
                catalog.refer(reference.clone(), id);
            }
        }
        Ok(())
    }

    fn read_catalog(&self, records: Vec<(String, Vec<u8>)>, pointers: Vec<(String, Vec<u8>)>) {
        let mut catalog = self.catalog_mut();
        for (key, value) in records {
            match self.read_entry(&key, &value) {
                Ok((id, entry)) => catalog.insert(id, entry),
                Err(error) => {
                    tracing::warn!(key, error = error.chain(), "an image cannot be read");
                }
            }
        }
        for (key, value) in pointers {
            match serde_json::from_slice::<Pointer>(&value) {
                Ok(pointer) if catalog.image(&pointer.image).is_some() => {
                    catalog.refer(pointer.reference, pointer.image);
                }
                Ok(_) => tracing::warn!(key, "a reference points at no image"),
                Err(error) => tracing::warn!(key, %error, "a reference cannot be read"),
            }
        }
    }

    fn read_entry(&self, key: &str, value: &[u8]) -> Result<(Digest, Entry)> {
        let hex = key.strip_prefix(record::RECORDS).unwrap_or(key);
        let id: Digest = format!("sha256:{hex}").parse()?;
        let what = || format!("the record of image {}", id.short());
        let record: Record = serde_json::from_slice(value)
            .map_err(|source| ImageError::Json { what: what(), source })?;
        let config = parse_config(&self.content.read(&id, CONFIG_MAX)?)?;
        for layer in &record.layers {
            if !self.snapshots.has(&layer.chain_id)? {
                return Err(dhow_snapshot::SnapshotError::NoLayer(layer.chain_id).into());
            }
        }
        Ok((id, Entry { record, config: Arc::new(config) }))
    }
}

impl Session {
    /// Gives an ingest its name and pins it. Blocks.
    pub(crate) fn finish(
        &self,
        ingest: Ingest,
        expected: Option<&Digest>,
        expected_size: Option<u64>,
    ) -> Result<Digest> {
        let _naming = self.store.leases.naming();
        let digest = ingest.finish(expected, expected_size)?;
        self.lease.pin_named(digest);
        Ok(digest)
    }

    /// Makes a batch durable, gives its blobs their names and pins them. Blocks.
    pub(crate) fn finish_all(&self, batch: Batch) -> Result<()> {
        let synced = batch.sync()?;
        let _naming = self.store.leases.naming();
        for digest in synced.publish()? {
            self.lease.pin_named(digest);
        }
        Ok(())
    }

    /// Takes in a small blob. Blocks.
    pub(crate) fn put(&self, content: &[u8]) -> Result<Digest> {
        let _naming = self.store.leases.naming();
        let digest = self.store.content.put(content)?;
        self.lease.pin_named(digest);
        Ok(digest)
    }

    /// Unpacks a blob upon `parents` (chain ids, bottom first), unless that layer is here. The blob must
    /// be pinned.
    pub(crate) async fn unpack(
        self: &Arc<Self>,
        parents: &[Digest],
        diff_id: Digest,
        blob: Blob,
    ) -> Result<Layer> {
        let chain_id = chain_id(parents.last(), &diff_id);
        self.lease.pin(Item::Layer(chain_id)).await;
        let turn = self.store.turns.take(chain_id).await;
        let (session, parents) = (Arc::clone(self), parents.to_vec());
        blocking(move || {
            let _turn = turn;
            let store = &session.store;
            let file = store.content.blob(&blob.digest)?;
            let info =
                store.snapshots.unpack(&chain_id, &parents, file, &diff_id).map_err(|error| {
                    Error::from(error).context(format!("cannot unpack {}", blob.digest))
                })?;
            Ok(Layer {
                diff_id,
                chain_id,
                blob: blob.digest,
                blob_bytes: blob.size,
                size_bytes: info.size_bytes,
                media_type: blob.media_type,
            })
        })
        .await
    }

    /// Makes an image visible: its record, then its references.
    pub(crate) async fn commit(self: &Arc<Self>, new: NewImage) -> Result<Digest> {
        let session = Arc::clone(self);
        unstopped(async move { session.commit_now(new).await }).await
    }

    async fn commit_now(self: &Arc<Self>, new: NewImage) -> Result<Digest> {
        let config = parse_config(&new.config)?;
        check_layers(&config, new.layers.len())?;
        let session = Arc::clone(self);
        let id = blocking(move || session.put(&new.config)).await?;
        // Whoever removes the image at this moment finishes first.
        self.lease.pin(Item::Image(id)).await;
        let record = Record {
            manifest: new.manifest,
            index: new.index,
            layers: new.layers,
            created_seconds: created_seconds(&config),
        };
        let store = &self.store;
        let _changes = store.changes.lock().await;
        // An image that is here already keeps what it knows of its manifest.
        let known = store.catalog().record(&id).cloned();
        if known.is_none() || record.manifest.is_some() {
            // What only the old record needs goes when this session ends.
            for item in known.map(|old| old.items(&id)).unwrap_or_default() {
                self.lease.pin(item).await;
            }
            let text = serde_json::to_vec(&record)
                .map_err(|source| ImageError::Json { what: "a record".to_owned(), source })?;
            store.kv.commit(Transaction::new().put(record::record_key(&id), text)).await?;
            store.catalog_mut().insert(id, Entry { record, config: Arc::new(config) });
        }
        store.refer(id, &new.references).await?;
        Ok(id)
    }

    /// Ends the work: sweeps what it left and no image needs.
    pub(crate) async fn close(&self) {
        let items = self.lease.release();
        if let Err(error) = self.store.sweep(items).await {
            tracing::warn!(error = error.chain(), "cannot sweep after work on an image");
        }
    }
}

/// Work that was given up in the middle is swept in the background.
impl Drop for Session {
    fn drop(&mut self) {
        let items = self.lease.release();
        let store = Arc::clone(&self.store);
        if let (false, Ok(runtime)) = (items.is_empty(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                if let Err(error) = store.sweep(items).await {
                    tracing::warn!(error = error.chain(), "cannot sweep after work on an image");
                }
            });
        }
    }
}

/// Reads a configuration and checks that it is one of a Linux image.
pub(crate) fn parse_config(bytes: &[u8]) -> Result<ImageConfiguration> {
    if bytes.len() as u64 > CONFIG_MAX {
        let what = "the image's configuration".to_owned();
        return Err(
            ImageError::TooLarge { what, size: bytes.len() as u64, limit: CONFIG_MAX }.into()
        );
    }
    let config: ImageConfiguration = serde_json::from_slice(bytes).map_err(|source| {
        ImageError::Json { what: "the image's configuration".to_owned(), source }
    })?;
    if !config.os.is_empty() && config.os != "linux" {
        return Err(ImageError::NotLinux { found: config.os }.into());
    }
    Ok(config)
}

/// Checks that a configuration and what came with it tell of the same number of layers.
pub(crate) fn check_layers(config: &ImageConfiguration, layers: usize) -> Result<()> {
    let diff_ids = config.rootfs.diff_ids.len();
    if layers > LAYERS_MAX {
        return Err(ImageError::TooManyLayers(layers).into());
    }
    if diff_ids != layers {
        return Err(ImageError::LayerCount { diff_ids, layers }.into());
    }
    Ok(())
}

/// Copies a reader into an ingest; tells the size. Blocks.
pub(crate) fn spool(reader: &mut dyn Read, ingest: &mut Ingest) -> Result<u64> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return Ok(ingest.written()),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(source) => {
                let kind = dhow_error::Kind::Invalid;
                return Err(Error::caused(kind, "cannot read what was sent", source));
            }
        };
        ingest.take_in(&buffer[..count])?;
    }
}

fn pointing(mut transaction: Transaction, id: Digest, some: &[Reference]) -> Result<Transaction> {
    let unique: HashMap<_, _> = some.iter().map(|r| (record::reference_key(r), r)).collect();
    for (key, reference) in unique {
        let pointer = Pointer { reference: reference.clone(), image: id };
        let text = serde_json::to_vec(&pointer)
            .map_err(|source| ImageError::Json { what: "a reference".to_owned(), source })?;
        transaction = transaction.put(key, text);
    }
    Ok(transaction)
}

fn created_seconds(config: &ImageConfiguration) -> i64 {
    let created = config.created.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    created.map_or(0, jiff::Timestamp::as_second)
}
