//! What a container cannot see and do.

use std::fs;
use std::io::{Seek, SeekFrom};

use anyhow::{Context, Result};
use dhow_tests::{Daemon, images};

#[test]
fn it_is_alone() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let inside = daemon.ok(&["run", "--rm", "busybox", "sh", "-c", "echo $$; ps | wc -l"])?;
    assert_eq!(inside, "1\n4", "sh, ps, wc and the heading");
    for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let path = format!("/proc/self/ns/{kind}");
        let theirs = daemon.ok(&["run", "--rm", "busybox", "readlink", &path])?;
        let ours = fs::read_link(&path)?.to_string_lossy().into_owned();
        assert_ne!(theirs, ours);
    }
    // The order of cgroups and namespace decides whether it sees its own path here.
    let cgroups = daemon.ok(&["run", "--rm", "busybox", "cat", "/proc/self/cgroup"])?;
    for line in cgroups.lines() {
        assert!(line.ends_with(":/"), "{line}");
    }
    daemon.leave_nothing()
}

#[test]
fn cve_2024_21626_no_descriptor_leaks_in() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let open = daemon.ok(&["run", "--rm", "busybox", "ls", "/proc/self/fd"])?;
    assert_eq!(open.lines().collect::<Vec<_>>(), ["0", "1", "2", "3"], "3 is the folder itself");
    daemon.ok(&["run", "-d", "--name", "box", "busybox", "sleep", "100"])?;
    let open = daemon.ok(&["exec", "box", "ls", "/proc/self/fd"])?;
    assert_eq!(open.lines().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    for folder in ["/proc/self/fd/7", "/proc/self/fd/8/../../.."] {
        let run = daemon.dhow(&["run", "--rm", "-w", folder, "busybox", "cat", "proc/1/comm"])?;
        assert_ne!(run.code, 0, "{folder}: {}", run.stdout);
        let exec = daemon.dhow(&["exec", "-w", folder, "box", "pwd"])?;
        assert_ne!(exec.code, 0, "{folder}: {}", exec.stdout);
    }
    daemon.leave_nothing()
}

#[test]
fn cve_2019_5736_the_binary_is_out_of_reach() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let before = fs::metadata(dhow_tests::daemon::binary()?)?.modified()?;
    // With the binary as its own entrypoint, an image could once open the runtime for writing.
    let script =
        "for it in /proc/*/exe; do (echo x >> $it) 2>/dev/null && echo wrote $it; done; true";
    daemon.ok(&["run", "-d", "--init", "--name", "box", "busybox", "sleep", "100"])?;
    let wrote = daemon.ok(&["exec", "--privileged", "box", "sh", "-c", script])?;
    let own: Vec<_> = wrote.lines().filter(|line| !line.contains("busybox")).collect();
    let init =
        daemon.dhow(&["exec", "--privileged", "box", "sh", "-c", "echo x >> /proc/1/exe"])?;
    assert_ne!(init.code, 0, "init is our binary: {own:?}");
    assert_eq!(fs::metadata(dhow_tests::daemon::binary()?)?.modified()?, before);
    daemon.leave_nothing()
}

#[test]
fn kernel_files_are_masked_or_read_only() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let masked = "cat /proc/kcore | wc -c; ls /proc/scsi /proc/acpi /sys/firmware 2>/dev/null | grep -v : | wc -w";
    let said = daemon.ok(&["run", "--rm", "busybox", "sh", "-c", masked])?;
    assert_eq!(said, "0\n0");
    for file in ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/kernel/mm/ksm/run"] {
        let script = format!("echo x > {file}");
        let output = daemon.dhow(&["run", "--rm", "busybox", "sh", "-c", &script])?;
        assert_ne!(output.code, 0, "{file}");
        assert!(
            output.stderr.contains("Read-only") || output.stderr.contains("nonexistent"),
            "{file}: {}",
            output.stderr
        );
    }
    daemon.leave_nothing()
}

#[test]
fn capabilities_are_dockers() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let capabilities = |flags: &[&str]| -> Result<(String, String)> {
        let run = [&["run", "--rm"], flags, &["busybox", "cat", "/proc/self/status"]].concat();
        let status = daemon.ok(&run)?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(|it| it.trim().to_owned()).context("no such field")
        };
        Ok((field("CapEff:")?, field("CapBnd:")?))
    };
    let default = "00000000a80425fb".to_owned();
    assert_eq!(capabilities(&[])?, (default.clone(), default.clone()));
    let none = "0000000000000000".to_owned();
    assert_eq!(capabilities(&["--cap-drop", "ALL"])?, (none.clone(), none.clone()));
    assert_eq!(capabilities(&["-u", "plain"])?, (none.clone(), default));
    let some = "0000000000000400".to_owned();
    let flags = ["--cap-drop", "all", "--cap-add", "NET_BIND_SERVICE"];
    assert_eq!(capabilities(&flags)?, (some.clone(), some));
    let (all, _) = capabilities(&["--privileged"])?;
    let ours = fs::read_to_string("/proc/self/status")?;
    let ours = ours.lines().find_map(|line| line.strip_prefix("CapBnd:")).context("no field")?;
    assert_eq!(all, ours.trim());
    let unknown = daemon.dhow(&["run", "--rm", "--cap-add", "NOPE", "busybox", "true"])?;
    assert_eq!(unknown.code, 125);
    assert!(unknown.stderr.contains("NOPE"), "{}", unknown.stderr);
    daemon.leave_nothing()
}

