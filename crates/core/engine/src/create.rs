//! Making a container.
//!
//! ```text
//!   hold the image ─► merge ─► validate ─► take the name ─► volumes ─┬─► one durable transaction ─┬─► ok
//!        (stays)                          (in memory)     (filled)   └─► folders (not durable) ───┘
//! ```
//!
//! Transaction and folders are made at once and both must be there before the create is acknowledged.
//! Folders without a container are leftovers that the next start of the daemon removes; a container without
//! folders gets them then. Volumes come before, since only the image could fill them again. A failure gives
//! back the name and takes the folders away.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

use dhow_error::{Error, Kind, Result};
use dhow_image::Image;
use dhow_spec::ContainerId;

use crate::clock::now_ns;
use crate::container::{Container, Folders};
use crate::engine::Shared;
use crate::options::Created;
use crate::record::{self, Record};
use crate::spec::{ContainerSpec, Mount, MountKind, NamespaceMode, NetworkMode};
use crate::state::{State, Status};
use crate::{names, resolve, validate, volumes};

/// How many made-up names are tried.
const NAME_ATTEMPTS: u32 = 64;

impl Shared {
    /// See [`crate::Engine::create`].
    pub(crate) async fn create(
        self: &Arc<Self>,
        name: Option<String>,
        mut spec: ContainerSpec,
    ) -> Result<Created> {
        let wished = name.as_deref().map(names::check).transpose()?.map(str::to_owned);
        // Held until the container is in the store, which keeps the image from then on.
        let (image, _hold) = self.images.hold(&spec.image).await?;
        resolve::merge(&mut spec, &image.config.config)?;
        resolve::add_anonymous_volumes(&mut spec);
        self.name_others_by_id(&mut spec)?;
        let warnings = validate::check(&spec, &self.machine)?;
        refuse_unsupported(&spec)?;
        self.profiles.filter(&spec.security, &self.capabilities(&spec)?)?;
        let id = ContainerId::random()?;
        let name = self.take_name(wished, &id)?;
        match self.make(&id, name.clone(), spec, &image).await {
            Ok(container) => {
                self.publish(&container, "create", BTreeMap::new());
                Ok(Created { id: id.to_string(), name, warnings })
            }
            Err(error) => {
                self.registry.release(&name, &id);
                self.discard_files(&self.folders(&id), &id);
                Err(error)
            }
        }
    }

    /// The folders of a container of this engine.
    pub(crate) fn folders(&self, id: &ContainerId) -> Folders {
        let config = &self.config;
        Folders::new(&config.root, &config.run, &config.cgroup_parent, id.as_str())
    }

