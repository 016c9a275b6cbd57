//! The Debian packages and cargo tools that the tests need.

use std::path::Path;

use anyhow::{Result, bail};

use crate::run::{cargo, command, must};

/// A program and the Debian package that brings it.
type Need = (&'static str, &'static str);

/// What the tests need.
pub(crate) const FOR_TESTS: &[Need] = &[
    ("busybox", "busybox-static"),
    ("skopeo", "skopeo"),
    ("docker-registry", "docker-registry"),
    ("dockerd", "docker.io"),
    ("containerd", "containerd"),
    ("podman", "podman"),
    ("nft", "nftables"),
    ("curl", "curl"),
];

/// What the demo needs.
pub(crate) const FOR_DEMO: &[Need] = &[("busybox", "busybox-static")];

/// What the guest needs.
pub(crate) const FOR_GUEST: &[Need] = &[
    ("busybox", "busybox-static"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("strip", "binutils"),
];

/// Installs what is missing, and says so; without root or apt, names it and stops.
pub(crate) fn install(needs: &[Need]) -> Result<()> {
    let missing: Vec<&str> =
        needs.iter().filter(|(program, _)| !is_installed(program)).map(|need| need.1).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let is_root = dhow_tests::is_root();
    if !is_root || !is_installed("apt-get") {
        bail!("these Debian packages are missing: {}", missing.join(" "));
    }
    eprintln!("installing the Debian packages {}", missing.join(" "));
    must(command("apt-get").args(["update", "--quiet=2"]))?;
    must(
        command("apt-get")
            .args(["install", "--yes", "--quiet=2", "--no-install-recommends"])
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// Installs cargo-nextest if it is missing.
pub(crate) fn install_nextest() -> Result<()> {
    if is_installed("cargo-nextest") {
        return Ok(());
    }
    // Its own target: the workspace's flags and folder are not meant for it.
    must(cargo(&["install", "--locked", "cargo-nextest"]).current_dir("/"))
}

/// Whether a program is on the path or in the folders of the system.
fn is_installed(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(str::to_owned);
    let folders = path.split(':').map(str::to_owned).chain(system);
    folders.into_iter().any(|folder| Path::new(&folder).join(program).exists())
}
