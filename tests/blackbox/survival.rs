//! The daemon dies at any moment; containers, their logs and exit codes do not.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dhow_tests::{Daemon, http, images};

#[test]
fn containers_survive_kill_9_of_the_daemon() -> Result<()> {
    let mut daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let count = "n=0; while true; do n=$((n+1)); echo $n; sleep 0.02; done";
    daemon.ok(&["run", "-d", "--name", "counter", "busybox", "sh", "-c", count])?;
    daemon.ok(&[
        "run",
        "-d",
        "--name",
        "ends",
        "busybox",
        "sh",
        "-c",
        "while [ ! -e /go ]; do sleep 0.02; done; echo last words; exit 42",
    ])?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let serve = "mkdir /www; echo page > /www/index.html; exec httpd -f -p 80 -h /www";
    daemon.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        &format!("{port}:80"),
        "busybox",
        "sh",
        "-c",
        serve,
    ])?;
    http::get(port)?;
    let pid = daemon.ok(&["inspect", "-f", "{{.State.Pid}}", "counter"])?;
    let address = daemon.ok(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"])?;
    // The last thing that this daemon does: the container ends while nobody is there.
    daemon.ok(&["exec", "-d", "ends", "sh", "-c", "sleep 0.3; touch /go"])?;
    daemon.kill()?;
    ensure!(std::path::Path::new(&format!("/proc/{pid}")).exists(), "the container runs on");
    assert_eq!(http::attempt(port)?, "page\n", "the port leads inside without a daemon");
    std::thread::sleep(Duration::from_millis(600));
    daemon.launch()?;
    let state =
        |name: &str| daemon.ok(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name]);
    assert_eq!(state("counter")?, "running 0");
    assert_eq!(state("ends")?, "exited 42");
    assert_eq!(daemon.ok(&["logs", "ends"])?, "last words");
    assert_eq!(daemon.ok(&["inspect", "-f", "{{.State.Pid}}", "counter"])?, pid);
    let logged = daemon.ok(&["logs", "counter"])?;
    let numbers: Vec<u32> = logged.lines().map(str::parse).collect::<Result<_, _>>()?;
    ensure!(numbers.len() > 30, "{} lines", numbers.len());
    ensure!(
        numbers.iter().enumerate().all(|(at, number)| *number as usize == at + 1),
        "a gap: {numbers:?}"
    );
    assert_eq!(http::attempt(port)?, "page\n");
    assert_eq!(daemon.ok(&["exec", "counter", "echo", "still here"])?, "still here");
    let other = daemon.ok(&["run", "-d", "busybox", "sleep", "100"])?;
    let given = daemon.ok(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", &other])?;
    ensure!(given != address, "an address in use is not given again");
    daemon.ok(&["stop", "-t", "0", "counter", "web"])?;
    assert_eq!(state("counter")?, "exited 137");
    daemon.leave_nothing()
}

#[test]
fn containers_survive_an_orderly_stop_of_the_daemon() -> Result<()> {
    let mut daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    daemon.ok(&["run", "-d", "--name", "it", "busybox", "sleep", "1000"])?;
    daemon.ok(&["run", "-d", "--rm", "--name", "gone", "busybox", "sleep", "0.3"])?;
    daemon.terminate()?;
    std::thread::sleep(Duration::from_millis(500));
    daemon.launch()?;
    assert_eq!(daemon.ok(&["ps", "-a", "--format", "{{.Names}} {{.State}}"])?, "it running");
    daemon.leave_nothing()
}

#[test]
fn a_killed_launcher_is_replaced() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    daemon.ok(&["run", "-d", "--name", "it", "busybox", "sleep", "1000"])?;
    let pid = daemon.pid().context("no daemon")?;
    let all: Vec<i32> = std::fs::read_dir(format!("/proc/{pid}/task"))?
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace().filter_map(|it| it.parse().ok()).collect::<Vec<i32>>()
        })
        .collect();
    ensure!(!all.is_empty(), "the daemon has a launcher");
    for pid in all {
        use dhow_tests::rustix::process::{Pid, Signal, kill_process};
        kill_process(Pid::from_raw(pid).context("no pid")?, Signal::KILL)?;
    }
    assert_eq!(daemon.ok(&["exec", "it", "echo", "alive"])?, "alive");
    assert_eq!(daemon.ok(&["run", "--rm", "busybox", "echo", "again"])?, "again");
    daemon.leave_nothing()
}

/// Kills the daemon at random moments while containers come and go; everything that was acknowledged
/// is there afterwards, everything else can be removed. A sample; `cargo xtask soak` runs 500 rounds.
#[test]
fn soak_random_kills_lose_nothing() -> Result<()> {
    let rounds = if std::env::var_os("DHOW_SOAK").is_some() { 500 } else { 8 };
    let mut daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    for round in 0..rounds {
        let kept = format!("kept{round}");
        daemon.ok(&["run", "-d", "--name", &kept, "busybox", "sleep", "1000"])?;
        let moment =
            Duration::from_millis(u64::from(std::process::id().wrapping_mul(round * 7 + 13) % 60));
        let begin = Instant::now();
        let acknowledged = std::thread::scope(|scope| -> Result<Vec<String>> {
            let worker = scope.spawn(|| {
                let mut acknowledged = Vec::new();
                for number in 0.. {
                    let name = format!("r{round}n{number}");
                    match daemon.dhow(&["run", "-d", "--name", &name, "busybox", "sleep", "1000"]) {
                        Ok(output) if output.code == 0 => acknowledged.push(name),
                        _ => break,
                    }
                }
                acknowledged
            });
            while begin.elapsed() < moment {
                std::thread::yield_now();
            }
            use dhow_tests::rustix::process::{Pid, Signal, kill_process};
            let pid = daemon.pid().context("no daemon")?.cast_signed();
            kill_process(Pid::from_raw(pid).context("no pid")?, Signal::KILL)?;
            worker.join().map_err(|_| anyhow::anyhow!("the worker died"))
        })?;
        daemon.kill()?;
        daemon.launch().with_context(|| format!("round {round}"))?;
        for name in acknowledged.iter().chain([&kept]) {
            let status = daemon.ok(&["inspect", "-f", "{{.State.Status}}", name])?;
            assert_eq!(status, "running", "{name} in round {round}: {}", daemon.log());
            assert_eq!(daemon.ok(&["exec", name, "echo", "alive"])?, "alive", "{name}");
        }
        // Whatever was in flight is either there or not, and can be removed either way.
        for id in daemon.ok(&["ps", "-aq"])?.lines() {
            daemon.ok(&["rm", "-f", id]).with_context(|| format!("round {round}"))?;
        }
    }
    daemon.leave_nothing()
}
