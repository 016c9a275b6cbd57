//! Images made on the spot, from Debian's static busybox.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::Daemon;

/// Debian's package busybox-static installs it here.
pub const BUSYBOX: &str = "/bin/busybox";

/// The commands of busybox that tests use, as links in the image's /bin.
const COMMANDS: &[&str] = &[
    "sh", "true", "false", "echo", "cat", "sleep", "ls", "id", "env", "pwd", "hostname", "wget",
    "nc", "mount", "ps", "kill", "head", "tail", "seq", "stty", "tty", "dd", "mkdir", "touch",
    "rm", "ip", "ifconfig", "ping", "grep", "stat", "chmod", "chown", "test", "mknod", "ulimit",
    "httpd", "wc", "tr", "cut", "yes", "nproc", "readlink", "find", "date", "printf", "df", "sync",
    "umount",
];

/// A root filesystem of busybox as a tar.
///
/// # Errors
/// If busybox is not installed.
pub fn busybox_tar() -> Result<Vec<u8>> {
    let busybox = std::fs::read(BUSYBOX).context("install busybox-static")?;
    let mut tar = tar::Builder::new(Vec::new());
    for folder in ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "var", "home"] {
        let mode = if folder == "tmp" { 0o1777 } else { 0o755 };
        entry(&mut tar, tar::EntryType::Directory, &format!("{folder}/"), mode, b"")?;
    }
    entry(&mut tar, tar::EntryType::Regular, "bin/busybox", 0o755, &busybox)?;
    let accounts = b"root:x:0:0:root:/root:/bin/sh\nplain:x:1000:1000::/home/plain:/bin/sh\n";
    entry(&mut tar, tar::EntryType::Regular, "etc/passwd", 0o644, accounts)?;
    let groups = b"root:x:0:\nplain:x:1000:\nextra:x:2000:plain\n";
    entry(&mut tar, tar::EntryType::Regular, "etc/group", 0o644, groups)?;
    for command in COMMANDS {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        tar.append_link(&mut header, format!("bin/{command}"), "busybox")?;
    }
    Ok(tar.into_inner()?)
}

/// A tar that holds one executable.
///
/// # Errors
/// If the tar cannot be written.
pub fn tar_of_file(name: &str, content: &[u8]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    entry(&mut tar, tar::EntryType::Regular, name, 0o755, content)?;
    Ok(tar.into_inner()?)
}

/// An image of busybox as `docker save` writes it, under this name.
///
/// # Errors
/// If busybox is not installed.
pub fn busybox_archive(name: &str) -> Result<Vec<u8>> {
    let layer = busybox_tar()?;
    let digest = |bytes: &[u8]| format!("{:x}", Sha256::digest(bytes));
    let configuration = serde_json::to_vec(&json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))]},
    }))?;
    let file = format!("{}.json", digest(&configuration));
    let manifest = json!([{"Config": file, "RepoTags": [name], "Layers": ["layer.tar"]}]);
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in [
        ("layer.tar", &layer),
        (&*file, &configuration),
        ("manifest.json", &serde_json::to_vec(&manifest)?),
    ] {
        entry(&mut tar, tar::EntryType::Regular, name, 0o644, content)?;
    }
    Ok(tar.into_inner()?)
}

/// Lays busybox's root filesystem out in `folder`.
///
/// # Errors
/// If busybox is not installed or the folder cannot be written.
pub fn unpack_busybox(folder: &Path) -> Result<()> {
    tar::Archive::new(&busybox_tar()?[..]).unpack(folder)?;
    Ok(())
}

/// Appends one entry that belongs to root.
///
/// # Errors
/// If the tar cannot be written.
pub fn entry(
    tar: &mut tar::Builder<impl Write>,
    kind: tar::EntryType,
    path: &str,
    mode: u32,
    content: &[u8],
) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_600_000_000);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content)?;
    Ok(())
}

/// Imports busybox into `daemon` as the image `busybox`.
///
/// # Errors
/// If the import fails.
pub fn busybox(daemon: &Daemon) -> Result<()> {
    daemon.dhow_fed(&["import", "-", "busybox"], &busybox_tar()?)?.ok()?;
    Ok(())
}

/// Writes `bytes` into a file of `folder` and says its path.
///
/// # Errors
/// If the file cannot be written.
pub fn file(folder: &Path, name: &str, bytes: &[u8]) -> Result<String> {
    let path = folder.join(name);
    std::fs::write(&path, bytes)?;
    Ok(path.to_string_lossy().into_owned())
}
