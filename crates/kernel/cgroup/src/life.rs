//! Who is in a cgroup, and its end: procs, kill, freeze, thaw, destroy.
//!
//! A container may have made cgroups below its own, so all of these look at the whole subtree. Waiting
//! is always bounded; between two looks the thread sleeps a little longer each time.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use dhow_sys::process::Reason;
use dhow_sys::rustix::fs::{Dir, FileType, Mode as Permissions, OFlags, open, rmdir, stat};
use dhow_sys::rustix::io::Errno;
use dhow_sys::rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::Result;
use crate::control;
use crate::controller::Controller;
use crate::error::CgroupError;
use crate::group::{Cgroup, control_error};
use crate::layout::Hierarchy;

const KILL_GRACE: Duration = Duration::from_secs(10);
const FREEZE_GRACE: Duration = Duration::from_secs(10);
const RMDIR_GRACE: Duration = Duration::from_secs(2);

impl Cgroup {
    /// The processes in it and below it, ascending. Empty if the cgroup does not exist.
    ///
    /// # Errors
    /// [`CgroupError::Control`] when the kernel's list cannot be read.
    pub fn procs(&self) -> Result<Vec<i32>> {
        let mut pids = BTreeSet::new();
        if let Some(hierarchy) = self.process_hierarchy() {
            collect_procs(&self.directory_of(hierarchy), &mut pids)?;
        }
        Ok(pids.into_iter().collect())
    }

    /// Kills everything in it with SIGKILL and returns when nothing is left, frozen or not. Nothing in
    /// it, or no such cgroup, is fine.
    ///
    /// # Errors
    /// [`CgroupError::Unkillable`] if processes are left after 10 s.
    pub fn kill(&self) -> Result<()> {
        if let Some(tree) = self.layout.cgroup2() {
            // Linux 5.14; kills the subtree in one go. The loop below takes the rest, or all of it.
            let _ = control::write(&self.file(tree, "cgroup.kill"), "1");
        }
        let mut pause = Pause::new(KILL_GRACE);
        loop {
            let pids = self.signal_all()?;
            if pids.is_empty() {
                return Ok(());
            }
            // A frozen v1 process dies only when thawed.
            if let Some(freezer) = self.layout.v1(Controller::Freezer) {
                let _ = control::write(&self.file(freezer, "freezer.state"), "THAWED");
            }
            if !pause.wait() {
                return Err(CgroupError::Unkillable { path: self.path().to_owned(), pids });
            }
        }
    }

    /// Stops everything in it, and returns when it stands still.
    ///
    /// # Errors
    /// [`CgroupError::Freeze`] after 10 s (it is thawed again), [`CgroupError::NoController`],
    /// [`CgroupError::Control`].
    pub fn freeze(&self) -> Result<()> {
        let result = self.set_frozen(true);
        if matches!(result, Err(CgroupError::Freeze { .. })) {
            // Half frozen is worse than not: the timeout is what gets reported.
            let _ = self.set_frozen(false);
        }
        result
    }

