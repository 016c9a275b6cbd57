//! `cargo xtask bench oci`: the runtime's command line beside runc's and youki's, in the same run.
//!
//! Every runtime gets the same bundles, made from runc's own configuration where runc is installed. They
//! take turns, so that a drift of the machine meets all. `DHOW_BIN` names a binary that is built already; else
//! a release is. Numbers of system calls do not drift; they include
//! those of the container's command, which is the same for all.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dhow_tests::daemon::{command, finish};

use super::peers::{self, Bundle};
use super::{ROUNDS, WARM_UP, row};
use crate::packages;
use crate::run::{Profile, build};

/// A runtime's command line.
struct Runtime {
    name: &'static str,
    program: PathBuf,
    words: &'static [&'static str],
    state: tempfile::TempDir,
}

/// Measures and prints.
pub(crate) fn run() -> Result<()> {
    ensure!(dhow_tests::is_root(), "the benchmark starts containers and must run as root");
    packages::install(packages::FOR_DEMO)?;
    let binary = match std::env::var_os("DHOW_BIN") {
        Some(path) => PathBuf::from(path),
        None => build("dhow", Profile::Release)?,
    };
    let mut all = vec![Runtime::new("dhow", &binary, &["oci"])?];
    for (name, path) in [("runc", peers::runc()), ("youki", peers::youki())] {
        match path {
            Some(path) => all.push(Runtime::new(name, path, &[])?),
            None => println!("{name} is not installed"),
        }
    }
    let bundle = Bundle::prepare(&binary)?;
    println!("{ROUNDS} rounds each, in turns; milliseconds; ratio: dhow's median to the peer's");
    println!("{:<44}{:>9}{:>9}{:>9}{:>9}", "", "min", "median", "p90", "ratio");
    compare("run of true from a bundle", &all, |it| it.run(&bundle))?;
    compare("create, start, delete", &all, |it| it.lives(&bundle))?;
    let stays = Bundle::prepare_for(&binary, &["sleep", "3600"])?;
    let running: Vec<Container<'_>> =
        all.iter().map(|it| Container::start(it, &stays)).collect::<Result<_>>()?;
    compare("exec of true in a running container", &all, Runtime::exec)?;
    println!("{:<44}{:>9}{:>9}{:>9}", "system calls (strace -f -c)", "run", "lives", "exec");
    for it in &all {
        match it.calls(&bundle)? {
            Some([run, lives, exec]) => {
                println!("  {:<42}{run:>9}{lives:>9}{exec:>9}", it.name);
            }
            None => println!("  strace is not installed"),
        }
    }
    drop(running);
    println!("peak memory of `run` while its container runs (VmHWM)");
    let reads = Bundle::prepare_for(&binary, &["cat"])?;
    for it in &all {
        println!("  {:<42}{:>6} KiB", it.name, it.peak(&reads)?);
    }
    Ok(())
}

/// Takes the time of `work` with every runtime in turns, and prints a row for each.
fn compare(
    title: &str,
    all: &[Runtime],
    work: impl Fn(&Runtime) -> Result<Duration>,
) -> Result<()> {
    let mut times = vec![Vec::new(); all.len()];
    for round in 0..WARM_UP + ROUNDS {
        for (runtime, times) in all.iter().zip(&mut times) {
            let time = work(runtime).with_context(|| format!("{}: {title}", runtime.name))?;
            if round >= WARM_UP {
                times.push(time);
            }
        }
    }
    println!("{title}");
    let mut ours = None;
    for (runtime, times) in all.iter().zip(&mut times) {
        let (_, median, _) = row(&format!("  {}", runtime.name), times, ours);
        ours = ours.or(Some(median));
    }
    Ok(())
}

