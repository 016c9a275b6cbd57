//! From one process to another: what a container's processes are, have and can reach.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use dhow_tests::{Daemon, images};

use super::{import_changed, import_with_file};

/// A field of /proc/self/status, as `dhow` with these arguments sees it.
fn status(daemon: &Daemon, arguments: &[&str], field: &str) -> Result<String> {
    let status = daemon.ok(&[arguments, &["cat", "/proc/self/status"]].concat())?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(line.with_context(|| format!("no {field}"))?.trim().to_owned())
}

/// Looks into every process that it sees for the host's file at `secret` and for descriptors of files
/// that are not the container's, until /stop is there.
fn hunter(folder: &Path) -> String {
    let (folder, secret) = (folder.display(), folder.join("secret"));
    format!(
        "while [ ! -e /stop ]; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] && continue; \
         cat $p/root{} 2>/dev/null; \
         for f in $p/fd/*; do l=$(readlink $f 2>/dev/null) && case $l in {folder}*|/sys/fs/cgroup*|*pidfd*) \
         echo $f $l;; esac; done; done; done",
        secret.display()
    )
}

/// Has processes join a container that hunts them, run with these flags: it finds nothing.
fn joined_and_hunted(flags: &[&str], times: usize) -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    fs::write(daemon.folder().join("secret"), "the host's\n")?;
    let hunter = hunter(daemon.folder());
    let run = [&["run", "-d", "--name", "it"], flags, &["busybox", "sh", "-c", &hunter]];
    daemon.ok(&run.concat())?;
    for _ in 0..times {
        daemon.ok(&["exec", "it", "true"])?;
    }
    // The container's end may come before that of the command.
    daemon.dhow(&["exec", "it", "touch", "/stop"])?;
    daemon.ok(&["wait", "it"])?;
    assert_eq!(daemon.ok(&["logs", "it"])?, "");
    daemon.leave_nothing()
}

#[test]
fn cve_2016_9962_a_joining_process_is_out_of_reach() -> Result<()> {
    joined_and_hunted(&[], 20)
}

/// By a container that may trace any process that it sees.
#[test]
fn cve_2016_9962_a_joining_process_is_out_of_a_tracers_reach() -> Result<()> {
    joined_and_hunted(&["--cap-add", "SYS_PTRACE"], 50)
}

#[test]
fn cve_2016_3697_a_number_is_no_name() -> Result<()> {
    let daemon = Daemon::start()?;
    import_with_file(&daemon, "evil", "etc/passwd", "1000:x:0:0::/:/bin/sh\n")?;
    import_with_file(&daemon, "group", "etc/group", "1000:x:0:\n")?;
    assert_eq!(daemon.ok(&["run", "--rm", "-u", "1000", "evil", "id", "-u"])?, "1000");
    assert_eq!(daemon.ok(&["run", "--rm", "-u", "5:1000", "group", "id", "-g"])?, "1000");
    daemon.ok(&["run", "-d", "--name", "it", "evil", "sleep", "100"])?;
    assert_eq!(daemon.ok(&["exec", "-u", "1000", "it", "id", "-u"])?, "1000");
    daemon.leave_nothing()
}

