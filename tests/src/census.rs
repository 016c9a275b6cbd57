//! What dhow may leave on a machine, read from the kernel.
//!
//! [`Traces`] looks for what belongs to one daemon, while others run beside it. [`Census`] counts the
//! whole machine, for the demo, which has it to itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The namespaces that a container has of its own.
const KINDS: [&str; 6] = ["net", "mnt", "pid", "uts", "ipc", "cgroup"];

/// The kernel takes network namespaces apart in the background, after the last process has left; a
/// machine under load takes its time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where one daemon may leave something.
#[derive(Debug, Clone)]
pub struct Traces {
    /// Its bridge, after which its nftables table and cgroup parent are named.
    pub bridge: String,
    /// The folder of its root, run folder and socket.
    pub folder: PathBuf,
}

impl Traces {
    /// What is still there of it after the kernel had time to clean up, one line each.
    ///
    /// # Errors
    /// If the kernel's files cannot be read.
    pub fn left(&self) -> Result<Vec<String>> {
        settled(|| self.found())
    }

    /// What is there of it at this moment, one line each.
    ///
    /// # Errors
    /// If the kernel's files cannot be read.
    pub fn found(&self) -> Result<Vec<String>> {
        let folder = self.folder.to_string_lossy();
        let mut found = Vec::new();
        let mine = |line: &String| line.contains(&*folder) || line.contains(&self.bridge);
        let census = Census::take()?;
        found.extend(census.mounts.into_iter().filter(mine).map(|it| format!("mount {it}")));
        found.extend(census.cgroups.into_iter().filter(mine).map(|it| format!("cgroup {it}")));
        found.extend(census.interfaces.into_iter().filter(mine).map(|it| format!("link {it}")));
        found.extend(census.tables.into_iter().filter(mine).map(|it| format!("table {it}")));
        found.extend(
            processes_of(&self.folder)
                .into_iter()
                .map(|pid| format!("process {pid} {}", command_line(pid).unwrap_or_default())),
        );
        if self.folder.join("run").exists() {
            found.push(format!("folder {folder}/run"));
        }
        Ok(found)
    }
}

/// Everything on this machine that a container engine could leave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Running processes of dhow, and those in namespaces other than ours, `PID COMMAND`.
    pub processes: BTreeSet<String>,
    /// Mount points of this mount namespace.
    pub mounts: BTreeSet<String>,
    /// Namespaces that some process is in.
    pub namespaces: BTreeSet<String>,
    /// Control groups of every hierarchy.
    pub cgroups: BTreeSet<String>,
    /// Network interfaces of this network namespace.
    pub interfaces: BTreeSet<String>,
    /// nftables tables of this network namespace, `FAMILY NAME`.
    pub tables: BTreeSet<String>,
    /// Files and folders of dhow where such things lie.
    pub files: BTreeSet<String>,
}

impl Census {
    /// Counts.
    ///
    /// # Errors
    /// If the kernel's files cannot be read.
    pub fn take() -> Result<Self> {
        let mut census = Self::default();
        let mut own_namespaces = BTreeSet::new();
        for kind in KINDS {
            own_namespaces.insert(fs::read_link(format!("/proc/self/ns/{kind}"))?);
        }
        for pid in pids() {
            let elsewhere = KINDS.iter().any(|kind| {
                let link = fs::read_link(format!("/proc/{pid}/ns/{kind}"));
                link.is_ok_and(|link| !own_namespaces.contains(&link))
            });
            // A process may end while we look; kernel threads have no command line.
            let Some(line) = command_line(pid).filter(|line| !line.is_empty()) else { continue };
            if elsewhere || line.contains("dhow") && !line.contains("xtask") {
                census.processes.insert(format!("{pid} {line}"));
            }
            for kind in KINDS {
                if let Ok(link) = fs::read_link(format!("/proc/{pid}/ns/{kind}")) {
                    census.namespaces.insert(link.to_string_lossy().into_owned());
                }
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read mounts")?;
        census.mounts = mounts.lines().filter_map(mount_point).collect();
        folders_below(Path::new("/sys/fs/cgroup"), &mut census.cgroups);
        for entry in fs::read_dir("/sys/class/net").context("cannot list interfaces")? {
            census.interfaces.insert(entry?.file_name().to_string_lossy().into_owned());
        }
        census.tables = tables()?;
        for folder in ["/run", "/tmp", "/var/lib", "/var/tmp"] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().contains("dhow") {
                    census.files.insert(entry.path().to_string_lossy().into_owned());
                }
            }
        }
        Ok(census)
    }

