//! `cargo xtask guest`: dhow on Debian's own kernel with pure cgroup v2, in a QEMU guest.
//!
//! ```text
//!   tree (busybox, dhow, tests, modules) ──► initramfs ──► qemu, software emulation ──► serial console ──► us
//! ```
//!
//! The machine that runs the tests may have another kernel and another cgroup layout than the ones that
//! people start with. The guest has what a fresh Debian 12 has. Its script says `ok` or `not ok` for each
//! check, among them the black-box tests of `dhow oci`; its lines are the test's outcome.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use dhow_tests::images;

use crate::packages;
use crate::run::{Profile, build, build_test, command, must, target_folder};

/// What the guest's first process does: makes a root that can be pivoted from, and runs the script.
const INIT: &str = include_str!("guest/init.sh");

/// What is checked in the guest.
const SCRIPT: &str = include_str!("guest/script.sh");

/// The kernel's modules that containers need.
const MODULES: &[&str] = &[
    "kernel/drivers/net/veth.ko",
    "kernel/fs/overlayfs",
    "kernel/lib",
    "kernel/net/802",
    "kernel/net/bridge",
    "kernel/net/ipv4",
    "kernel/net/ipv6",
    "kernel/net/llc",
    "kernel/net/netfilter",
];

/// A guest that has not ended by then hangs.
const PATIENCE_SECONDS: &str = "1500";

/// Boots the guest and checks what it says.
pub(crate) fn run(profile: Profile) -> Result<()> {
    packages::install(packages::FOR_GUEST)?;
    let dhow = build("dhow", profile)?;
    let folder = target_folder()?.join("guest");
    fs::create_dir_all(&folder)?;
    let kernel = kernel(&folder)?;
    let suite = build_test("dhow-tests", "blackbox")?;
    let initramfs = initramfs(&folder, &dhow, &suite, &kernel)?;
    eprintln!("booting {} with cgroup v2", kernel.release);
    let output = command("timeout")
        .args([PATIENCE_SECONDS, "qemu-system-x86_64", "-M", "q35,accel=tcg", "-cpu", "max"])
        .args(["-smp", "2", "-m", "2048", "-nographic", "-no-reboot", "-kernel"])
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&initramfs)
        .args(["-append", "console=ttyS0 quiet panic=-1"])
        .stdin(Stdio::null())
        .output()?;
    judge(&String::from_utf8_lossy(&output.stdout))
}

/// Reads the console: every check must be `ok`, and the script must have come to its end.
fn judge(console: &str) -> Result<()> {
    let said =
        |mark: &str| console.lines().map(str::trim).filter(|line| line.starts_with(mark)).count();
    let (fine, failed) = (said("ok "), said("not ok "));
    let ended = console.lines().any(|line| line.trim() == "guest: done");
    ensure!(ended && failed == 0 && fine > 0, "the guest failed:\n{console}");
    eprintln!("the guest: {fine} checks are fine");
    Ok(())
}

/// Debian's kernel for virtual machines, unpacked but not installed.
struct Kernel {
    image: PathBuf,
    modules: PathBuf,
    release: String,
}

fn kernel(folder: &Path) -> Result<Kernel> {
    let unpacked = folder.join("kernel");
    if !unpacked.exists() {
        let depends = command("apt-cache").args(["depends", "linux-image-cloud-amd64"]).output()?;
        let depends = String::from_utf8_lossy(&depends.stdout).into_owned();
        let package = depends.split_whitespace().find(|word| word.starts_with("linux-image-6"));
        let package = package.context("apt knows no kernel; run apt-get update")?;
        must(
            command("apt-get")
                .args(["download", "--quiet=2", "-o", "APT::Sandbox::User=root", package])
                .current_dir(folder),
        )?;
        let archive = entry(folder, |name| name.starts_with("linux-image"))?;
        let partial = folder.join("kernel.partial");
        must(command("dpkg-deb").arg("-x").arg(archive).arg(&partial))?;
        fs::rename(partial, &unpacked)?;
    }
    let modules = entry(&unpacked.join("lib/modules"), |_| true)?;
    let image = entry(&unpacked.join("boot"), |name| name.starts_with("vmlinuz"))?;
    let release = modules.file_name().context("no release")?.to_string_lossy().into_owned();
    Ok(Kernel { image, modules, release })
}

/// The first entry of a folder whose name is meant.
fn entry(folder: &Path, is_meant: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(folder)?.flatten();
    let found = entries
        .map(|entry| entry.path())
        .find(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(&is_meant));
    found.with_context(|| format!("nothing of that kind in {}", folder.display()))
}

/// Lays the guest's tree out and packs it.
fn initramfs(folder: &Path, dhow: &Path, suite: &[PathBuf], kernel: &Kernel) -> Result<PathBuf> {
    let tree = folder.join("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    for name in ["bin", "sbin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var/lib"] {
        fs::create_dir_all(tree.join(name))?;
    }
    fs::copy(images::BUSYBOX, tree.join("bin/busybox")).context("install busybox-static")?;
    let list = command(images::BUSYBOX).arg("--list").output()?;
    for name in String::from_utf8_lossy(&list.stdout).lines().filter(|name| *name != "busybox") {
        symlink("busybox", tree.join("bin").join(name))?;
    }
    // The kernel calls it by this path when it misses a module.
    symlink("../bin/busybox", tree.join("sbin/modprobe"))?;
    must(command("strip").arg("-o").arg(tree.join("bin/dhow")).arg(dhow))?;
    tests(&tree, suite)?;
    fs::write(tree.join("root/busybox.tar"), images::busybox_tar()?)?;
    fs::write(tree.join("root/script"), SCRIPT)?;
    fs::write(tree.join("init"), INIT)?;
    fs::set_permissions(tree.join("init"), fs::Permissions::from_mode(0o755))?;
    modules(&tree, kernel)?;
    let packed = folder.join("initramfs.gz");
    let pack = "find . | busybox cpio -o -H newc | gzip -1";
    let output = fs::File::create(&packed)?;
    must(command("sh").args(["-c", pack]).current_dir(&tree).stdout(output))?;
    Ok(packed)
}

/// Brings the tests as /bin/blackbox, and the programs that they look for where they were built: a list for
/// the guest, which has these folders only later.
fn tests(tree: &Path, suite: &[PathBuf]) -> Result<()> {
    let mut links = String::new();
    for (at, path) in suite.iter().enumerate() {
        let name = path.file_name().context("no name")?.to_string_lossy().into_owned();
        let name = if at == 0 { "blackbox" } else { &name };
        must(command("strip").arg("-o").arg(tree.join("bin").join(name)).arg(path))?;
        links.extend([&path.to_string_lossy(), "\n"]);
    }
    fs::write(tree.join("root/programs"), links)?;
    fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    Ok(())
}

/// Copies the modules; the guest indexes them.
fn modules(tree: &Path, kernel: &Kernel) -> Result<()> {
    let target = tree.join("lib/modules").join(&kernel.release);
    fs::create_dir_all(&target)?;
    let mut copy = command("cp");
    copy.args(["-r", "--parents"]).args(MODULES).arg(target).current_dir(&kernel.modules);
    must(&mut copy)
}
