//! Several daemons on one machine, and the one that `run` starts by itself.

use std::path::Path;

use anyhow::Result;
use dhow_tests::{Daemon, daemon, images};

#[test]
fn many_live_side_by_side() -> Result<()> {
    let daemons: Vec<Daemon> = (0..3).map(|_| Daemon::start()).collect::<Result<_>>()?;
    let mut addresses = std::collections::BTreeSet::new();
    for daemon in &daemons {
        images::busybox(daemon)?;
        daemon.ok(&["run", "-d", "--name", "same", "busybox", "sleep", "100"])?;
        addresses.insert(daemon.ok(&["inspect", "-f", "{{.NetworkSettings.Gateway}}", "same"])?);
    }
    assert_eq!(addresses.len(), 3, "each has a range of its own");
    daemons.into_iter().try_for_each(Daemon::leave_nothing)
}

#[test]
fn folders_have_one_daemon() -> Result<()> {
    let first = Daemon::start()?;
    let folder = first.folder();
    let mut second = daemon::command(&daemon::binary()?);
    second
        .arg("daemon")
        .arg("--root")
        .arg(folder.join("root"))
        .arg("--run")
        .arg(folder.join("run"));
    let output = daemon::finish(second.args(["--bridge", "dtsecond"]))?;
    assert_eq!(output.code, 1);
    assert!(
        output.stderr.contains("already runs") && output.stderr.contains("hint: "),
        "{}",
        output.stderr
    );
    first.leave_nothing()
}

#[test]
fn addresses_are_chosen() -> Result<()> {
    let flags = ["--bip", "10.213.7.1/24"];
    let daemon = Daemon::start_with(&daemon::binary()?, &flags)?;
    images::busybox(&daemon)?;
    let route = daemon.ok(&["run", "--rm", "busybox", "ip", "route"])?;
    assert!(route.contains("default via 10.213.7.1"), "{route}");
    daemon.leave_nothing()?;
    let flags = ["--default-address-pool", "base=10.214.0.0/16,size=24"];
    let daemon = Daemon::start_with(&daemon::binary()?, &flags)?;
    images::busybox(&daemon)?;
    let route = daemon.ok(&["run", "--rm", "busybox", "ip", "route"])?;
    assert!(route.contains("default via 10.214."), "{route}");
    daemon.leave_nothing()
}

/// In a mount and network namespace of its own, so that the machine's /run and /var/lib stay as they
/// are.
#[test]
fn run_starts_a_daemon_where_none_is() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let tar = images::file(folder.path(), "busybox.tar", &images::busybox_tar()?)?;
    let binary = daemon::binary()?;
    let script = format!(
        "set -e; mount -t tmpfs none /run; mount -t tmpfs none /var/lib; ip link set lo up; dhow={}
         $dhow import {tar} busybox >/dev/null
         $dhow run --rm busybox echo first
         $dhow run --rm busybox echo second
         test -S /run/dhow/dhow.sock
         kill $(cat /run/dhow/daemon.pid); while [ -e /run/dhow/dhow.sock ]; do sleep 0.05; done",
        binary.display()
    );
    let mut unshare = daemon::command(Path::new("unshare"));
    let output = daemon::finish(unshare.args(["--mount", "--net", "sh", "-c", &script]))?;
    assert_eq!((output.code, output.stdout.as_str()), (0, "first\nsecond\n"), "{}", output.stderr);
    let told = output.stderr.lines().filter(|line| line.contains("started a daemon"));
    assert_eq!(told.count(), 1, "{}", output.stderr);
    Ok(())
}