    /// Takes away what a container has on disk. Failures are for the log: the next start tries again.
    pub(crate) fn discard_files(&self, folders: &Folders, id: &ContainerId) {
        if let Err(error) = self.snapshots.discard_writable(id) {
            tracing::warn!(container = %id, %error, "cannot remove the writable layer");
        }
        for folder in [&folders.root, &folders.run] {
            match fs::remove_dir_all(folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(folder = %folder.display(), %error, "cannot remove a folder");
                }
                _ => {}
            }
        }
    }

    /// Makes a container's folders; those that are there stay as they are.
    pub(crate) fn make_folders(&self, id: &ContainerId, folders: &Folders) -> Result<()> {
        match DirBuilder::new().mode(0o700).create(&folders.root) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(cannot_make(id, error));
            }
            _ => {}
        }
        match self.snapshots.writable(id) {
            Ok(_) => {}
            Err(_) => drop(self.snapshots.create_writable(id)?),
        }
        Ok(())
    }

    async fn make(
        &self,
        id: &ContainerId,
        name: String,
        mut spec: ContainerSpec,
        image: &Image,
    ) -> Result<Arc<Container>> {
        let folders = self.folders(id);
        let lower = self.snapshots.lower_dirs(&image.chain())?;
        let is_volume =
            |mount: &Mount| matches!(mount.kind, MountKind::Volume { anonymous: true, .. });
        if spec.mounts.iter().any(is_volume) {
            // Filling them may take long: the store must not know of half of them.
            self.make_folders(id, &folders)?;
            volumes::make(&mut spec, &folders.root, &lower)?;
        }
        let record = Record::new(id.clone(), name, now_ns(), image.id, image.chain(), spec);
        // The store waits for the disk; meanwhile there is time for the folders.
        let write = record::create(self.kv.as_ref(), &record);
        let (written, made) = tokio::join!(write, async { self.make_folders(id, &folders) });
        written?;
        if let Err(error) = made {
            record::remove(self.kv.as_ref(), id, &record.name).await?;
            return Err(error);
        }
        let container = Arc::new(Container::new(record, State::default(), folders));
        self.registry.insert(Arc::clone(&container));
        Ok(container)
    }

    /// Reserves the wished name, or a made-up one.
    fn take_name(&self, wished: Option<String>, id: &ContainerId) -> Result<String> {
        if let Some(name) = wished {
            self.registry.reserve(&name, id)?;
            return Ok(name);
        }
        for attempt in 0..NAME_ATTEMPTS {
            let name = names::generate(attempt)?;
            if self.registry.reserve(&name, id).is_ok() {
                return Ok(name);
            }
        }
        let name = id.short().to_owned();
        self.registry.reserve(&name, id).map(|()| name)
    }

    /// Replaces other containers' names by their ids, which stay.
    fn name_others_by_id(&self, spec: &mut ContainerSpec) -> Result<()> {
        if let NetworkMode::Container(name) = &mut spec.network.mode {
            *name = self.registry.find(name)?.id.to_string();
        }
        let security = &mut spec.security;
        for mode in [&mut security.pid, &mut security.ipc] {
            if let NamespaceMode::Container(name) = mode {
                *name = self.registry.find(name)?.id.to_string();
            }
        }
        Ok(())
    }

    /// Tells of something that happened to a container.
    pub(crate) fn publish(
        &self,
        container: &Container,
        action: &str,
        more: BTreeMap<String, String>,
    ) {
        let mut attributes = container.spec().labels.clone();
        attributes.insert("image".into(), container.spec().image.clone());
        attributes.insert("name".into(), container.name());
        attributes.extend(more);
        self.events.publish("container", action, container.id.to_string(), attributes);
    }

    /// Gives a container another name.
    pub(crate) async fn rename(&self, name: &str, new_name: &str) -> Result<()> {
        let container = self.registry.find(name)?;
        let new_name = names::check(new_name)
            .map_err(|_| Error::invalid("invalid container name for renaming"))?
            .to_owned();
        let _gate = container.gate.lock().await;
        if matches!(container.status(), Status::Removing | Status::Dead) {
            return Err(Error::conflict("container is marked for removal and cannot be renamed"));
        }
        let old_name = container.name();
        if old_name == new_name {
            return Err(Error::invalid(
                "renaming a container with the same name as its current name",
            ));
        }
        self.registry.reserve(&new_name, &container.id)?;
        let record = Record { name: new_name.clone(), ..container.record() };
        if let Err(error) = record::rename(self.kv.as_ref(), &record, &old_name).await {
            self.registry.release(&new_name, &container.id);
            return Err(error);
        }
        container.live().name.clone_from(&new_name);
        self.registry.release(&old_name, &container.id);
        let more = [("oldName".to_owned(), format!("/{old_name}"))].into();
        self.publish(&container, "rename", more);
        Ok(())
    }
}

/// What is understood and not there.
fn refuse_unsupported(spec: &ContainerSpec) -> Result<()> {
    for mount in &spec.mounts {
        match &mount.kind {
            MountKind::Volume { name, anonymous: false, .. } if !name.is_empty() => {
                let message = format!("named volumes are not supported: {name}");
                return Err(Error::new(Kind::Unsupported, message)
                    .with_hint("mount a folder of the host with -v /path:/path"));
            }
            MountKind::Bind { source, create: false, .. } if !source.exists() => {
                return Err(Error::invalid(format!(
                    "invalid mount config for type \"bind\": bind source path does not exist: {}",
                    source.display()
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

fn cannot_make(id: &ContainerId, error: std::io::Error) -> Error {
    let message = format!("cannot make the folder of container {}", id.short());
    Error::caused(Kind::Internal, message, error)
}
