//! One cgroup: making it, limiting it, putting processes into it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dhow_spec::oci_runtime::LinuxResources;
use dhow_sys::process::Reason;
use dhow_sys::rustix::fs::{Mode as Permissions, OFlags, mkdir, open, rmdir};
use dhow_sys::rustix::io::{Errno, write as write_fd};

use crate::control;
use crate::controller::Controller;
use crate::error::CgroupError;
use crate::layout::{Hierarchy, Layout, Mode};
use crate::place::Place;
use crate::{Result, resources, v2};

const PERMISSIONS: Permissions = Permissions::from_raw_mode(0o755);

/// A cgroup: one path in every hierarchy of a [`Layout`].
#[derive(Debug, Clone)]
pub struct Cgroup {
    pub(crate) layout: Layout,
    pub(crate) place: Place,
}

/// Opened doors into a cgroup, for a process that moves itself. See the crate's documentation for why.
#[derive(Debug)]
pub struct Entry {
    tasks: Vec<OwnedFd>,
    directory: Option<OwnedFd>,
}

impl Cgroup {
    pub(crate) fn new(layout: Layout, place: &str) -> Self {
        Self { layout, place: Place::parse(place) }
    }

    /// The path below each hierarchy's mount point, but for those where a relative path led elsewhere.
    pub fn path(&self) -> &str {
        &self.place.path
    }

    /// Mount point and path of the cgroup in every hierarchy, v1 first.
    pub fn directories(&self) -> impl Iterator<Item = (&str, &str)> {
        self.layout
            .hierarchies()
            .map(|hierarchy| (hierarchy.mount.as_str(), self.place.path_in(hierarchy)))
    }

    /// Sets the limits that are given; what is absent stays as it is. Called again on a running
    /// container it updates the limits, in the order the kernel wants when raising or lowering.
    ///
    /// Units are the OCI runtime-spec's (config-linux.md): bytes; CPU quota, period and burst in
    /// microseconds; -1 is unlimited where the spec says so; `memory.swap` is memory plus swap.
    /// A non-empty device list starts from "deny all".
    ///
    /// Discarded as Docker and runc do: `memory.kernel` and `memory.kernelTCP` (gone from the kernel, or
    /// about to); `memory.useHierarchy` (always so); a swap limit on a kernel without swap accounting;
    /// swappiness and disabling the OOM killer on cgroup2.
    ///
    /// # Errors
    /// [`CgroupError::Set`] when the kernel refuses, [`CgroupError::BadValue`] for values that no kernel
    /// takes, [`CgroupError::NoController`] and [`CgroupError::Unsupported`] for limits that cannot be
    /// had here. Limits set before the failing one stay set.
    pub fn apply(&self, resources: &LinuxResources) -> Result<()> {
        self.place.check()?;
        resources::apply(self, resources)
    }

    /// Opens what a new process needs to move itself in: v1's `tasks` files and, where there is a
    /// cgroup2 tree, its directory for CLONE_INTO_CGROUP. All close-on-exec.
    ///
    /// # Errors
    /// [`CgroupError::Control`] when one cannot be opened.
    pub fn entry(&self) -> Result<Entry> {
        let mut tasks = Vec::with_capacity(self.layout.v1_hierarchies().len());
        for hierarchy in self.layout.v1_hierarchies() {
            let file = self.file(hierarchy, "tasks");
            let opened =
                open(file.as_str(), OFlags::WRONLY | OFlags::CLOEXEC, Permissions::empty());
            tasks.push(opened.map_err(|errno| control_error("open", &file, errno))?);
        }
        let directory = self.layout.cgroup2().map(|tree| self.open_directory(tree)).transpose()?;
        Ok(Entry { tasks, directory })
    }

    /// Moves a process into every hierarchy. Costs milliseconds (see [`Entry`] for the fast way).
    ///
    /// # Errors
    /// [`CgroupError::Add`]; the process may then be in some hierarchies and not in others.
    pub fn add(&self, pid: i32) -> Result<()> {
        let text = pid.to_string();
        for hierarchy in self.layout.hierarchies() {
            let file = self.file(hierarchy, "cgroup.procs");
            control::write(&file, &text).map_err(|errno| CgroupError::Add {
                pid,
                directory: self.directory_of(hierarchy),
                source: Reason(errno),
            })?;
        }
        Ok(())
    }

