//! A registry of one's own: Debian's docker-registry on the loopback.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context, Result};

use crate::{daemon, images};

/// A registry of one's own, gone when dropped.
#[derive(Debug)]
pub struct Registry {
    process: Child,
    /// Its host and port.
    pub address: String,
}

impl Registry {
    /// Starts a registry that keeps its blobs in `folder`.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(folder: &Path) -> Result<Self> {
        Self::start_with(folder, "")
    }

    /// Starts a registry that lets only `user` with the password `secret` in.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_locked(folder: &Path) -> Result<Self> {
        // htpasswd -nbB -C 4 user secret
        let line = b"user:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";
        let path = images::file(folder, "htpasswd", line)?;
        Self::start_with(folder, &format!("auth: {{htpasswd: {{realm: test, path: {path}}}}}\n"))
    }

    fn start_with(folder: &Path, more: &str) -> Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let storage = folder.join("registry");
        let config = format!(
            "version: 0.1\nlog: {{level: info, formatter: json}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n{more}",
            storage.display()
        );
        let path = images::file(folder, "registry.yml", config.as_bytes())?;
        let mut command = daemon::command(Path::new("docker-registry"));
        let mut process = command
            .args(["serve", &path])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("install docker-registry")?;
        let mut log = BufReader::new(process.stderr.take().context("no log")?);
        let registry = Self { process, address };
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            anyhow::ensure!(log.read_line(&mut line)? > 0, "the registry ended");
        }
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Ok(registry)
    }

    /// Pushes busybox by skopeo.
    ///
    /// # Errors
    /// If skopeo is not installed or fails.
    pub fn push(&self, folder: &Path, name: &str) -> Result<()> {
        let rootfs = images::file(folder, "rootfs.tar", &images::busybox_tar()?)?;
        let layers = layout_of(&std::fs::read(&rootfs)?)?;
        let layout = images::file(folder, "layout.tar", &layers)?;
        let target = format!("docker://{}/{name}", self.address);
        let mut skopeo = daemon::command(Path::new("skopeo"));
        let copy = skopeo.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]);
        daemon::finish(copy.args([&format!("oci-archive:{layout}"), &target]))?.ok()?;
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An OCI layout of one gzip layer.
fn layout_of(tar: &[u8]) -> Result<Vec<u8>> {
    use serde_json::json;
    use sha2::Digest;
    use std::io::Write;
    let sha256 = |bytes: &[u8]| format!("sha256:{:x}", sha2::Sha256::digest(bytes));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(tar)?;
    let layer = gzip.finish()?;
    let config = serde_json::to_vec(&json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["echo", "from the registry"]},
        "rootfs": {"type": "layers", "diff_ids": [sha256(tar)]}, "history": [],
    }))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(&config), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": sha256(&layer), "size": layer.len()}],
    }))?;
    let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": sha256(&manifest), "size": manifest.len()},
    ]}))?;
    let mut out = tar::Builder::new(Vec::new());
    let file = tar::EntryType::Regular;
    images::entry(&mut out, file, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    images::entry(&mut out, file, "index.json", 0o644, &index)?;
    for blob in [manifest, config, layer] {
        let path = format!("blobs/sha256/{}", sha256(&blob).trim_start_matches("sha256:"));
        images::entry(&mut out, file, &path, 0o644, &blob)?;
    }
    Ok(out.into_inner()?)
}
