//! Anonymous volumes: folders that outlive what is mounted over them, but not their container.
//!
//! An image's `VOLUME` and `-v /path` get one each below the container's own folder. A new volume begins
//! with what the image has at that path: content, owners, modes, times, attributes and links, as with
//! Docker. It is read through an overlay of the image's layers that is attached nowhere, and beneath its
//! root only, so that no link in an image leads to the host.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use dhow_error::{Error, Kind, Result};
use dhow_spec::ContainerId;

use crate::spec::{ContainerSpec, MountKind};

/// The folder of the volume `name` of the container whose folder is `container`.
pub(crate) fn path(container: &Path, name: &str) -> PathBuf {
    container.join("volumes").join(name)
}

/// Gives each anonymous volume of `spec` a name and a folder, filled from the image. `lower` are the image's
/// layers, topmost first.
pub(crate) fn make(spec: &mut ContainerSpec, container: &Path, lower: &[PathBuf]) -> Result<()> {
    for mount in &mut spec.mounts {
        let MountKind::Volume { name, no_copy, anonymous: true } = &mut mount.kind else {
            continue;
        };
        *name = ContainerId::random()?.to_string();
        let folder = path(container, name);
        let failed = |error: io::Error| {
            let message = format!("cannot make a volume for {}", mount.target);
            Error::caused(Kind::Internal, message, error)
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder.parent().unwrap_or(container))
            .map_err(failed)?;
        DirBuilder::new().mode(0o755).create(&folder).map_err(failed)?;
        if !*no_copy {
            crate::copy::from_layers(lower, &mount.target, &folder).map_err(failed)?;
        }
    }
    Ok(())
}