#[test]
fn system_calls_are_filtered() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let status = "grep -E 'Seccomp:|NoNewPrivs:' /proc/self/status | tr -d '\\t'";
    let of = |flags: &[&str]| {
        daemon.ok(&[&["run", "--rm"], flags, &["busybox", "sh", "-c", status]].concat())
    };
    assert_eq!(of(&[])?, "NoNewPrivs:0\nSeccomp:2");
    assert_eq!(of(&["--security-opt", "no-new-privileges"])?, "NoNewPrivs:1\nSeccomp:2");
    assert_eq!(of(&["--security-opt", "seccomp=unconfined"])?, "NoNewPrivs:0\nSeccomp:0");
    // unshare is refused without CAP_SYS_ADMIN by the default profile; mkdir by our own.
    let refused = daemon.dhow(&["run", "--rm", "busybox", "unshare", "-U", "true"])?;
    assert_ne!(refused.code, 0);
    let profile = br#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#;
    let file = format!("seccomp={}", images::file(daemon.folder(), "profile.json", profile)?);
    let output =
        daemon.dhow(&["run", "--rm", "--security-opt", &file, "busybox", "mkdir", "/x"])?;
    assert!(output.stderr.contains("Operation not permitted"), "{}", output.stderr);
    daemon.leave_nothing()
}

#[test]
fn files_are_its_own() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let host = daemon.folder().join("shared");
    fs::create_dir(&host)?;
    fs::write(host.join("file"), "from the host")?;
    let volume = format!("{}:/shared", host.display());
    let read_only = format!("{volume}:ro");
    let said = daemon.ok(&[
        "run",
        "--rm",
        "-v",
        &volume,
        "busybox",
        "sh",
        "-c",
        "cat /shared/file; echo new > /shared/new",
    ])?;
    assert_eq!(said, "from the host");
    assert_eq!(fs::read_to_string(host.join("new"))?, "new\n");
    let refused =
        daemon.dhow(&["run", "--rm", "-v", &read_only, "busybox", "touch", "/shared/x"])?;
    assert!(refused.stderr.contains("Read-only"), "{}", refused.stderr);
    let refused = daemon.dhow(&["run", "--rm", "--read-only", "busybox", "touch", "/x"])?;
    assert!(refused.stderr.contains("Read-only"), "{}", refused.stderr);
    let tmpfs =
        ["run", "--rm", "--read-only", "--tmpfs", "/scratch:size=1m", "busybox", "sh", "-c"];
    let said =
        daemon.ok(&[&tmpfs[..], &["touch /scratch/x && df -k /scratch | tail -1"]].concat())?;
    assert!(said.contains("1024"), "{said}");
    let first = daemon.ok(&["run", "--rm", "busybox", "sh", "-c", "touch /x; ls /x"])?;
    let second = daemon.dhow(&["run", "--rm", "busybox", "ls", "/x"])?;
    assert_eq!((first.as_str(), second.code), ("/x", 1), "what one writes no other sees");
    daemon.leave_nothing()
}

#[test]
fn cve_2021_30465_links_of_the_image_lead_nowhere() -> Result<()> {
    let daemon = Daemon::start()?;
    let victim = daemon.folder().join("victim");
    fs::create_dir(&victim)?;
    // The archive's end mark goes, so that entries can follow.
    let mut bytes = images::busybox_tar()?;
    while bytes.len() >= 512 && bytes.iter().rev().take(512).all(|byte| *byte == 0) {
        bytes.truncate(bytes.len() - 512);
    }
    let mut cursor = std::io::Cursor::new(bytes);
    cursor.seek(SeekFrom::End(0))?;
    let mut tar = tar::Builder::new(cursor);
    // A target that leads out of the root must be followed within it.
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "trap", format!("../../../../../..{}", victim.display()))?;
    let bytes = tar.into_inner()?.into_inner();
    daemon.dhow_fed(&["import", "-", "trap"], &bytes)?.ok()?;
    let output = daemon.dhow(&["run", "--rm", "--tmpfs", "/trap/inside", "trap", "true"])?;
    assert!(output.code == 0 || output.code == 125, "{}", output.stderr);
    assert_eq!(fs::read_dir(&victim)?.count(), 0, "nothing was made outside of the root");
    daemon.leave_nothing()
}

#[test]
fn devices_are_few() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let said = daemon.ok(&["run", "--rm", "busybox", "sh", "-c", "ls /dev | tr '\\n' ' '"])?;
    assert_eq!(
        said,
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero "
    );
    // mknod is allowed, but the device cannot be opened.
    let script = "mknod /tmp/mem c 1 1 && cat /tmp/mem";
    let output = daemon.dhow(&["run", "--rm", "busybox", "sh", "-c", script])?;
    assert!(output.stderr.contains("Operation not permitted"), "{}", output.stderr);
    let given = daemon.ok(&[
        "run",
        "--rm",
        "--device",
        "/dev/zero:/dev/given:r",
        "busybox",
        "sh",
        "-c",
        "head -c 3 /dev/given | wc -c",
    ])?;
    assert_eq!(given, "3");
    daemon.leave_nothing()
}