    /// The cgroup's directory on a pure cgroup2 machine, for CLONE_INTO_CGROUP; None elsewhere, where
    /// being born into one directory is not enough ([`Cgroup::entry`] serves all modes).
    ///
    /// # Errors
    /// [`CgroupError::Control`] when it cannot be opened.
    pub fn directory(&self) -> Result<Option<OwnedFd>> {
        match (self.layout.mode(), self.layout.cgroup2()) {
            (Mode::V2, Some(tree)) => self.open_directory(tree).map(Some),
            _ => Ok(None),
        }
    }

    /// Whether the cgroup exists in at least one hierarchy.
    pub fn exists(&self) -> bool {
        use dhow_sys::rustix::fs::{Access, access};
        self.layout
            .hierarchies()
            .any(|hierarchy| access(self.directory_of(hierarchy), Access::EXISTS).is_ok())
    }

    /// Refuses a cgroup that is there and has processes in it or stands still: no new container may have it.
    /// [`Layout::create`] does the same; this is for who has to know before. One that is not there is fine.
    ///
    /// # Errors
    /// [`CgroupError::BadPath`], [`CgroupError::NotEmpty`], [`CgroupError::Frozen`], [`CgroupError::Control`].
    pub fn check_unused(&self) -> Result<()> {
        self.place.check()?;
        let path = || self.path().to_owned();
        match self.procs()?.len() {
            0 => {}
            count => return Err(CgroupError::NotEmpty { path: path(), count }),
        }
        if self.is_frozen()? { Err(CgroupError::Frozen { path: path() }) } else { Ok(()) }
    }

    /// The directory in one hierarchy.
    pub(crate) fn directory_of(&self, hierarchy: &Hierarchy) -> String {
        hierarchy.directory(self.place.path_in(hierarchy))
    }

    /// A control file in one hierarchy.
    pub(crate) fn file(&self, hierarchy: &Hierarchy, name: &str) -> String {
        [hierarchy.mount.as_str(), self.place.path_in(hierarchy), "/", name].concat()
    }

    fn open_directory(&self, hierarchy: &Hierarchy) -> Result<OwnedFd> {
        let directory = self.directory_of(hierarchy);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        open(directory.as_str(), flags, Permissions::empty())
            .map_err(|errno| control_error("open", &directory, errno))
    }

    /// mkdir in every hierarchy; removes again what it made if one fails.
    pub(crate) fn make(&self) -> Result<()> {
        self.place.check()?;
        let mut made = Made::default();
        let result = self
            .layout
            .hierarchies()
            .try_for_each(|hierarchy| self.make_in(hierarchy, &mut made))
            .and_then(|()| if made.was_there { self.check_unused() } else { Ok(()) });
        if result.is_err() {
            for directory in made.directories.iter().rev() {
                // Best effort: the first failure is the one to report.
                let _ = rmdir(directory.as_str());
            }
        }
        result
    }

    fn make_in(&self, hierarchy: &Hierarchy, made: &mut Made) -> Result<()> {
        let directory = self.directory_of(hierarchy);
        match mkdir(directory.as_str(), PERMISSIONS) {
            Err(Errno::NOENT) => self.make_with_parents(hierarchy, made)?,
            Err(Errno::EXIST) => made.was_there = true,
            other => made.note(other, directory.clone())?,
        }
        if hierarchy.controllers.contains(Controller::Cpuset) && !self.is_unified(hierarchy) {
            inherit_cpuset(&hierarchy.mount, &directory)?;
        }
        if self.layout.mode() == Mode::V2 {
            let path = self.place.path_in(hierarchy);
            v2::enable_controllers(hierarchy, path, hierarchy.controllers);
        }
        Ok(())
    }

