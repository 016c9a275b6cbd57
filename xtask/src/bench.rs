//! `cargo xtask bench start`: how long a start takes, beside docker and runc in the same run. `bench oci`
//! is in a file of its own.
//!
//! The commands of dhow and of the peer take turns, so that a drift of the machine meets both. The
//! peers are started for this, in folders of their own, where Debian's packages are installed.

pub(crate) mod oci;
mod peers;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dhow_tests::{Daemon, daemon, http, images};

use crate::packages;
use crate::run::{Profile, build, checkout};
use peers::{Bundle, Docker};

/// Counted rounds of each command, after [`WARM_UP`] that are not.
const ROUNDS: usize = 30;
const WARM_UP: usize = 3;

/// Measures and prints.
pub(crate) fn start() -> Result<()> {
    ensure!(dhow_tests::is_root(), "the benchmark starts containers and must run as root");
    packages::install(packages::FOR_DEMO)?;
    let binary = build("dhow", Profile::Release)?;
    let hello = build("hello", Profile::Release)?;
    let dhow = Daemon::start_with(&binary, &[])?;
    images::busybox(&dhow)?;
    image_of_hello(&dhow, &hello)?;
    let docker = Docker::start(&hello)?;

    println!("{ROUNDS} rounds each, in turns; milliseconds");
    println!("{:<44}{:>9}{:>9}{:>9}{:>9}", "", "min", "median", "p90", "ratio");
    let plain = ["run", "--rm", "--network", "none", "busybox", "true"];
    let mut one = || run_dhow(&dhow, &plain);
    let mut other = docker.as_ref().map(|docker| || docker.run(&plain));
    report("run --rm --network none busybox true", &mut one, &mut other)?;
    let bundle = Bundle::prepare(&binary)?;
    let mut one = || bundle.run(&binary, &["oci"]);
    let mut other = peers::runc().map(|runc| || bundle.run(runc, &[]));
    report_beside("oci run of a bundle, true", "runc", &mut one, &mut other)?;
    let network = ["run", "--rm", "busybox", "true"];
    let mut one = || run_dhow(&dhow, &network);
    let mut other = docker.as_ref().map(|docker| || docker.run(&network));
    report("run --rm busybox true (bridge network)", &mut one, &mut other)?;
    let mut one = || first_answer(|words| dhow.ok(words));
    let mut other = docker.as_ref().map(|docker| || first_answer(|words| docker.ok(words)));
    report("run -d -p, to the first HTTP answer", &mut one, &mut other)?;
    trace(&dhow)?;
    dhow.leave_nothing()
}

/// One start with its steps.
fn trace(dhow: &Daemon) -> Result<()> {
    println!("\nThe steps of one start with a network (DHOW_TRACE=start):");
    let mut command = dhow.command(&["run", "--rm", "busybox", "true"]);
    let output = daemon::finish(command.env("DHOW_TRACE", "start").stdin(Stdio::null()))?;
    ensure!(output.code == 0, "the traced start failed: {}", output.stderr);
    print!("{}", output.stderr);
    Ok(())
}

fn report(
    title: &str,
    one: &mut impl FnMut() -> Result<Duration>,
    other: &mut Option<impl FnMut() -> Result<Duration>>,
) -> Result<()> {
    report_beside(title, "docker", one, other)
}

/// Runs both in turns and prints a row for each.
fn report_beside(
    title: &str,
    peer: &str,
    one: &mut impl FnMut() -> Result<Duration>,
    other: &mut Option<impl FnMut() -> Result<Duration>>,
) -> Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + ROUNDS {
        let mine = one().with_context(|| format!("dhow, {title}"))?;
        let its = other.as_mut().map(|other| other()).transpose();
        let its = its.with_context(|| format!("{peer}, {title}"))?;
        if round >= WARM_UP {
            ours.push(mine);
            theirs.extend(its);
        }
    }
    println!("{title}");
    let (_, our_median, _) = row("  dhow", &mut ours, None);
    if theirs.is_empty() {
        println!("  {peer:<42}  not installed");
    } else {
        row(&format!("  {peer}"), &mut theirs, Some(our_median));
    }
    Ok(())
}

/// Prints a row; its minimum, median and 90th percentile in milliseconds.
fn row(name: &str, times: &mut [Duration], ours: Option<f64>) -> (f64, f64, f64) {
    times.sort();
    let at = |share: f64| {
        let index = ((times.len().saturating_sub(1)) as f64 * share).round() as usize;
        times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    };
    let (min, median, p90) = (at(0.0), at(0.5), at(0.9));
    let ratio = ours.map(|ours| format!("{:.3}", ours / median)).unwrap_or_default();
    println!("{name:<44}{min:>9.2}{median:>9.2}{p90:>9.2}{ratio:>9}");
    (min, median, p90)
}

/// The time that one dhow command takes.
fn run_dhow(dhow: &Daemon, arguments: &[&str]) -> Result<Duration> {
    time(|| dhow.ok(arguments).map(drop))
}

/// The time from `run -d -p` to the first answer; the container is removed after the clock stopped.
fn first_answer(run: impl Fn(&[&str]) -> Result<String>) -> Result<Duration> {
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let mut id = String::new();
    let elapsed = time(|| {
        id = run(&["run", "-d", "-p", &format!("{address}:8080"), "hello"])?;
        answered(address)
    })?;
    run(&["rm", "--force", &id])?;
    Ok(elapsed)
}

fn answered(address: SocketAddr) -> Result<()> {
    let page = http::get(address)?;
    ensure!(page.contains("hello"), "a wrong page: {page}");
    Ok(())
}

fn time(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let begin = Instant::now();
    work()?;
    Ok(begin.elapsed())
}

/// Builds examples/hello in dhow.
fn image_of_hello(dhow: &Daemon, hello: &Path) -> Result<()> {
    let context = dhow.folder().join("context");
    fs::create_dir(&context)?;
    fs::copy(hello, context.join("hello")).context("no hello binary")?;
    fs::copy(checkout().join("examples/hello/Dockerfile"), context.join("Dockerfile"))?;
    dhow.ok(&["build", "-t", "hello", &context.to_string_lossy()])?;
    Ok(())
}