    /// Lets everything in it go on.
    ///
    /// # Errors
    /// As [`Cgroup::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.set_frozen(false)
    }

    /// Removes it from every hierarchy, with cgroups that were made below it. It must have no
    /// processes; those still dying are waited for, 2 s at most. One that is absent is fine.
    ///
    /// # Errors
    /// [`CgroupError::Destroy`]; the other hierarchies have been tried all the same.
    pub fn destroy(&self) -> Result<()> {
        self.place.check()?;
        let mut result = Ok(());
        for hierarchy in self.layout.hierarchies() {
            let directory = self.directory_of(hierarchy);
            if let Err(errno) = remove(&directory) {
                result = Err(CgroupError::Destroy { directory, source: Reason(errno) });
            }
        }
        result
    }

    pub(crate) fn remove_if_empty(&self) -> Result<bool> {
        self.place.check()?;
        let mut gone = true;
        for hierarchy in self.layout.hierarchies() {
            let directory = self.directory_of(hierarchy);
            match rmdir(directory.as_str()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::BUSY | Errno::NOTEMPTY) => gone = false,
                Err(errno) => {
                    return Err(CgroupError::Destroy { directory, source: Reason(errno) });
                }
            }
        }
        Ok(gone)
    }

    /// The hierarchy whose membership counts: that of a limit which a container cannot do without.
    fn process_hierarchy(&self) -> Option<&Hierarchy> {
        [Controller::Pids, Controller::Memory, Controller::Devices]
            .into_iter()
            .find_map(|controller| self.layout.v1(controller))
            .or_else(|| self.layout.cgroup2())
            .or_else(|| self.layout.v1_hierarchies().first())
    }

    /// Sends SIGKILL to all and returns whom. A pid may be taken over by a stranger between being
    /// listed and being opened, so only those that a second list still has are signalled.
    fn signal_all(&self) -> Result<Vec<i32>> {
        let first = self.procs()?;
        if first.is_empty() {
            return Ok(first);
        }
        let opened: Vec<_> = first
            .into_iter()
            .filter_map(|pid| {
                let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
                Some((pid, pidfd))
            })
            .collect();
        let second = self.procs()?;
        for (pid, pidfd) in &opened {
            if second.binary_search(pid).is_ok() {
                // ESRCH: it died by itself meanwhile.
                let _ = pidfd_send_signal(pidfd, Signal::KILL);
            }
        }
        Ok(second)
    }

    fn set_frozen(&self, frozen: bool) -> Result<()> {
        let state = if frozen { "frozen" } else { "thawed" };
        let (file, value, is_v1) = if let Some(freezer) = self.layout.v1(Controller::Freezer) {
            let value = if frozen { "FROZEN" } else { "THAWED" };
            (self.file(freezer, "freezer.state"), value, true)
        } else if let Some(tree) = self.layout.cgroup2() {
            (self.file(tree, "cgroup.freeze"), if frozen { "1" } else { "0" }, false)
        } else {
            return Err(CgroupError::NoController {
                what: "state",
                value: state.to_owned(),
                path: self.path().to_owned(),
                controller: Controller::Freezer.name(),
                hint: self.layout.missing_hint(Controller::Freezer),
            });
        };
        let mut pause = Pause::new(FREEZE_GRACE);
        loop {
            // v1 may be stuck at FREEZING while processes fork; writing again makes it look anew.
            control::write(&file, value).map_err(|errno| control_error("write", &file, errno))?;
            let reached = if is_v1 {
                let now =
                    control::read(&file).map_err(|errno| control_error("read", &file, errno))?;
                now.trim() == value
            } else {
                self.v2_frozen()? == frozen
            };
            if reached {
                return Ok(());
            }
            if !pause.wait() {
                let seconds = FREEZE_GRACE.as_secs();
                return Err(CgroupError::Freeze { path: self.path().to_owned(), state, seconds });
            }
        }
    }

    /// Whether it is frozen or about to be. A cgroup without a freezer never is.
    ///
    /// # Errors
    /// [`CgroupError::Control`] when the state cannot be read.
    pub fn is_frozen(&self) -> Result<bool> {
        let Some(freezer) = self.layout.v1(Controller::Freezer) else { return self.v2_frozen() };
        let file = self.file(freezer, "freezer.state");
        match control::read(&file) {
            Ok(state) => Ok(state.trim() != "THAWED"),
            Err(Errno::NOENT | Errno::NODEV) => Ok(false),
            Err(errno) => Err(control_error("read", &file, errno)),
        }
    }

    fn v2_frozen(&self) -> Result<bool> {
        let Some(tree) = self.layout.cgroup2() else { return Ok(false) };
        let file = self.file(tree, "cgroup.events");
        match control::read(&file) {
            Ok(text) => Ok(control::keyed(&text, "frozen") == Some(1)),
            Err(Errno::NOENT | Errno::NODEV) => Ok(false),
            Err(errno) => Err(control_error("read", &file, errno)),
        }
    }
}

/// Sleeps that grow from 50 µs to 5 ms, until a deadline.
struct Pause {
    deadline: Instant,
    next: Duration,
}

impl Pause {
    fn new(grace: Duration) -> Self {
        Self { deadline: Instant::now() + grace, next: Duration::from_micros(50) }
    }

    /// Sleeps once; false if the deadline has passed.
    fn wait(&mut self) -> bool {
        if Instant::now() >= self.deadline {
            return false;
        }
        std::thread::sleep(self.next);
        self.next = (self.next * 2).min(Duration::from_millis(5));
        true
    }
}

fn collect_procs(directory: &str, pids: &mut BTreeSet<i32>) -> Result<()> {
    let file = [directory, "/cgroup.procs"].concat();
    match control::read(&file) {
        Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
        // Removed meanwhile; or a threaded cgroup2, whose processes its domain lists.
        Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => {}
        Err(errno) => return Err(control_error("read", &file, errno)),
    }
    for child in children(directory) {
        collect_procs(&child, pids)?;
    }
    Ok(())
}

/// Removes a cgroup and those below it, waiting for the dying.
fn remove(directory: &str) -> Result<(), Errno> {
    let mut pause = Pause::new(RMDIR_GRACE);
    loop {
        match rmdir(directory) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY | Errno::NOTEMPTY) => {}
            Err(errno) => return Err(errno),
        }
        let below = children(directory);
        for child in &below {
            remove(child)?;
        }
        if below.is_empty() && !pause.wait() {
            return Err(Errno::BUSY);
        }
    }
}

/// The cgroups directly below one. A directory's link count tells without reading whether there are any.
fn children(directory: &str) -> Vec<String> {
    if !stat(directory).is_ok_and(|status| status.st_nlink > 2) {
        return Vec::new();
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(opened) = open(directory, flags, Permissions::empty()) else { return Vec::new() };
    let Ok(entries) = Dir::new(opened) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type() == FileType::Directory)
        .filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned))
        .filter(|name| name != "." && name != "..")
        .map(|name| [directory, "/", &name].concat())
        .collect()
}
