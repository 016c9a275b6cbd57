//! The service: every operation on images.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use dhow_content::Content;
use dhow_error::Result;
use dhow_kv::Kv;
use dhow_snapshot::Snapshots;
use dhow_spec::{Digest, Reference};

use crate::error::ImageError;
use crate::leases::{Item, Lease};
use crate::registry::{Client, Registry};
use crate::store::{NewImage, Session, Store, unstopped};
use crate::{
    ArchiveFormat, Image, ImageConfiguration, ImageUser, Layer, Loaded, Platform, Progress,
    Removed, Saving, import, load, pull, push, save,
};

/// All images of one daemon. Cheap to clone.
#[derive(Clone)]
pub struct Images {
    pub(crate) store: Arc<Store>,
    pub(crate) client: Client,
    /// The folder of `hosts.toml` files.
    hosts: Option<Arc<Path>>,
}

/// What shows a registry who we are.
#[derive(Clone)]
pub enum Credentials {
    /// A user's name and password, or a token in its place.
    Password {
        /// The user's name.
        username: String,
        /// The password.
        password: String,
    },
    /// A token that gets other tokens (OAuth 2's refresh token).
    Identity(String),
    /// A token for the registry itself.
    Registry(String),
}

/// What to pull.
#[derive(Debug)]
pub struct Pull {
    /// Which image: a tag, a digest, or both.
    pub reference: Reference,
    /// For which platform; this machine's when none.
    pub platform: Option<Platform>,
    /// For the registry, where it wants some.
    pub credentials: Option<Credentials>,
    /// Where progress goes.
    pub progress: Progress,
}

/// What was pulled.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The image.
    pub image: Image,
    /// The digest the registry knows it by (of the index where there is one).
    pub digest: Digest,
    /// Whether the reference already pointed at this image (`Image is up to date`).
    pub up_to_date: bool,
}

/// What to push.
#[derive(Debug)]
pub struct Push {
    /// The repository, and the tag unless all are meant.
    pub reference: Reference,
    /// Push every tag of the repository.
    pub all_tags: bool,
    /// For the registry, where it wants some.
    pub credentials: Option<Credentials>,
    /// Where progress goes.
    pub progress: Progress,
}

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Under which tag.
    pub tag: String,
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest's size in bytes.
    pub size_bytes: u64,
}

/// How to make an image of a root filesystem tar.
#[derive(Debug, Default)]
pub struct Import {
    /// The tag to give it.
    pub reference: Option<Reference>,
    /// The remark in its history.
    pub message: Option<String>,
    /// Dockerfile instructions that shape its configuration: `CMD ["/bin/sh"]`, `ENV A=b`.
    pub changes: Vec<String>,
    /// Its platform; this machine's when none.
    pub platform: Option<Platform>,
    /// When it is said to be made; the present when none. The only thing that makes two imports of
    /// the same tar differ.
    pub created: Option<jiff::Timestamp>,
}

/// Making an image from parts: while it lives, the layers made under it are not swept.
pub struct Work {
    session: Arc<Session>,
    images: Images,
}

/// Keeps an image from being deleted while it lives: whoever creates a container holds one until the
/// container is among the image's users.
#[derive(Debug)]
pub struct Hold {
    _lease: Lease,
}

impl Images {
    /// Opens the images that the stores hold, and sweeps what interrupted work left in them. Nobody else
    /// may put anything into `content` or layers into `snapshots`.
    pub async fn open(kv: Arc<dyn Kv>, content: Content, snapshots: Snapshots) -> Result<Self> {
        let store = Store::open(kv, content, snapshots).await?;
        Ok(Self { store, client: Client::default(), hosts: None })
    }

    /// The same, pulling from the mirrors that `folder`/REGISTRY/hosts.toml names (containerd's format).
    #[must_use]
    pub fn with_hosts(mut self, folder: &Path) -> Self {
        self.hosts = Some(folder.into());
        self
    }

