//! By paths and mounts: an image's links, what is masked, what of the engine lies on the host.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use dhow_tests::{Daemon, daemon, images};

use super::{files_below, import_changed, import_with_link};

#[test]
fn cve_2019_16884_nothing_covers_proc() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    for place in ["/proc", "/proc/self", "/proc/sys", "/tmp/../proc/self/attr", "//proc/./sys"] {
        let volume = format!("{}:{place}", daemon.folder().display());
        let run = daemon.dhow(&["run", "--rm", "-v", &volume, "busybox", "true"])?;
        assert_eq!(run.code, 125, "{place}: {run:?}");
        import_changed(&daemon, "volume", &format!("VOLUME [\"{place}\"]"))?;
        let run = daemon.dhow(&["run", "--rm", "volume", "true"])?;
        assert_ne!(run.code, 0, "{place}: {run:?}");
    }
    for target in ["/proc/self/attr/exec", "/proc/self/fd/1", "/proc/sys/kernel/core_pattern"] {
        import_with_link(&daemon, "hosts", "etc/hosts", target)?;
        let run = daemon.dhow(&["run", "--rm", "hosts", "true"])?;
        assert_ne!(run.code, 0, "{target}: {run:?}");
    }
    daemon.leave_nothing()
}

#[test]
fn cve_2019_19921_cve_2023_27561_cve_2023_28642_proc_and_sys_are_no_links() -> Result<()> {
    let daemon = Daemon::start()?;
    for place in ["proc", "sys"] {
        for target in ["tmp", ".", "/", "../../../../../../..", "proc"] {
            import_with_link(&daemon, "linked", place, target)?;
            let run = daemon.dhow(&["run", "--rm", "linked", "true"])?;
            assert_eq!(run.code, 125, "{place} to {target}: {run:?}");
            assert!(run.stderr.contains("symbolic link"), "{place} to {target}: {}", run.stderr);
        }
    }
    daemon.leave_nothing()
}

#[test]
fn cve_2021_30465_cve_2025_52565_mount_points_of_the_image_lead_nowhere() -> Result<()> {
    let daemon = Daemon::start()?;
    let victim = daemon.folder().join("victim");
    fs::create_dir(&victim)?;
    let outside = format!("../../../../../../../..{}", victim.display());
    for place in [
        "dev",
        "dev/console",
        "dev/ptmx",
        "dev/pts",
        "dev/shm",
        "dev/null",
        "etc",
        "etc/hosts",
        "etc/hostname",
        "etc/resolv.conf",
        "sys/fs",
        "work",
    ] {
        let absolute = victim.join("x").display().to_string();
        for (target, flags) in [(absolute, ["-t"]), (format!("{outside}/y"), ["--init"])] {
            import_with_link(&daemon, "linked", place, &target)?;
            let run = ["run", "--rm", "-w", "/work/it", "--tmpfs", "/work/tmp"];
            let said = daemon.dhow(&[&run[..], &flags, &["linked", "true"]].concat())?;
            assert!([0, 125].contains(&said.code), "{place}: {said:?}");
            assert_eq!(fs::read_dir(&victim)?.count(), 0, "{place} to {target}");
        }
    }
    daemon.leave_nothing()
}

#[test]
fn cve_2025_31133_masks_are_the_hosts_null() -> Result<()> {
    let daemon = Daemon::start()?;
    let look = "for it in kcore keys timer_list; do [ -e /proc/$it ] || continue; \
                stat -c '%F %t:%T' /proc/$it; wc -c < /proc/$it; done; ls /sys/firmware | wc -l";
    for place in ["dev/null", "dev"] {
        for target in ["/proc/sys/kernel/core_pattern", "/tmp"] {
            import_with_link(&daemon, "linked", place, target)?;
            let said = daemon.dhow(&["run", "--rm", "linked", "sh", "-c", look])?;
            // With /dev leading into /proc there may be nothing left to mask, or no container.
            let lines = said.stdout.lines();
            let odd = lines.filter(|line| !["character special file 1:3", "0"].contains(line));
            assert_eq!(odd.count(), 0, "{place} to {target}: {said:?}");
        }
    }
    daemon.leave_nothing()
}

