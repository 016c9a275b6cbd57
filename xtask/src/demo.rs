//! `cargo xtask demo`: what dhow does, shown on this machine in a minute, and nothing left of it.
//!
//! It prints each command before it runs it, so that the reader learns the tool. It uses a daemon of
//! its own in a temporary folder, so a dhow that already runs here is not touched.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use dhow_tests::census::Census;
use dhow_tests::{Daemon, http, images};

use crate::packages;
use crate::run::{Profile, build, checkout};

/// Shows everything, cleans up, and checks that nothing is left.
pub(crate) fn run(profile: Profile) -> Result<()> {
    ensure!(dhow_tests::is_root(), "the demo starts containers and must run as root");
    packages::install(packages::FOR_DEMO)?;
    say("First the binary, and a small web server to put into an image:");
    let binary = build("dhow", profile)?;
    let hello = build("hello", profile)?;
    let before = Census::take()?;

    say(
        "A daemon with folders, a bridge and a cgroup of its own (`dhow run` would start one, too):",
    );
    let daemon = Daemon::start_with(&binary, &[])?;
    command(&["daemon", "--root", "DIR", "--run", "DIR", "--host", &daemon.host()]);
    println!("dhow listens on {}", daemon.host());
    image(&daemon, &hello)?;
    web(&daemon)?;
    second(&daemon)?;
    memory(&daemon)?;
    remove(&daemon)?;
    daemon.leave_nothing()?;

    let left = Census::left_since(&before)?;
    ensure!(left.is_empty(), "the demo left something behind:\n  {}", left.join("\n  "));
    say(
        "Gone, with every process, mount, namespace, cgroup, interface, rule and file. That was dhow.",
    );
    Ok(())
}

/// Builds the image from the example's Dockerfile.
fn image(daemon: &Daemon, hello: &Path) -> Result<()> {
    let context = daemon.folder().join("context");
    fs::create_dir(&context)?;
    fs::copy(hello, context.join("hello"))?;
    fs::copy(checkout().join("examples/hello/Dockerfile"), context.join("Dockerfile"))?;
    say("An image from examples/hello/Dockerfile:");
    show(daemon, &["build", "-t", "hello", &context.to_string_lossy()])?;
    let listed = show(daemon, &["images"])?;
    ensure!(listed.contains("hello"), "the image is not listed");
    Ok(())
}

/// Runs the image and asks it for its page.
fn web(daemon: &Daemon) -> Result<()> {
    let address = free_address()?;
    let publish = format!("{address}:8080");
    say("A container of it, isolated, with a network of its own and a published port:");
    let begin = Instant::now();
    show(daemon, &["run", "-d", "--name", "web", "-p", &publish, "hello"])?;
    let page = http::get(address)?;
    let elapsed = begin.elapsed();
    println!("$ curl http://{address}/\n{page}");
    ensure!(page == "hello from a container\n", "the page is not the one of the image");
    println!("{:.1} ms from the command to the answer.", elapsed.as_secs_f64() * 1000.0);
    let listed = show(daemon, &["ps"])?;
    ensure!(listed.contains("web") && listed.contains("Up "), "the container is not listed");
    let logged = show(daemon, &["logs", "web"])?;
    ensure!(logged.contains("GET / HTTP/1.1"), "the request is not in the log");
    Ok(())
}

/// Runs busybox beside it and looks around from inside.
fn second(daemon: &Daemon) -> Result<()> {
    let tar = daemon.folder().join("busybox.tar");
    fs::write(&tar, images::busybox_tar()?)?;
    say("A second image, from a tar of a root filesystem, and a shell in a container of it:");
    show(daemon, &["import", &tar.to_string_lossy(), "busybox"])?;
    show(daemon, &["run", "-d", "--name", "box", "--memory", "64m", "busybox", "sleep", "1000"])?;
    let template = "{{.NetworkSettings.IPAddress}}";
    let web = show(daemon, &["inspect", "-f", template, "web"])?;
    let url = format!("http://{web}:8080/");
    let page = show(daemon, &["exec", "box", "wget", "-q", "-O", "-", &url])?;
    ensure!(page == "hello from a container", "one container does not reach the other");
    let inside = show(daemon, &["exec", "box", "sh", "-c", "hostname; ps; cat /proc/net/dev"])?;
    ensure!(inside.contains("sleep 1000") && inside.contains("eth0"), "not inside the container");
    Ok(())
}

/// Says what the engine costs while two containers run.
fn memory(daemon: &Daemon) -> Result<()> {
    say("The memory that this takes:");
    let pid = daemon.pid().context("the daemon does not run")?;
    println!("{:>7} KiB  the daemon (resident)", status_kib(pid, "VmRSS:")?);
    for name in ["web", "box"] {
        let init = daemon.ok(&["inspect", "-f", "{{.State.Pid}}", name])?.parse()?;
        let shim = status_kib(init, "PPid:")?.try_into()?;
        println!("{:>7} KiB  the shim of {name} (its share of pages, PSS)", shared_kib(shim)?);
    }
    Ok(())
}

/// Removes containers and images.
fn remove(daemon: &Daemon) -> Result<()> {
    say("And all of it goes again:");
    show(daemon, &["rm", "--force", "web", "box"])?;
    show(daemon, &["rmi", "hello", "busybox"])?;
    let containers = show(daemon, &["ps", "--all", "--quiet"])?;
    let images = show(daemon, &["images", "--quiet"])?;
    ensure!(containers.is_empty() && images.is_empty(), "something is still listed");
    Ok(())
}

/// A line to the reader.
fn say(text: &str) {
    println!("\n\x1b[1m{text}\x1b[0m");
}

/// A command as the reader would type it.
fn command(arguments: &[&str]) {
    println!("$ dhow {}", arguments.join(" "));
}

/// Prints a command, runs it, prints what it says, and returns that.
fn show(daemon: &Daemon, arguments: &[&str]) -> Result<String> {
    command(arguments);
    let said = daemon.ok(arguments)?;
    if !said.is_empty() {
        println!("{said}");
    }
    Ok(said)
}

/// A port of the loopback that nothing listens on.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// A number of /proc/PID/status (proc_pid_status(5)).
fn status_kib(pid: u32, key: &str) -> Result<u64> {
    number(&fs::read_to_string(format!("/proc/{pid}/status"))?, key)
}

/// The proportional share of a process's pages.
fn shared_kib(pid: u32) -> Result<u64> {
    number(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?, "Pss:")
}

/// The first number behind `key` at the start of a line.
fn number(text: &str, key: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let word = line.and_then(|rest| rest.split_whitespace().next());
    word.with_context(|| format!("the kernel says nothing of {key}"))?
        .parse()
        .context(key.to_owned())
}
