//! A bundle: a folder with a configuration and a root file system.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use dhow_cgroup::Layout;
use dhow_error::{Error, Kind, Result};
use dhow_spec::oci_runtime::{Mount, Spec};
use dhow_spec::{Configuration, LARGEST_CONFIGURATION};
use serde_json::Value;

/// The configuration's name in a bundle.
pub(crate) const CONFIG: &str = "config.json";
/// No configuration is larger.
pub(crate) const LARGEST: u64 = LARGEST_CONFIGURATION as u64;

/// A bundle that has been read.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// Its folder, absolute.
    pub(crate) folder: PathBuf,
    /// Its configuration.
    pub(crate) spec: Spec,
    /// Its configuration as it was written.
    pub(crate) text: Vec<u8>,
    /// What of it was left out.
    pub(crate) warnings: Vec<String>,
}

impl Bundle {
    /// Reads the bundle in `folder`.
    ///
    /// Errors: not found; invalid, by its place, for what is not as the specification says.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let folder = folder.canonicalize().map_err(|error| {
            let message = format!("cannot find the bundle {}", folder.display());
            Error::caused(Kind::NotFound, message, error)
        })?;
        let (configuration, text) = read_configuration(&folder.join(CONFIG))?;
        let Configuration { mut spec, warnings } = configuration;
        mean_zero(&mut spec, &text);
        for mount in spec.mounts_mut().iter_mut().flatten() {
            find_source(mount, &folder);
        }
        Ok(Self { folder, spec, text, warnings })
    }

    /// The folder of the root file system, absolute.
    pub(crate) fn rootfs(&self) -> Result<PathBuf> {
        let missing = || Error::invalid("config.json has no root");
        let root = self.spec.root().as_ref().ok_or_else(missing)?;
        let path = self.folder.join(root.path());
        path.canonicalize().map_err(|error| {
            Error::caused(Kind::NotFound, format!("cannot use the root {}", path.display()), error)
        })
    }

    /// Tells the process of `count` sockets that it is to listen at (sd_listen_fds(3)).
    pub(crate) fn tell_listening(&mut self, count: u32) {
        let Some(process) = self.spec.process().clone().filter(|_| count > 0) else { return };
        let mut process = process;
        let mut environment = process.env().clone().unwrap_or_default();
        // By its own count it is the first process, as far as it has its own.
        environment.extend([format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()]);
        process.set_env(Some(environment));
        self.spec.set_process(Some(process));
    }

    /// Where the control group of container `id` is. Nobody may be in it yet: once it is in the record, a
    /// forced delete kills who is.
    pub(crate) fn cgroup(&self, id: &str) -> Result<String> {
        let linux = self.spec.linux().as_ref();
        let path = linux.and_then(|linux| linux.cgroups_path().as_ref());
        let path = path.and_then(|path| path.to_str()).unwrap_or_default();
        let layout = Layout::known()?;
        let place = layout.place(path, id)?;
        layout.open(&place).check_unused()?;
        Ok(place)
    }
}

/// Makes the source of a bind that is relative to the bundle absolute.
fn find_source(mount: &mut Mount, folder: &Path) {
    let is_bind = |option: &String| option == "bind" || option == "rbind";
    let binds =
        mount.typ().as_deref() == Some("bind") || mount.options().iter().flatten().any(is_bind);
    if let Some(source) = mount.source_mut().as_mut().filter(|source| binds && source.is_relative())
    {
        *source = folder.join(&source);
    }
}

/// Reads a configuration, as a bundle or a container's state has it; also its bytes.
pub(crate) fn read_configuration(path: &Path) -> Result<(Configuration, Vec<u8>)> {
    let failed = |error: std::io::Error| {
        Error::caused(Kind::NotFound, format!("cannot read {}", path.display()), error)
            .with_hint("name the bundle's folder with --bundle")
    };
    // Room for most of them at once.
    let mut text = Vec::with_capacity(16 << 10);
    // One byte more than is taken, so that it is refused for its size.
    fs::File::open(path)
        .map_err(failed)?
        .take(LARGEST + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    Ok((Configuration::parse(&text)?, text))
}

/// No limit on processes reads as a limit of 0. One that is written down is meant (runtime-spec 1.3), and is as
/// good as one process: the first is there before it is limited.
fn mean_zero(spec: &mut Spec, text: &[u8]) {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    if resources.and_then(|it| it.pids().as_ref()).is_none_or(|pids| pids.limit() != 0) {
        return;
    }
    let value: Value = serde_json::from_slice(text).unwrap_or_default();
    if value.pointer("/linux/resources/pids/limit").is_none_or(Value::is_null) {
        return;
    }
    let pids = spec
        .linux_mut()
        .as_mut()
        .and_then(|linux| linux.resources_mut().as_mut())
        .and_then(|resources| resources.pids_mut().as_mut());
    if let Some(pids) = pids {
        pids.set_limit(1);
    }
}
