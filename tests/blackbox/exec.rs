//! `exec`.

use anyhow::Result;
use dhow_tests::{Daemon, images};

#[test]
fn commands_join_the_container() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    daemon.ok(&[
        "run",
        "-d",
        "--name",
        "it",
        "-e",
        "A=container",
        "-w",
        "/tmp",
        "busybox",
        "sleep",
        "1000",
    ])?;
    let said = daemon.ok(&["exec", "it", "sh", "-c", "echo $A; pwd; id -u; hostname"])?;
    let hostname = daemon.ok(&["inspect", "-f", "{{.Config.Hostname}}", "it"])?;
    assert_eq!(said, format!("container\n/tmp\n0\n{hostname}"));
    let said = daemon.ok(&[
        "exec",
        "-e",
        "A=exec",
        "-w",
        "/etc",
        "-u",
        "plain:extra",
        "it",
        "sh",
        "-c",
        "echo $A; pwd; id -un; id -gn",
    ])?;
    assert_eq!(said, "exec\n/etc\nplain\nextra");
    for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let script = format!("readlink /proc/1/ns/{kind}; readlink /proc/self/ns/{kind}");
        let both = daemon.ok(&["exec", "it", "sh", "-c", &script])?;
        let mut both = both.lines();
        assert_eq!(both.next(), both.next(), "{kind}");
    }
    let cgroups = daemon.ok(&["exec", "it", "cat", "/proc/self/cgroup"])?;
    assert!(cgroups.lines().all(|line| line.ends_with(":/")), "{cgroups}");
    let status =
        daemon.ok(&["exec", "it", "grep", "-E", "CapEff|Seccomp:", "/proc/self/status"])?;
    assert!(status.contains("00000000a80425fb") && status.contains('2'), "{status}");
    daemon.leave_nothing()
}

#[test]
fn codes_and_streams_come_back() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    daemon.ok(&["run", "-d", "--name", "it", "busybox", "sleep", "1000"])?;
    let output = daemon.dhow(&["exec", "it", "sh", "-c", "echo out; echo err >&2; exit 9"])?;
    assert_eq!(
        (output.code, output.stdout.as_str(), output.stderr.as_str()),
        (9, "out\n", "err\n")
    );
    let fed = daemon.dhow_fed(&["exec", "-i", "it", "wc", "-c"], &vec![b'x'; 1_000_000])?;
    assert_eq!(fed.stdout.trim(), "1000000");
    let missing = daemon.dhow(&["exec", "it", "nosuch"])?;
    assert_eq!(missing.code, 127, "{missing:?}");
    let denied = daemon.dhow(&["exec", "it", "/etc/passwd"])?;
    assert_eq!(denied.code, 126, "{denied:?}");
    daemon.ok(&["exec", "-d", "it", "touch", "/done"])?;
    while daemon.dhow(&["exec", "it", "test", "-e", "/done"])?.code != 0 {}
    daemon.ok(&["stop", "-t", "0", "it"])?;
    let stopped = daemon.dhow(&["exec", "it", "true"])?;
    assert_eq!(stopped.code, 1);
    assert!(stopped.stderr.contains("not running"), "{}", stopped.stderr);
    let unknown = daemon.dhow(&["exec", "nobody", "true"])?;
    assert!(unknown.stderr.contains("nobody"), "{}", unknown.stderr);
    daemon.leave_nothing()
}

#[test]
fn what_cannot_be_started_has_its_code() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    daemon.ok(&["run", "-d", "--name", "it", "busybox", "sleep", "1000"])?;
    let cases: [(&[&str], i32, &str); 5] = [
        (&["exec", "it", "nosuch"], 127, "nosuch"),
        (&["exec", "it", "/etc"], 126, "/etc"),
        (&["exec", "-w", "/nosuch", "it", "true"], 126, "/nosuch"),
        (&["exec", "-u", "nosuch", "it", "true"], 126, "nosuch"),
        (&["exec", "nosuch", "true"], 1, "No such container: nosuch"),
    ];
    for (arguments, code, words) in cases {
        let output = daemon.dhow(arguments)?;
        assert_eq!(output.code, code, "{arguments:?}: {}", output.stderr);
        assert!(output.stderr.contains(words), "{}", output.stderr);
    }
    daemon.leave_nothing()
}
