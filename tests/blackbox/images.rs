//! Images that come in as archives.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use dhow_tests::{Daemon, daemon, images};
use serde_json::json;
use sha2::Digest;

/// How the layer of an image is compressed.
#[derive(Clone, Copy)]
enum Packed {
    Plain,
    Gzip,
    Zstd,
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{:x}", sha2::Sha256::digest(bytes))
}

fn pack(tar: &[u8], packed: Packed) -> Result<(Vec<u8>, &'static str)> {
    Ok(match packed {
        Packed::Plain => (tar.to_vec(), "application/vnd.oci.image.layer.v1.tar"),
        Packed::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(tar)?;
            (gzip.finish()?, "application/vnd.oci.image.layer.v1.tar+gzip")
        }
        Packed::Zstd => (zstd::encode_all(tar, 3)?, "application/vnd.oci.image.layer.v1.tar+zstd"),
    })
}

/// An OCI layout with one image of busybox and a second layer, as a tar. `spoil` changes the blobs by
/// name before they are written.
fn oci_layout(packed: Packed, spoil: impl Fn(&str, &mut Vec<u8>)) -> Result<Vec<u8>> {
    let base = images::busybox_tar()?;
    let upper = images::tar_of_file("marker", b"second layer\n")?;
    let (base_blob, kind) = pack(&base, packed)?;
    let (upper_blob, _) = pack(&upper, packed)?;
    let config = serde_json::to_vec(&json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Cmd": ["cat", "/marker"], "Env": ["PATH=/bin", "FROM=config"]},
        "rootfs": {"type": "layers", "diff_ids": [sha256(&base), sha256(&upper)]},
        "history": [{"created_by": "base"}, {"created_by": "upper"}],
    }))?;
    let described = |bytes: &[u8], kind: &str| json!({"mediaType": kind, "digest": sha256(bytes), "size": bytes.len()});
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described(&config, "application/vnd.oci.image.config.v1+json"),
        "layers": [described(&base_blob, kind), described(&upper_blob, kind)],
    }))?;
    let mut entry = described(&manifest, "application/vnd.oci.image.manifest.v1+json");
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "example.test/layered:v1"});
    let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [entry]}))?;
    let mut tar = tar::Builder::new(Vec::new());
    let file = tar::EntryType::Regular;
    images::entry(&mut tar, file, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    images::entry(&mut tar, file, "index.json", 0o644, &index)?;
    let blobs =
        [("manifest", manifest), ("config", config), ("base", base_blob), ("upper", upper_blob)];
    for (name, mut blob) in blobs {
        let path = format!("blobs/sha256/{}", sha256(&blob).trim_start_matches("sha256:"));
        spoil(name, &mut blob);
        images::entry(&mut tar, file, &path, 0o644, &blob)?;
    }
    Ok(tar.into_inner()?)
}

#[test]
fn layouts_of_all_compressions_load_and_run() -> Result<()> {
    for packed in [Packed::Plain, Packed::Gzip, Packed::Zstd] {
        let daemon = Daemon::start()?;
        let archive = images::file(daemon.folder(), "layout.tar", &oci_layout(packed, |_, _| {})?)?;
        let said = daemon.ok(&["load", "-i", &archive])?;
        assert!(said.contains("Loaded image: example.test/layered:v1"), "{said}");
        let run = daemon.ok(&["run", "--rm", "example.test/layered:v1"])?;
        assert_eq!(run, "second layer");
        let env =
            daemon.ok(&["run", "--rm", "example.test/layered:v1", "sh", "-c", "echo $FROM"])?;
        assert_eq!(env, "config");
        daemon.leave_nothing()?;
    }
    Ok(())
}

#[test]
fn archives_of_docker_save_load() -> Result<()> {
    let daemon = Daemon::start()?;
    let layout =
        images::file(daemon.folder(), "layout.tar", &oci_layout(Packed::Gzip, |_, _| {})?)?;
    let archive = daemon.folder().join("docker.tar");
    let target = format!("docker-archive:{}:example.test/saved:v2", archive.display());
    let mut skopeo = daemon::command(Path::new("skopeo"));
    let skopeo = skopeo.args([
        "--insecure-policy",
        "copy",
        "--quiet",
        &format!("oci-archive:{layout}"),
        &target,
    ]);
    daemon::finish(skopeo)?.ok()?;
    let bytes = std::fs::read(&archive)?;
    let said = daemon.dhow_fed(&["load"], &bytes)?.ok()?;
    assert!(said.contains("Loaded image: example.test/saved:v2"), "{said}");
    assert_eq!(daemon.ok(&["run", "--rm", "example.test/saved:v2"])?, "second layer");
    daemon.leave_nothing()
}

#[test]
fn corrupt_layers_are_refused_and_leave_nothing() -> Result<()> {
    let daemon = Daemon::start()?;
    let count = || -> Result<usize> {
        let mut folders =
            vec![daemon.folder().join("root/content"), daemon.folder().join("root/snapshots")];
        let mut files = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() { folders.push(entry.path()) } else { files += 1 }
            }
        }
        Ok(files)
    };
    let before = count()?;
    for spoilt in ["base", "upper", "config"] {
        let spoil = |name: &str, blob: &mut Vec<u8>| {
            let middle = blob.len() / 2;
            if let Some(byte) = blob.get_mut(middle).filter(|_| name == spoilt) {
                *byte ^= 1;
            }
        };
        let archive = oci_layout(Packed::Plain, spoil)?;
        let output = daemon.dhow_fed(&["load"], &archive)?;
        assert_eq!(output.code, 1, "{spoilt}: {output:?}");
        let digests = output.stderr.matches("sha256:").count();
        assert!(digests >= 2, "expected and got: {}", output.stderr);
        assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
        assert_eq!(daemon.ok(&["images", "-q"])?, "");
        assert_eq!(count()?, before, "{spoilt}");
    }
    daemon.leave_nothing()
}