    /// The image that `name` means: a reference (`alpine`, `alpine:3`, `alpine@sha256:…`), an id, or the
    /// first digits of an id (with or without `sha256:`). Costs no I/O.
    ///
    /// Errors: `No such image: x` (not found); an ambiguous prefix (invalid).
    #[expect(clippy::unused_async, reason = "a backend of several machines will have to ask")]
    pub async fn get(&self, name: &str) -> Result<Image> {
        let catalog = self.store.catalog();
        let id = catalog.resolve(name)?;
        Ok(catalog.image(&id).ok_or_else(|| ImageError::NotFound(name.to_owned()))?)
    }

    /// Like [`Images::get`], and the image stays until the hold is dropped.
    pub async fn hold(&self, name: &str) -> Result<(Image, Hold)> {
        let id = self.store.catalog().resolve(name)?;
        let lease = self.store.leases.lease();
        lease.pin(Item::Image(id)).await;
        let image = self.store.catalog().image(&id);
        let image = image.ok_or_else(|| ImageError::NotFound(name.to_owned()))?;
        Ok((image, Hold { _lease: lease }))
    }

    /// All images, newest first.
    #[expect(clippy::unused_async, reason = "a backend of several machines will have to ask")]
    pub async fn list(&self) -> Result<Vec<Image>> {
        let catalog = self.store.catalog();
        let mut images: Vec<Image> = catalog.ids().filter_map(|id| catalog.image(id)).collect();
        images.sort_by(|a, b| b.created_seconds.cmp(&a.created_seconds).then(a.id.cmp(&b.id)));
        Ok(images)
    }

    /// Lets `target` point at the image `name`; a target without a tag means `latest`.
    ///
    /// Errors: not found; a target with a digest (invalid).
    pub async fn tag(&self, name: &str, target: &Reference) -> Result<()> {
        if target.digest().is_some() {
            return Err(dhow_error::Error::invalid(
                "refusing to create a tag with a digest reference",
            ));
        }
        let (image, hold) = self.hold(name).await?;
        let (store, target) = (Arc::clone(&self.store), target.clone().with_default_tag());
        unstopped(async move {
            let _hold = hold;
            let _changes = store.changes.lock().await;
            store.refer(image.id, &[target]).await
        })
        .await
    }

    /// Removes a reference, and the image with its last one, as `docker rmi` does. `users` tells which
    /// containers use an image; it is asked while no new one can begin to.
    ///
    /// Errors: not found; a conflict in Docker's words when it is in use or has several references.
    pub async fn remove(
        &self,
        name: &str,
        force: bool,
        users: &(dyn Fn(&Digest) -> Vec<ImageUser> + Send + Sync),
    ) -> Result<Vec<Removed>> {
        let store = Arc::clone(&self.store);
        let changes = Arc::clone(&store.changes).lock_owned().await;
        let id = store.catalog().resolve(name)?;
        // Who holds the image is about to have a container of it.
        let claim = store.leases.condemn([Item::Image(id)], Default::default);
        let removal = store.catalog().plan_removal(name, force, &users(&id))?;
        if removal.image.is_some() && claim.items().is_empty() {
            let why = "image is being used by a container that is being created".to_owned();
            let force = "cannot be forced";
            return Err(ImageError::InUse { image: id.short(), force, why }.into());
        }
        unstopped(async move {
            let gone = store.remove(&removal).await?;
            drop((changes, claim));
            let mut items = gone.map(|entry| entry.record.items(&id)).unwrap_or_default();
            items.reverse();
            let removed = store.sweep(items).await?;
            Ok(removal.lines(removed.into_iter().filter_map(|item| match item {
                Item::Layer(chain_id) => Some(chain_id),
                _ => None,
            })))
        })
        .await
    }

    /// Takes in an archive: `docker save`'s or an OCI layout's tar, plain, gzip or zstd. `reader` is read
    /// on a thread of its own; see [`bridge`](crate::bridge) for bodies that come asynchronously.
    ///
    /// Errors: what is wrong with the archive (invalid); nothing of a failed image is left.
    pub async fn load(
        &self,
        reader: impl Read + Send + 'static,
        progress: Progress,
    ) -> Result<Vec<Loaded>> {
        let session = self.store.session();
        let result = load::load(&session, Box::new(reader), &progress).await;
        session.close().await;
        result
    }

    /// Prepares an archive of images, for `docker load` and for [`Images::load`]. What it names stays until
    /// it is written or dropped.
    ///
    /// Errors: no such image (not found).
    pub async fn save(&self, names: &[String], format: ArchiveFormat) -> Result<Saving> {
        save::save(&self.store.session(), names, format).await
    }

