//! A container's life: created, started, stopped, removed; and how it is listed.

use anyhow::Result;
use dhow_tests::{Daemon, images};

fn status(daemon: &Daemon, name: &str) -> Result<String> {
    daemon.ok(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name])
}

#[test]
fn from_create_to_rm() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let id = daemon.ok(&["create", "--name", "it", "busybox", "sleep", "1000"])?;
    assert_eq!(status(&daemon, "it")?, "created 0");
    assert_eq!(daemon.ok(&["ps", "-q"])?, "", "ps shows those that run");
    assert_eq!(daemon.ok(&["ps", "-aq"])?, id[..12]);
    assert_eq!(daemon.ok(&["start", "it"])?, "it");
    assert_eq!(status(&daemon, &id[..6])?, "running 0");
    let refused = daemon.dhow(&["rm", "it"])?;
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("running"), "{}", refused.stderr);
    assert_eq!(daemon.ok(&["stop", "-t", "0", "it"])?, "it");
    assert_eq!(status(&daemon, "it")?, "exited 137");
    daemon.ok(&["start", "it"])?;
    assert_eq!(status(&daemon, "it")?, "running 0");
    daemon.ok(&["kill", "--signal", "KILL", "it"])?;
    assert_eq!(daemon.ok(&["wait", "it"])?, "137");
    daemon.ok(&["rename", "it", "other"])?;
    assert_eq!(daemon.ok(&["rm", "other"])?, "other");
    let gone = daemon.dhow(&["inspect", "other"])?;
    assert_eq!(gone.code, 1);
    assert!(gone.stderr.contains("other"), "{}", gone.stderr);
    daemon.leave_nothing()
}

#[test]
fn signals_are_the_images_or_ours() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let script =
        "trap 'exit 5' TERM; trap 'exit 6' USR1; echo ready; while true; do sleep 0.1; done";
    for (flags, code) in [(&[][..], "exited 5"), (&["--stop-signal", "USR1"], "exited 6")] {
        let run =
            [&["run", "-d", "--name", "it"], flags, &["busybox", "sh", "-c", script]].concat();
        daemon.ok(&run)?;
        // The log says when the traps are set.
        while daemon.ok(&["logs", "it"])? != "ready" {}
        daemon.ok(&["stop", "it"])?;
        assert_eq!(status(&daemon, "it")?, code);
        daemon.ok(&["rm", "it"])?;
    }
    daemon.leave_nothing()
}

#[test]
fn lists_have_dockers_columns() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    daemon.ok(&[
        "run",
        "-d",
        "--name",
        "up",
        "--label",
        "a=b",
        "-p",
        "127.0.0.1::80",
        "busybox",
        "sleep",
        "100",
    ])?;
    daemon.dhow(&["run", "--name", "ended", "busybox", "false"])?;
    let list = daemon.ok(&["ps", "-a"])?;
    let heading = list.lines().next().unwrap_or_default();
    let words: Vec<_> = heading.split("   ").map(str::trim).filter(|it| !it.is_empty()).collect();
    assert_eq!(words, ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    let up = list.lines().find(|line| line.ends_with("up")).unwrap_or_default();
    assert!(up.contains("\"sleep 100\"") && up.contains("Up ") && up.contains("->80/tcp"), "{up}");
    let ended = list.lines().find(|line| line.ends_with("ended")).unwrap_or_default();
    assert!(ended.contains("Exited (1)"), "{ended}");
    let names =
        |filter: &str| daemon.ok(&["ps", "-a", "--filter", filter, "--format", "{{.Names}}"]);
    assert_eq!(names("label=a=b")?, "up");
    assert_eq!(names("status=exited")?, "ended");
    assert_eq!(names("name=nope")?, "");
    daemon.leave_nothing()
}

#[test]
fn pause_freezes() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    daemon.ok(&["run", "-d", "--name", "it", "busybox", "sleep", "1000"])?;
    daemon.ok(&["pause", "it"])?;
    assert_eq!(status(&daemon, "it")?, "paused 0");
    let refused = daemon.dhow(&["exec", "it", "true"])?;
    assert!(refused.code != 0 && refused.stderr.contains("paused"), "{}", refused.stderr);
    daemon.ok(&["unpause", "it"])?;
    daemon.ok(&["exec", "it", "true"])?;
    daemon.ok(&["pause", "it"])?;
    daemon.ok(&["rm", "-f", "it"])?;
    daemon.leave_nothing()
}

#[test]
fn what_was_written_stays_until_rm() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    daemon.ok(&["run", "--name", "it", "busybox", "sh", "-c", "echo x >> /file; wc -l < /file"])?;
    daemon.ok(&["start", "-a", "it"])?;
    assert_eq!(daemon.ok(&["logs", "it"])?, "1\n2");
    daemon.leave_nothing()
}

#[test]
fn twenty_at_once() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    std::thread::scope(|scope| {
        let start = |number: usize| {
            let (name, echo) = (format!("c{number}"), format!("echo {number}; sleep 100"));
            daemon.ok(&["run", "-d", "--name", &name, "busybox", "sh", "-c", &echo])
        };
        let threads: Vec<_> = (0..20).map(|number| scope.spawn(move || start(number))).collect();
        threads.into_iter().try_for_each(|it| it.join().map_or_else(|_| Ok(()), |it| it.map(drop)))
    })?;
    assert_eq!(daemon.ok(&["ps", "-q"])?.lines().count(), 20);
    let template = "{{.NetworkSettings.IPAddress}}";
    let mut addresses = std::collections::BTreeSet::new();
    for number in 0..20 {
        addresses.insert(daemon.ok(&["inspect", "-f", template, &format!("c{number}")])?);
    }
    assert_eq!(addresses.len(), 20, "each has an address of its own");
    daemon.leave_nothing()
}