#[test]
fn hostile_tars_stay_inside() -> Result<()> {
    let daemon = Daemon::start()?;
    let victim = daemon.folder().join("victim");
    std::fs::write(&victim, "mine")?;
    let path = victim.to_str().context("not text")?;
    let link = |name: &str, kind: tar::EntryType, target: &str| -> Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o777);
        tar.append_link(&mut header, name, target)?;
        images::entry(&mut tar, tar::EntryType::Regular, "escape/owned", 0o644, b"owned")?;
        Ok(tar.into_inner()?)
    };
    let folder = daemon.folder().display().to_string();
    let mut tars = vec![
        link("escape", tar::EntryType::Symlink, &folder)?,
        link("escape", tar::EntryType::Symlink, "../../../../../../../../../tmp")?,
        link("hard", tar::EntryType::Link, path)?,
        link("hard", tar::EntryType::Link, &format!("../../../../../../../../..{path}"))?,
    ];
    // The tar crate refuses to write `..`, so the name is put into the raw header.
    let mut raw = images::tar_of_file("xx/xx/xx/xx/xx/xx/owned", b"owned")?;
    for (index, byte) in b"../../../../../../owned".iter().enumerate() {
        if let Some(place) = raw.get_mut(index) {
            *place = *byte;
        }
    }
    fix_checksum(&mut raw);
    tars.push(raw);
    for (number, tar) in tars.iter().enumerate() {
        let output = daemon.dhow_fed(&["import", "-", &format!("hostile{number}")], tar)?;
        assert!(!output.stderr.contains("panicked"), "{number}: {}", output.stderr);
        assert_eq!(std::fs::read_to_string(&victim)?, "mine", "{number}");
        assert!(!daemon.folder().join("owned").exists(), "{number}");
        assert!(!Path::new("/tmp/owned").exists() && !Path::new("/owned").exists(), "{number}");
    }
    daemon.leave_nothing()
}

/// Recomputes the checksum of a tar's first header.
fn fix_checksum(tar: &mut [u8]) {
    let sum: u32 = tar
        .iter()
        .take(512)
        .enumerate()
        .map(|(index, byte)| if (148..156).contains(&index) { 32 } else { u32::from(*byte) })
        .sum();
    let text = format!("{sum:06o}\0 ");
    for (place, byte) in tar.iter_mut().skip(148).zip(text.bytes()) {
        *place = byte;
    }
}

#[test]
fn images_are_listed_named_and_removed() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    daemon.ok(&["tag", "busybox", "second:v1"])?;
    let list = daemon.ok(&["images"])?;
    let heading = list.lines().next().unwrap_or_default();
    let words: Vec<_> = heading.split("   ").map(str::trim).filter(|it| !it.is_empty()).collect();
    assert_eq!(words, ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    assert_eq!(list.lines().count(), 3);
    assert_eq!(daemon.ok(&["images", "-q", "second"])?.lines().count(), 1);
    let id = daemon.ok(&["inspect", "-f", "{{.Id}}", "busybox"])?;
    let untagged = daemon.ok(&["rmi", "second:v1"])?;
    assert_eq!(untagged, "Untagged: second:v1");
    daemon.ok(&["create", "--name", "user", "busybox", "true"])?;
    let used = daemon.dhow(&["rmi", "busybox"])?;
    assert_eq!(used.code, 1);
    assert!(used.stderr.contains("container"), "{}", used.stderr);
    daemon.ok(&["rm", "user"])?;
    let gone = daemon.ok(&["rmi", "busybox"])?;
    assert!(
        gone.contains("Untagged: busybox:latest") && gone.contains(&format!("Deleted: {id}")),
        "{gone}"
    );
    assert_eq!(daemon.ok(&["images", "-aq"])?, "");
    let layers = std::fs::read_dir(daemon.folder().join("root/snapshots/layers"))?.count();
    assert_eq!(layers, 0, "the layer is gone, too");
    let unknown = daemon.dhow(&["rmi", "busybox"])?;
    assert_eq!(unknown.code, 1);
    assert!(unknown.stderr.contains("busybox"), "{}", unknown.stderr);
    daemon.leave_nothing()
}

#[test]
fn imports_take_changes() -> Result<()> {
    let daemon = Daemon::start()?;
    let tar = images::busybox_tar()?;
    daemon
        .dhow_fed(
            &["import", "-c", "CMD [\"echo\", \"by default\"]", "-c", "ENV A=b", "-", "changed:1"],
            &tar,
        )?
        .ok()?;
    assert_eq!(daemon.ok(&["run", "--rm", "changed:1"])?, "by default");
    assert_eq!(daemon.ok(&["run", "--rm", "changed:1", "sh", "-c", "echo $A"])?, "b");
    daemon.leave_nothing()
}
