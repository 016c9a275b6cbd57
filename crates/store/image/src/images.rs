//! The service: every operation on images.

use std::io::Read;
use std::sync::Arc;

use dhow_error::{Error, Result};
use dhow_spec::{Digest, Reference};

use crate::{Image, ImageConfiguration, ImageUser, Layer, Loaded, Progress, Removed};

/// All images of one daemon. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Images {
    inner: Arc<()>,
}

/// A platform in Go's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`.
    pub architecture: String,
    /// `v8`, where it matters.
    pub variant: Option<String>,
}

/// A user name and password for a registry.
#[derive(Clone)]
pub struct Credentials {
    /// The user's name.
    pub username: String,
    /// The password or token.
    pub password: String,
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
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Work in progress: while it lives, the layers made under it are not swept.
#[derive(Debug)]
pub struct Work {
    images: Images,
}

/// Keeps an image from being deleted while it lives (a container that is being created holds one).
#[derive(Debug)]
pub struct Hold {
    images: Images,
}

impl Images {
    /// The image that `name` means: a reference (`alpine`, `alpine:3`, `alpine@sha256:…`), an id, or the
    /// first digits of an id (with or without `sha256:`).
    ///
    /// Errors: `No such image: x` (not found); an ambiguous prefix (invalid).
    pub async fn get(&self, name: &str) -> Result<Image> {
        Err(Error::not_found(format!("No such image: {name}")))
    }

    /// Like [`Images::get`], and the image stays until the hold is dropped.
    pub async fn hold(&self, name: &str) -> Result<(Image, Hold)> {
        Err(Error::not_found(format!("No such image: {name}")))
    }

    /// All images, newest first.
    pub async fn list(&self) -> Result<Vec<Image>> {
        Ok(Vec::new())
    }

    /// Lets `target` point at the image `name`.
    pub async fn tag(&self, name: &str, target: &Reference) -> Result<()> {
        let _ = target;
        Err(Error::not_found(format!("No such image: {name}")))
    }

    /// Removes a reference, and the image with its last one, as `docker rmi` does. `users` tells which
    /// containers use an image.
    ///
    /// Errors: not found; a conflict in Docker's words when it is in use or has several references.
    pub async fn remove(
        &self,
        name: &str,
        force: bool,
        users: &(dyn Fn(&Digest) -> Vec<ImageUser> + Send + Sync),
    ) -> Result<Vec<Removed>> {
        let _ = (force, users);
        Err(Error::not_found(format!("No such image: {name}")))
    }

    /// Takes in an archive: `docker save`'s or an OCI layout's tar, plain, gzip or zstd.
    pub async fn load(
        &self,
        reader: impl Read + Send + 'static,
        progress: Progress,
    ) -> Result<Vec<Loaded>> {
        let _ = (reader, progress);
        Ok(Vec::new())
    }

    /// Makes a one-layer image of a root filesystem tar, plain, gzip or zstd.
    pub async fn import(
        &self,
        reader: impl Read + Send + 'static,
        import: Import,
    ) -> Result<Image> {
        let _ = (reader, import);
        Err(Error::internal("no"))
    }

    /// Fetches an image from its registry.
    pub async fn pull(&self, pull: Pull) -> Result<Pulled> {
        let _ = pull;
        Err(Error::internal("no"))
    }

    /// Begins to make an image from parts.
    pub fn begin(&self) -> Work {
        Work { images: self.clone() }
    }
}

impl Work {
    /// Takes in a layer (a tar, plain, gzip or zstd) upon `parents` (bottom first) and unpacks it.
    pub async fn add_layer(
        &self,
        parents: &[Layer],
        reader: impl Read + Send + 'static,
    ) -> Result<Layer> {
        let _ = (parents, reader, &self.images.inner);
        Err(Error::internal("no"))
    }

    /// Makes the image: from here on it is visible. `config.rootfs` is set from `layers` (bottom first).
    pub async fn create(
        self,
        config: ImageConfiguration,
        layers: Vec<Layer>,
        references: &[Reference],
    ) -> Result<Image> {
        let _ = (config, layers, references);
        Err(Error::internal("no"))
    }
}

impl Hold {
    /// Whose.
    pub fn images(&self) -> &Images {
        &self.images
    }
}