    /// What is on the machine and was not at the time of `before`, after the kernel had time to clean
    /// up, one line each.
    ///
    /// # Errors
    /// If the kernel's files cannot be read.
    pub fn left_since(before: &Self) -> Result<Vec<String>> {
        settled(|| Ok(Self::take()?.since(before)))
    }

    /// What is here and was not in `before`, one line each.
    fn since(&self, before: &Self) -> Vec<String> {
        let kinds = [
            ("process", &self.processes, &before.processes),
            ("mount", &self.mounts, &before.mounts),
            ("namespace", &self.namespaces, &before.namespaces),
            ("cgroup", &self.cgroups, &before.cgroups),
            ("interface", &self.interfaces, &before.interfaces),
            ("nftables table", &self.tables, &before.tables),
            ("file", &self.files, &before.files),
        ];
        let new = |(kind, now, then): (&str, &BTreeSet<String>, &BTreeSet<String>)| {
            now.difference(then).map(|name| format!("{kind} {name}")).collect::<Vec<_>>()
        };
        kinds.into_iter().flat_map(new).collect()
    }
}

/// Looks until nothing is left, or patience is at its end.
fn settled(look: impl Fn() -> Result<Vec<String>>) -> Result<Vec<String>> {
    let begin = Instant::now();
    loop {
        let left = look()?;
        if left.is_empty() || begin.elapsed() > PATIENCE {
            return Ok(left);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Kills whatever still has files open in `folder`: the last resort of a failed test.
pub fn end_processes_of(folder: &Path) {
    use dhow_sys::rustix::process::{Pid, Signal, kill_process};
    for pid in processes_of(folder) {
        if let Some(pid) = Pid::from_raw(pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Ends what is in the control groups of this name, and removes them: the last resort of a failed test.
pub fn remove_cgroups(name: &str) {
    use dhow_sys::rustix::process::{Pid, Signal, kill_process};
    let mut folders = BTreeSet::new();
    folders_below(Path::new("/sys/fs/cgroup"), &mut folders);
    let of_name = |folder: &&String| Path::new(folder).iter().any(|part| part == name);
    // The deepest come first.
    for folder in folders.iter().rev().filter(of_name) {
        let members = fs::read_to_string(format!("{folder}/cgroup.procs")).unwrap_or_default();
        for pid in members.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let begin = Instant::now();
        while fs::remove_dir(folder).is_err() && begin.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Processes other than this one that hold a file in `folder` open.
fn processes_of(folder: &Path) -> Vec<i32> {
    let own = std::process::id().cast_signed();
    let holds = |pid: &i32| {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        files.flatten().any(|file| {
            fs::read_link(file.path()).is_ok_and(|target| {
                // The daemon's log is held by whoever started it, too.
                target.starts_with(folder) && !target.ends_with("daemon.log")
            })
        })
    };
    pids().into_iter().filter(|pid| *pid != own).filter(holds).collect()
}

/// The ids of all processes.
fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// What a process was started as.
fn command_line(pid: i32) -> Option<String> {
    let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&words).replace('\0', " "))
}

/// The mount point of a line of mountinfo (proc_pid_mountinfo(5)).
fn mount_point(line: &str) -> Option<String> {
    line.split(' ').nth(4).map(str::to_owned)
}

/// All folders below `folder`, which may vanish while we look.
fn folders_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.insert(entry.path().to_string_lossy().into_owned());
            folders_below(&entry.path(), found);
        }
    }
}

/// All nftables tables, by the `nft` command where it is installed.
fn tables() -> Result<BTreeSet<String>> {
    let nft = Path::new("/usr/sbin/nft");
    if !nft.exists() {
        return Ok(BTreeSet::new());
    }
    let list = crate::daemon::finish(crate::daemon::command(nft).args(["list", "tables"]))?.ok()?;
    Ok(list.lines().map(|line| line.trim_start_matches("table ").to_owned()).collect())
}