impl Runtime {
    fn new(name: &'static str, program: &Path, words: &'static [&'static str]) -> Result<Self> {
        let state = tempfile::Builder::new().prefix("bench-state-").tempdir_in("/run")?;
        Ok(Self { name, program: program.to_owned(), words, state })
    }

    fn command(&self, bundle: &Bundle, arguments: &[&str]) -> Command {
        let mut runtime = command(&self.program);
        self.describe(&mut runtime, arguments);
        runtime.current_dir(bundle.folder());
        runtime
    }

    fn describe(&self, to: &mut Command, arguments: &[&str]) {
        to.args(self.words).arg("--root").arg(self.state.path()).args(arguments);
        to.stdin(Stdio::null()).stdout(Stdio::null());
    }

    /// An id that no other runtime has: ids name control groups.
    fn id(&self, what: &str) -> String {
        format!("bench-{}-{what}-{}", self.name, std::process::id())
    }

    fn ok(&self, bundle: &Bundle, arguments: &[&str]) -> Result<()> {
        // Not to the end of its output: a container that stays holds it.
        let log = self.state.path().join("stderr");
        let mut runtime = self.command(bundle, arguments);
        let status = runtime.stderr(fs::File::create(&log)?).status()?;
        let words = arguments.join(" ");
        ensure!(status.success(), "{words}: {status}: {}", fs::read_to_string(&log)?);
        Ok(())
    }

    fn run(&self, bundle: &Bundle) -> Result<Duration> {
        super::time(|| self.ok(bundle, &["run", &self.id("run")]))
    }

    /// A whole life. The container's end is not waited for but by `delete --force`.
    fn lives(&self, bundle: &Bundle) -> Result<Duration> {
        let id = self.id("life");
        super::time(|| {
            self.ok(bundle, &["create", &id])?;
            self.ok(bundle, &["start", &id])?;
            self.ok(bundle, &["delete", "--force", &id])
        })
    }

    fn exec(&self) -> Result<Duration> {
        let mut runtime = command(&self.program);
        self.describe(&mut runtime, &["exec", &self.id("stays"), "true"]);
        let begin = Instant::now();
        let status = runtime.status()?;
        ensure!(status.success(), "exec: {status}");
        Ok(begin.elapsed())
    }

    /// The numbers of system calls of a run, of a life, and of an exec.
    fn calls(&self, bundle: &Bundle) -> Result<Option<[u64; 3]>> {
        if !Path::new("/usr/bin/strace").exists() {
            return Ok(None);
        }
        let (run, life, stays) = (self.id("run"), self.id("life"), self.id("stays"));
        let lives = self.counted(bundle, &["create", &life])?
            + self.counted(bundle, &["start", &life])?
            + self.counted(bundle, &["delete", "--force", &life])?;
        let run = self.counted(bundle, &["run", &run])?;
        Ok(Some([run, lives, self.counted(bundle, &["exec", &stays, "true"])?]))
    }

    fn counted(&self, bundle: &Bundle, arguments: &[&str]) -> Result<u64> {
        let table = self.state.path().join("strace");
        let mut strace = command(Path::new("/usr/bin/strace"));
        // Not -f for a create: the container would be traced until it ends. Its calls before are its own.
        strace.arg("-c").arg("-o").arg(&table);
        if arguments.first() != Some(&"create") {
            strace.arg("-f");
        }
        strace.arg(&self.program);
        self.describe(&mut strace, arguments);
        let log = self.state.path().join("stderr");
        let status =
            strace.current_dir(bundle.folder()).stderr(fs::File::create(&log)?).status()?;
        let words = arguments.join(" ");
        ensure!(status.success(), "strace {words}: {status}: {}", fs::read_to_string(&log)?);
        total(&fs::read_to_string(&table)?).context("strace wrote no total")
    }

    /// The peak of the runtime's resident memory in KiB, up to when its container's command answers.
    fn peak(&self, bundle: &Bundle) -> Result<u64> {
        let mut runtime = self.command(bundle, &["run", &self.id("peak")]);
        let mut child = runtime.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (mut input, mut output) =
            (child.stdin.take().context("no input")?, child.stdout.take().context("no output")?);
        input.write_all(b"x")?;
        output.read_exact(&mut [0])?;
        let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
        drop(input);
        ensure!(child.wait()?.success(), "run failed");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|it| it.parse().ok()).context("the kernel tells no VmHWM")
    }
}

/// The calls in the last line of strace's table: `100.00 seconds usecs/call calls [errors] total`.
fn total(table: &str) -> Option<u64> {
    let line = table.lines().rev().find(|line| line.trim_end().ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// A container that stays until it is dropped.
struct Container<'a> {
    runtime: &'a Runtime,
    bundle: &'a Bundle,
}

impl<'a> Container<'a> {
    fn start(runtime: &'a Runtime, bundle: &'a Bundle) -> Result<Self> {
        let container = Self { runtime, bundle };
        runtime.ok(bundle, &["run", "--detach", &runtime.id("stays")])?;
        Ok(container)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let id = self.runtime.id("stays");
        let mut delete = self.runtime.command(self.bundle, &["delete", "--force", &id]);
        if let Err(error) = finish(&mut delete).and_then(|output| output.ok().map(drop)) {
            eprintln!("xtask: {}: {error:#}", self.runtime.name);
        }
    }
}
