//! `save`, and who reads what it writes; `history`, `image prune`, `system df`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use dhow_tests::{Daemon, Registry, daemon, images};

/// A stock program, which must succeed.
fn stock(program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = daemon::command(Path::new(program));
    daemon::finish(command.args(arguments))?.ok().with_context(|| program.to_owned())
}

/// The names of an archive's files.
fn names(archive: &Path) -> Result<Vec<String>> {
    let mut tar = tar::Archive::new(std::fs::File::open(archive)?);
    let names = tar.entries()?.map(|entry| Ok(entry?.path()?.display().to_string()));
    names.collect()
}

#[test]
fn what_is_saved_is_loaded_with_the_same_digests() -> Result<()> {
    let daemon = Daemon::start()?;
    let registry = Registry::start(daemon.folder())?;
    registry.push(daemon.folder(), "some/image:v1")?;
    let pulled = format!("{}/some/image:v1", registry.address);
    daemon.ok(&["pull", "-q", &pulled])?;
    images::busybox(&daemon)?;
    daemon.ok(&["tag", "busybox", "busybox:other"])?;
    for format in ["docker", "oci"] {
        let archive = daemon.folder().join(format!("{format}.tar"));
        let path = archive.to_str().context("not text")?;
        // A name without a tag means all of its tags.
        daemon.ok(&["save", "--format", format, "-o", path, &pulled, "busybox"])?;
        assert_eq!(names(&archive)?.contains(&"manifest.json".to_owned()), format == "docker");
        let other = Daemon::start()?;
        let said = other.ok(&["load", "-i", path])?;
        for name in ["busybox:latest", "busybox:other", &pulled] {
            ensure!(said.contains(&format!("Loaded image: {name}")), "{said}");
        }
        for name in ["busybox", &pulled] {
            let id = |daemon: &Daemon| daemon.ok(&["inspect", "-f", "{{.Id}}", name]);
            assert_eq!(id(&daemon)?, id(&other)?);
        }
        assert_eq!(other.ok(&["run", "--rm", &pulled])?, "from the registry");
        // The manifest is the same one, so is what a push of it gives.
        let copy = format!("{}/copy/{format}:1", registry.address);
        other.ok(&["tag", &pulled, &copy])?;
        other.ok(&["push", "-q", &copy])?;
        let digest = |name: &str| {
            let format = ["--tls-verify=false", "--format", "{{.Digest}}"];
            let address = format!("docker://{name}");
            stock("skopeo", &[&["inspect"][..], &format, &[&address]].concat())
        };
        assert_eq!(digest(&pulled)?, digest(&copy)?);
        // And saved again, it is the same archive.
        let again = daemon.folder().join("again.tar");
        let again_path = again.to_str().context("not text")?;
        other.ok(&["save", "--format", format, "-o", again_path, &pulled, "busybox"])?;
        assert!(std::fs::read(&archive)? == std::fs::read(&again)?, "{format}");
        other.leave_nothing()?;
    }
    daemon.leave_nothing()
}

#[test]
fn skopeo_and_podman_read_what_is_saved() -> Result<()> {
    let daemon = Daemon::start()?;
    let registry = Registry::start(daemon.folder())?;
    registry.push(daemon.folder(), "image:v1")?;
    let pulled = format!("{}/image:v1", registry.address);
    daemon.ok(&["pull", "-q", &pulled])?;
    images::busybox(&daemon)?;
    let folder = daemon.folder().to_str().context("not text")?;
    for (name, number) in [("busybox", 1), (pulled.as_str(), 2)] {
        let id = daemon.ok(&["inspect", "-f", "{{.Id}}", name])?;
        for (format, transport) in [("docker", "docker-archive"), ("oci", "oci-archive")] {
            let path = format!("{folder}/{number}-{format}.tar");
            daemon.ok(&["image", "save", "--format", format, "-o", &path, name])?;
            let to = format!("dir:{folder}/{number}-{format}");
            let from = format!("{transport}:{path}");
            stock("skopeo", &["--insecure-policy", "copy", "--quiet", &from, &to])?;
            let manifest = std::fs::read(format!("{folder}/{number}-{format}/manifest.json"))?;
            let manifest: serde_json::Value = serde_json::from_slice(&manifest)?;
            assert_eq!(manifest["config"]["digest"], id.as_str(), "{format}");
        }
    }
    let (root, run) = (format!("{folder}/podman"), format!("{folder}/podman-run"));
    let podman = ["--root", &root, "--runroot", &run, "--storage-driver", "vfs"];
    let path = format!("{folder}/1-docker.tar");
    let said = stock("podman", &[&podman[..], &["load", "-q", "-i", &path]].concat())?;
    ensure!(said.contains("busybox:latest"), "{said}");
    daemon.leave_nothing()
}

