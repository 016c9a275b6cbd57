//! `pull`, against Debian's docker-registry on the loopback.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use dhow_tests::{Daemon, daemon, images};

/// A registry of one's own, gone when dropped.
struct Registry {
    process: Child,
    address: String,
}

impl Registry {
    fn start(folder: &Path) -> Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let storage = folder.join("registry");
        let config = format!(
            "version: 0.1\nlog: {{level: info, formatter: json}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n",
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
    fn push(&self, folder: &Path, name: &str) -> Result<()> {
        let rootfs = images::file(folder, "rootfs.tar", &images::busybox_tar()?)?;
        let maker = Daemon::start()?;
        maker.ok(&["import", "-c", "CMD [\"echo\", \"from the registry\"]", &rootfs, "made"])?;
        let layers = layout_of(&std::fs::read(&rootfs)?)?;
        let layout = images::file(folder, "layout.tar", &layers)?;
        let target = format!("docker://{}/{name}", self.address);
        let mut skopeo = daemon::command(Path::new("skopeo"));
        let copy = skopeo.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]);
        daemon::finish(copy.args([&format!("oci-archive:{layout}"), &target]))?.ok()?;
        maker.leave_nothing()
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

#[test]
fn images_are_pulled_by_tag_and_digest() -> Result<()> {
    let daemon = Daemon::start()?;
    let registry = Registry::start(daemon.folder())?;
    registry.push(daemon.folder(), "some/image:v1")?;
    let name = format!("{}/some/image:v1", registry.address);
    let said = daemon.ok(&["pull", &name])?;
    assert!(
        said.contains("Digest: sha256:") && said.contains("Status: Downloaded newer image"),
        "{said}"
    );
    assert!(said.ends_with(&name), "{said}");
    assert!(!said.contains('\u{1b}'), "plain lines in a pipe");
    assert_eq!(daemon.ok(&["run", "--rm", &name])?, "from the registry");
    let again = daemon.ok(&["pull", &name])?;
    assert!(again.contains("Image is up to date"), "{again}");
    let digest =
        said.lines().find_map(|line| line.strip_prefix("Digest: ")).context("no digest")?;
    daemon.ok(&["rmi", &name])?;
    let by_digest = format!("{}/some/image@{digest}", registry.address);
    daemon.ok(&["pull", "-q", &by_digest])?;
    assert_eq!(daemon.ok(&["run", "--rm", &by_digest])?, "from the registry");
    daemon.leave_nothing()
}

#[test]
fn run_pulls_what_is_missing() -> Result<()> {
    let daemon = Daemon::start()?;
    let registry = Registry::start(daemon.folder())?;
    registry.push(daemon.folder(), "image:latest")?;
    let name = format!("{}/image", registry.address);
    let never = daemon.dhow(&["run", "--rm", "--pull", "never", &name])?;
    assert_eq!(never.code, 125, "{}", never.stderr);
    let output = daemon.dhow(&["run", "--rm", &name])?;
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (0, "from the registry\n"),
        "{}",
        output.stderr
    );
    assert!(output.stderr.contains("Unable to find image"), "{}", output.stderr);
    daemon.leave_nothing()
}

#[test]
fn unknown_images_name_the_registry() -> Result<()> {
    let daemon = Daemon::start()?;
    let registry = Registry::start(daemon.folder())?;
    let name = format!("{}/no/such:v9", registry.address);
    let output = daemon.dhow(&["pull", &name])?;
    assert_eq!(output.code, 1);
    assert!(
        output.stderr.contains(&registry.address) && output.stderr.contains("no/such"),
        "{}",
        output.stderr
    );
    let output = daemon.dhow(&["run", "--rm", &name])?;
    assert_eq!(output.code, 125, "{}", output.stderr);
    let nobody = daemon.dhow(&["pull", "127.0.0.1:1/x"])?;
    assert!(nobody.stderr.contains("127.0.0.1:1"), "{}", nobody.stderr);
    assert_eq!(nobody.stderr.lines().filter(|line| line.starts_with("dhow: ")).count(), 1);
    daemon.leave_nothing()
}

#[test]
fn corrupt_layers_from_a_registry_are_refused() -> Result<()> {
    let daemon = Daemon::start()?;
    let registry = Registry::start(daemon.folder())?;
    registry.push(daemon.folder(), "image:v1")?;
    // The largest blob in the registry's storage is the layer.
    let mut folders = vec![daemon.folder().join("registry")];
    let mut largest = (0, Path::new("/").to_owned());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let length = entry.metadata()?.len();
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if length > largest.0 {
                largest = (length, entry.path());
            }
        }
    }
    let mut bytes = std::fs::read(&largest.1)?;
    let middle = bytes.len() / 2;
    *bytes.get_mut(middle).context("an empty layer")? ^= 1;
    std::fs::write(&largest.1, bytes)?;
    let output = daemon.dhow(&["pull", &format!("{}/image:v1", registry.address)])?;
    assert_eq!(output.code, 1);
    assert!(output.stderr.matches("sha256:").count() >= 2, "{}", output.stderr);
    assert_eq!(daemon.ok(&["images", "-aq"])?, "");
    daemon.leave_nothing()
}