#[test]
fn cve_2025_52881_kernel_parameters_stay_in_their_namespace() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    for name in [
        "kernel.core_pattern",
        "net/../kernel/core_pattern",
        "net.ipv4/../../kernel.core_pattern",
        "net...kernel.core_pattern",
        "fs.mqueue/../../kernel/core_pattern",
        "/kernel/core_pattern",
    ] {
        let sysctl = format!("{name}=|/x");
        let run = daemon.dhow(&["run", "--rm", "--sysctl", &sysctl, "busybox", "true"])?;
        assert_ne!(run.code, 0, "{name}: {run:?}");
        let host = ["run", "--rm", "--network", "host", "--sysctl", "net.ipv4.ip_forward=1"];
        assert_ne!(daemon.dhow(&[&host[..], &["busybox", "true"]].concat())?.code, 0);
    }
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern")?, before);
    daemon.leave_nothing()
}

#[test]
fn cve_2024_21626_an_images_workdir_is_inside() -> Result<()> {
    let daemon = Daemon::start()?;
    for folder in ["/proc/self/fd/3", "/proc/self/fd/7", "/proc/self/cwd", "/proc/1/root"] {
        import_changed(&daemon, "configured", &format!("WORKDIR {folder}"))?;
        let run = daemon.dhow(&["run", "--rm", "configured", "ls", "-l", "."])?;
        assert_ne!(run.code, 0, "{folder}: {run:?}");
    }
    daemon.leave_nothing()
}

#[test]
fn what_is_secret_is_roots_alone() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let variable = "PASSWORD=open-sesame";
    let run = ["run", "-d", "--name", "it", "-e", variable, "busybox"];
    daemon.ok(&[&run[..], &["sh", "-c", "echo open-sesame; exec sleep 100"]].concat())?;
    daemon.ok(&["exec", "-e", variable, "it", "true"])?;
    for folder in ["root", "run/containers"] {
        let mode = fs::metadata(daemon.folder().join(folder))?.permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder}");
    }
    let container = |path: &Path| path.components().any(|part| part.as_os_str() == "layers");
    for path in files_below(daemon.folder())?.iter().filter(|path| !container(path)) {
        let status = fs::symlink_metadata(path)?;
        if status.file_type().is_socket() {
            assert_eq!(status.mode() & 0o777, 0o600, "{}", path.display());
        }
        let has = |bytes: Vec<u8>| bytes.windows(11).any(|part| part == b"open-sesame");
        if status.is_file() && fs::read(path).is_ok_and(has) {
            assert_eq!(status.mode() & 0o077, 0, "{}", path.display());
        }
    }
    // The container's own processes know it; the daemon, the launcher and the shim do not show it.
    let inside = daemon.ok(&["inspect", "-f", "{{.State.Pid}}", "it"])?;
    let status = fs::read_to_string(format!("/proc/{inside}/status"))?;
    let shim = status.lines().find_map(|line| line.strip_prefix("PPid:")).context("no parent")?;
    for pid in [shim.trim().to_owned(), daemon.pid().context("no daemon")?.to_string()] {
        for file in ["cmdline", "environ"] {
            let shown = fs::read(format!("/proc/{pid}/{file}"))?;
            assert!(!String::from_utf8_lossy(&shown).contains("sesame"), "{file} of {pid}");
        }
    }
    daemon.leave_nothing()
}

#[test]
fn mounts_of_a_container_stay_in_it() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let shared = daemon.folder().join("shared");
    fs::create_dir_all(&shared)?;
    let mount = |arguments: &[&str]| {
        daemon::finish(daemon::command(Path::new("mount")).args(arguments))?.ok()
    };
    let place = shared.display().to_string();
    mount(&["-t", "tmpfs", "dhow", &place])?;
    mount(&["--make-shared", &place])?;
    fs::create_dir(shared.join("inner"))?;
    let volume = format!("{place}:/volume");
    let script = "mount -t tmpfs none /volume/inner && touch /volume/inner/x && ls /volume/inner";
    let run = ["run", "--rm", "--privileged", "-v", &volume, "busybox", "sh", "-c", script];
    let said = daemon.dhow(&run);
    let inner = fs::read_dir(shared.join("inner"))?.count();
    daemon::finish(daemon::command(Path::new("umount")).args(["--recursive", &place]))?.ok()?;
    assert_eq!(said?.ok()?, "x");
    assert_eq!(inner, 0, "the container's mount is the host's");
    daemon.leave_nothing()
}