#[test]
fn archives_go_to_pipes_and_docker_saves_too() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let path = daemon.folder().join("piped.tar");
    let mut command = daemon.command(&["save", "busybox"]);
    let status = command.stdout(std::fs::File::create(&path)?).status()?;
    ensure!(status.success(), "{status}");
    let by_docker = daemon.folder().join("docker.tar");
    let target = by_docker.to_str().context("not text")?;
    daemon.docker(&["save", "-o", target, "busybox"])?.ok()?;
    assert!(std::fs::read(&path)? == std::fs::read(&by_docker)?);
    daemon.docker(&["load", "-i", target])?.ok()?;
    let unknown = daemon.dhow(&["save", "-o", target, "no-such"])?;
    ensure!(unknown.code == 1 && unknown.stderr.contains("No such image"), "{}", unknown.stderr);
    ensure!(by_docker.exists(), "what was there is still there");
    let left = std::fs::read_dir(daemon.folder())?.filter_map(Result::ok);
    let parts = left.filter(|it| it.file_name().to_string_lossy().ends_with(".part")).count();
    assert_eq!(parts, 0);
    daemon.leave_nothing()
}

#[test]
fn histories_and_the_disk_are_told() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let history = daemon.ok(&["history", "busybox"])?;
    ensure!(history.starts_with("IMAGE  ") && history.contains("Imported from -"), "{history}");
    let id = daemon.ok(&["images", "-q", "busybox"])?;
    assert_eq!(daemon.ok(&["history", "-q", "busybox"])?, id);
    let whole = daemon.ok(&["history", "-q", "--no-trunc", "busybox"])?;
    ensure!(whole.starts_with(&format!("sha256:{id}")), "{whole}");
    assert_eq!(daemon.docker(&["history", "-q", "busybox"])?.ok()?, id);

    let df = || daemon.ok(&["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"]);
    assert_eq!(df()?, "Images 1 0\nContainers 0 0\nLocal Volumes 0 0\nBuild Cache 0 0");
    daemon.ok(&["create", "--name", "user", "busybox", "true"])?;
    ensure!(df()?.starts_with("Images 1 1\nContainers 1 0\n"), "{}", df()?);
    ensure!(daemon.ok(&["system", "df", "-v"])?.contains("SHARED SIZE"));
    daemon.docker(&["system", "df"])?.ok()?;

    // What a container uses stays, named or not.
    let pruned = daemon.ok(&["image", "prune", "-a", "-f"])?;
    assert_eq!(pruned, "Total reclaimed space: 0B");
    daemon.ok(&["rm", "user"])?;
    let pruned = daemon.ok(&["image", "prune", "-f"])?;
    assert_eq!(pruned, "Total reclaimed space: 0B");
    let asked = daemon.dhow_fed(&["image", "prune", "-a"], b"n\n")?.ok()?;
    ensure!(asked.contains("[y/N]") && daemon.ok(&["images", "-q"])? == id, "{asked}");
    let pruned = daemon.ok(&["image", "prune", "-a", "-f"])?;
    ensure!(pruned.starts_with("Deleted Images:\nuntagged: busybox:latest\n"), "{pruned}");
    ensure!(!pruned.ends_with(" 0B"), "{pruned}");
    assert_eq!(daemon.ok(&["images", "-q"])?, "");
    daemon.leave_nothing()
}