    /// Every directory from the mount point down to this cgroup.
    fn make_with_parents(&self, hierarchy: &Hierarchy, made: &mut Made) -> Result<()> {
        for prefix in prefixes(self.place.path_in(hierarchy)) {
            let directory = hierarchy.directory(prefix);
            made.note(mkdir(directory.as_str(), PERMISSIONS), directory)?;
        }
        Ok(())
    }

    pub(crate) fn is_unified(&self, hierarchy: &Hierarchy) -> bool {
        self.layout.cgroup2().is_some_and(|tree| std::ptr::eq(tree, hierarchy))
    }
}

impl Entry {
    /// The cgroup2 directory for clone3's CLONE_INTO_CGROUP, where there is a cgroup2 tree.
    pub fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.directory.as_ref().map(AsFd::as_fd)
    }

    /// That directory, kept no longer with the rest.
    pub fn take_directory(&mut self) -> Option<OwnedFd> {
        self.directory.take()
    }

    /// The descriptors that [`Entry::enter`] uses.
    pub fn tasks(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.tasks.iter().map(AsFd::as_fd)
    }

    /// Moves the calling thread into the v1 hierarchies. For a process of one thread, such as a child
    /// just cloned into [`Entry::directory`]. Allocates nothing.
    ///
    /// # Errors
    /// The kernel's: ENOSPC for an empty cpuset, ENODEV for a removed cgroup.
    pub fn enter(&self) -> Result<(), Errno> {
        for tasks in &self.tasks {
            while let Err(errno) = write_fd(tasks, b"0") {
                if errno != Errno::INTR {
                    return Err(errno);
                }
            }
        }
        Ok(())
    }
}

pub(crate) fn control_error(action: &'static str, file: &str, errno: Errno) -> CgroupError {
    CgroupError::Control { action, file: file.to_owned(), source: Reason(errno) }
}

/// "/a/b/c" gives "/a", "/a/b", "/a/b/c".
pub(crate) fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/')
        .map(|(at, _)| at)
        .skip(1)
        .chain([path.len()])
        .filter_map(|end| path.get(..end))
}

/// What making a cgroup found and did.
#[derive(Default)]
struct Made {
    directories: Vec<String>,
    /// Whether the cgroup itself was there before in some hierarchy.
    was_there: bool,
}

impl Made {
    fn note(&mut self, result: Result<(), Errno>, directory: String) -> Result<()> {
        match result {
            Ok(()) => self.directories.push(directory),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(CgroupError::Create { directory, source: Reason(errno) }),
        }
        Ok(())
    }
}

/// A v1 cpuset starts without processors and nodes, and then takes no process (ENOSPC): copies the
/// parent's, which may itself have to inherit first. One read if it is filled already.
///
/// Below the root the parent is then told to fill its children itself, which saves the next ones a dozen
/// system calls. Only an optimisation, so a refusal does not matter.
fn inherit_cpuset(mount: &str, directory: &str) -> Result<()> {
    let fail = |errno: Errno| CgroupError::InheritCpuset {
        directory: directory.to_owned(),
        source: Reason(errno),
    };
    let mems = [directory, "/cpuset.mems"].concat();
    if !control::read(&mems).map_err(fail)?.trim().is_empty() || directory == mount {
        return Ok(());
    }
    let Some((parent, _)) = directory.rsplit_once('/') else { return Ok(()) };
    inherit_cpuset(mount, parent)?;
    for name in ["/cpuset.cpus", "/cpuset.mems"] {
        let mine = [directory, name].concat();
        if control::read(&mine).map_err(fail)?.trim().is_empty() {
            let value = control::read(&[parent, name].concat()).map_err(fail)?;
            control::write(&mine, value.trim()).map_err(fail)?;
        }
    }
    if parent != mount {
        let _ = control::write(&[parent, "/cgroup.clone_children"].concat(), "1");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_go_from_the_top() {
        assert_eq!(prefixes("/a/b/c").collect::<Vec<_>>(), ["/a", "/a/b", "/a/b/c"]);
        assert_eq!(prefixes("/a").collect::<Vec<_>>(), ["/a"]);
    }
}