#[test]
fn cve_2024_40635_ids_do_not_wrap_to_root() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    daemon.ok(&["run", "-d", "--name", "it", "busybox", "sleep", "100"])?;
    for user in ["4294967295", "4294967296", "2147483648", "0:4294967296", "18446744073709551616"] {
        let run = daemon.dhow(&["run", "--rm", "-u", user, "busybox", "id"])?;
        assert!(run.code != 0 && run.stderr.contains("range"), "{user}: {run:?}");
        let exec = daemon.dhow(&["exec", "-u", user, "it", "id"])?;
        assert!(exec.code != 0 && exec.stderr.contains("range"), "{user}: {exec:?}");
        import_changed(&daemon, "configured", &format!("USER {user}"))?;
        let run = daemon.dhow(&["run", "--rm", "configured", "id"])?;
        assert!(run.code != 0 && run.stderr.contains("range"), "{user}: {run:?}");
    }
    // -1 means "as it is" to setresuid(2), which is root.
    for (uid, gid) in [("4294967295", "5"), ("5", "4294967295"), ("4294967295", "4294967295")] {
        let passwd = format!("plain:x:{uid}:{gid}::/:/bin/sh\n");
        import_with_file(&daemon, "listed", "etc/passwd", &passwd)?;
        let run = daemon.dhow(&["run", "--rm", "-u", "plain", "listed", "id"])?;
        assert!(run.code != 0 && run.stderr.contains("range"), "{uid}:{gid}: {run:?}");
    }
    import_with_file(&daemon, "listed", "etc/group", "wheel:x:4294967295:\n")?;
    let run = daemon.dhow(&["run", "--rm", "-u", "5:wheel", "listed", "id"])?;
    assert!(run.code != 0 && run.stderr.contains("range"), "{run:?}");
    daemon.leave_nothing()
}

#[test]
fn cve_2022_36109_the_primary_group_cannot_be_given_up() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    daemon.ok(&["run", "-d", "--name", "it", "busybox", "sleep", "100"])?;
    for (user, groups) in
        [("1000", "1000 2000"), ("1234", "0"), ("7:8", "8"), ("plain", "1000 2000")]
    {
        assert_eq!(status(&daemon, &["run", "--rm", "-u", user, "busybox"], "Groups")?, groups);
        assert_eq!(status(&daemon, &["exec", "-u", user, "it"], "Groups")?, groups);
    }
    daemon.leave_nothing()
}

#[test]
fn cve_2022_24769_nothing_is_inheritable() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    daemon.ok(&["run", "-d", "--name", "it", "busybox", "sleep", "100"])?;
    let cases: [&[&str]; 6] = [
        &["run", "--rm", "busybox"],
        &["run", "--rm", "--init", "-u", "plain", "busybox"],
        &["run", "--rm", "--cap-add", "ALL", "busybox"],
        &["run", "--rm", "--privileged", "-u", "1000", "busybox"],
        &["exec", "it"],
        &["exec", "--privileged", "-u", "plain", "it"],
    ];
    for arguments in cases {
        for field in ["CapInh", "CapAmb"] {
            let set = status(&daemon, arguments, field)?;
            assert_eq!(set, "0000000000000000", "{field} {arguments:?}");
        }
    }
    daemon.leave_nothing()
}

#[test]
fn cve_2022_0492_no_agent_is_released() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let script = "for it in $(find /sys/fs/cgroup -name release_agent -o -name notify_on_release \
        -o -name cgroup.procs -o -name devices.allow); do echo 1 2>/dev/null > $it && echo wrote $it; done; \
        mkdir /tmp/c; for kind in cgroup cgroup2 proc sysfs tmpfs; do mount -t $kind none /tmp/c \
        && echo mounted $kind; done; mount -o remount,rw /sys && echo remounted; \
        unshare -U true && echo a user namespace; unshare -m true && echo a mount namespace; \
        echo x > /proc/sys/kernel/core_pattern && echo a core pattern; true";
    let said = daemon.dhow(&["run", "--rm", "busybox", "busybox", "sh", "-c", script])?;
    assert_eq!(said.stdout, "", "{}", said.stderr);
    daemon.leave_nothing()
}

#[test]
fn cve_2020_15257_no_abstract_socket_listens() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    daemon.ok(&["run", "-d", "--name", "it", "busybox", "sleep", "100"])?;
    let sockets = ["run", "--rm", "--network", "host", "busybox", "cat", "/proc/net/unix"];
    let sockets = daemon.ok(&sockets)?;
    // The fourth field is __SO_ACCEPTCON, 0x10000, for those that listen.
    let listens = |line: &&str| line.split_whitespace().nth(3) == Some("00010000");
    let ours = |line: &&str| line.contains('@') && line.contains(daemon.bridge());
    assert_eq!(sockets.lines().filter(listens).filter(ours).collect::<Vec<_>>(), [""; 0]);
    daemon.leave_nothing()
}
