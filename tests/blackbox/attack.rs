//! Attacks on a container engine that are known from others, tried on this one. Named after the CVE where
//! there is one.

mod input;
mod paths;
mod processes;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use dhow_tests::{Daemon, images};

/// The root filesystem of busybox with `path` as something else: what `put` appends.
fn busybox_but(
    path: &str,
    put: impl FnOnce(&mut tar::Builder<Vec<u8>>) -> Result<()>,
) -> Result<Vec<u8>> {
    let base = images::busybox_tar()?;
    let mut tar = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(&base[..]).entries()? {
        let entry = entry?;
        let name = entry.path()?.into_owned();
        if name.starts_with(path) {
            continue;
        }
        let mut header = entry.header().clone();
        match entry.link_name()? {
            Some(target) => tar.append_link(&mut header, name, target)?,
            None => tar.append_data(&mut header, name, entry)?,
        }
    }
    put(&mut tar)?;
    Ok(tar.into_inner()?)
}

/// Imports busybox with a symlink at `path` as the image `name`.
fn import_with_link(daemon: &Daemon, name: &str, path: &str, target: &str) -> Result<()> {
    let image = busybox_but(path, |tar| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        Ok(tar.append_link(&mut header, path, target)?)
    })?;
    daemon.dhow_fed(&["import", "-", name], &image)?.ok().map(drop)
}

/// Imports busybox with this file as the image `name`.
fn import_with_file(daemon: &Daemon, name: &str, path: &str, content: &str) -> Result<()> {
    let image = busybox_but(path, |tar| {
        images::entry(tar, tar::EntryType::Regular, path, 0o644, content.as_bytes())
    })?;
    daemon.dhow_fed(&["import", "-", name], &image)?.ok().map(drop)
}

/// Imports busybox with a configuration change as the image `name`.
fn import_changed(daemon: &Daemon, name: &str, change: &str) -> Result<()> {
    let tar = images::busybox_tar()?;
    daemon.dhow_fed(&["import", "-c", change, "-", name], &tar)?.ok().map(drop)
}

/// Everything below `folder`, itself included.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![folder.to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        if fs::symlink_metadata(&path)?.is_dir() {
            for entry in fs::read_dir(&path)? {
                found.push(entry?.path());
            }
        }
    }
    Ok(found)
}