    /// Makes a one-layer image of a root filesystem tar, plain, gzip or zstd.
    ///
    /// Errors: a tar that cannot be unpacked or a change that cannot be read (invalid).
    pub async fn import(
        &self,
        reader: impl Read + Send + 'static,
        import: Import,
    ) -> Result<Image> {
        let session = self.store.session();
        let result = import::import(&session, Box::new(reader), import).await;
        session.close().await;
        self.known(result?)
    }

    /// Fetches an image from its registry: by https, and by http on this machine (127.0.0.0/8, ::1,
    /// localhost).
    ///
    /// Errors: the registry has no such image or refuses (not found, unauthorized), cannot be reached
    /// (unavailable), or sends something else than it promised (invalid). Each names the addresses asked.
    pub async fn pull(&self, pull: Pull) -> Result<Pulled> {
        let session = self.store.session();
        let result = pull::pull(&session, &self.client, self.hosts.as_deref(), pull).await;
        session.close().await;
        let done = result?;
        Ok(Pulled { image: self.known(done.id)?, digest: done.digest, up_to_date: done.up_to_date })
    }

    /// Gives an image to its registry: by https, and by http on this machine. What the registry has already
    /// is not sent, nor what it has in another repository that we know of.
    ///
    /// Errors: no such image (not found); the registry refuses (unauthorized) or cannot be reached
    /// (unavailable). Each names the addresses asked.
    pub async fn push(&self, push: Push) -> Result<Vec<Pushed>> {
        let session = self.store.session();
        let result = push::push(&session, &self.client, push).await;
        session.close().await;
        result
    }

    /// Asks a registry (`host[:port]`) whether it knows these credentials.
    ///
    /// Errors: it does not (unauthorized), or cannot be reached (unavailable).
    pub async fn log_in(&self, host: &str, credentials: Credentials) -> Result<()> {
        let registry = Registry::at(&self.client, host, Some(credentials));
        Ok(registry.greet().await?)
    }

    /// Begins to make an image from parts.
    pub fn begin(&self) -> Work {
        Work { session: self.store.session(), images: self.clone() }
    }

    /// The folders of an image's layers, topmost first, for reading.
    ///
    /// Errors: a layer is not here (not found).
    pub fn folders(&self, chain: &[Digest]) -> Result<Vec<std::path::PathBuf>> {
        Ok(self.store.snapshots.lower_dirs(chain)?)
    }

    fn known(&self, id: Digest) -> Result<Image> {
        let image = self.store.catalog().image(&id);
        Ok(image.ok_or_else(|| ImageError::NotFound(id.to_string()))?)
    }
}

impl Work {
    /// Takes in a layer (a tar, plain, gzip or zstd) upon `parents` (bottom first) and unpacks it. It is
    /// kept uncompressed, so that equal contents give equal images.
    pub async fn add_layer(
        &self,
        parents: &[Layer],
        reader: impl Read + Send + 'static,
    ) -> Result<Layer> {
        import::add_layer(&self.session, parents, Box::new(reader)).await
    }

    /// Makes the image: from here on it is visible. `config.rootfs` is set from `layers` (bottom first).
    pub async fn create(
        self,
        mut config: ImageConfiguration,
        layers: Vec<Layer>,
        references: &[Reference],
    ) -> Result<Image> {
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        let bytes = config.to_bytes().map_err(|source| ImageError::Json {
            what: "the new configuration".to_owned(),
            source,
        })?;
        let references = references.iter().map(|r| r.clone().with_default_tag()).collect();
        let new = NewImage { config: bytes, layers, manifest: None, index: None, references };
        let result = self.session.commit(new).await;
        self.session.close().await;
        self.images.known(result?)
    }

    /// Gives the work up; its layers are gone when this returns.
    pub async fn abandon(self) {
        self.session.close().await;
    }
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Images").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password { username, .. } => {
                f.debug_struct("Password").field("username", username).finish_non_exhaustive()
            }
            Self::Identity(_) => f.write_str("Identity(..)"),
            Self::Registry(_) => f.write_str("Registry(..)"),
        }
    }
}
