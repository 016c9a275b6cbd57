//! `logs`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result};
use dhow_tests::{Daemon, images};

#[test]
fn lines_are_kept_apart_and_in_order() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let script = "for it in 1 2 3 4 5; do echo out $it; done; echo err >&2; printf unfinished";
    daemon.ok(&["run", "-d", "--name", "it", "busybox", "sh", "-c", script])?;
    daemon.ok(&["wait", "it"])?;
    let whole = daemon.dhow(&["logs", "it"])?;
    assert_eq!(whole.stdout, "out 1\nout 2\nout 3\nout 4\nout 5\nunfinished");
    assert_eq!(whole.stderr, "err\n");
    let tail = daemon.dhow(&["logs", "--tail", "2", "it"])?;
    assert_eq!(tail.stdout.lines().count() + tail.stderr.lines().count(), 2, "{tail:?}");
    let timed = daemon.dhow(&["logs", "-t", "it"])?.stdout;
    let first = timed.lines().next().context("no line")?;
    let (time, text) = first.split_once(' ').context("no time")?;
    assert!(time.ends_with('Z') && time.contains('T') && text == "out 1", "{first}");
    assert_eq!(daemon.ok(&["logs", "--since", "1h", "it"])?.lines().count(), 6);
    assert_eq!(daemon.ok(&["logs", "--until", "1h", "it"])?, "");
    assert_eq!(daemon.ok(&["logs", "--since", "2099-01-01", "it"])?, "");
    daemon.leave_nothing()
}

#[test]
fn following_sees_what_comes_and_the_end() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let script = "echo first; while [ ! -e /go ]; do sleep 0.05; done; echo second";
    daemon.ok(&["run", "-d", "--name", "it", "busybox", "sh", "-c", script])?;
    let mut follower = daemon.command(&["logs", "-f", "it"]).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(follower.stdout.take().context("no output")?).lines();
    assert_eq!(lines.next().context("no line")??, "first");
    daemon.ok(&["exec", "it", "touch", "/go"])?;
    assert_eq!(lines.next().context("no line")??, "second");
    assert!(lines.next().is_none(), "it ends with the container");
    assert!(follower.wait()?.success());
    daemon.leave_nothing()
}
