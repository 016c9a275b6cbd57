//! Starting a container's first process in a user namespace.
//!
//! ```text
//!   parent:  plan ─► namespace made or opened ─► cgroup, root's file system ─► clone3 ─► listens
//!                                                                                │
//!   outer process:  enters cgroup ─► joins namespaces by path ─► OOM score, hard limits, schedule
//!                   ─► streams given to the container's root ─► sources opened ─► joins the user namespace
//!                   ─► clone(CLONE_PARENT, all other namespaces) ─► successor(pid) ─► ends
//!                        │
//!   first process:       becomes root inside ─► goes on as without a user namespace
//! ```
//!
//! The outer process is there because what the host owns can only be reached with the host's privileges, and
//! the other namespaces must belong to the user namespace. It and the first process are not dumpable: their
//! memory belongs to the host's user namespace, so that nobody inside can trace them or look into their
//! /proc/PID, whatever he may do there (CVE-2016-9962).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use dhow_error::Kind;
use dhow_rootfs::id_maps;
use dhow_spec::oci_runtime::Linux;
use dhow_sys::namespace::{self, Namespaces};
use dhow_sys::process::Reason;
use dhow_sys::rustix::io::Errno;
use dhow_sys::rustix::process::{DumpableBehavior, Gid, Uid, set_dumpable_behavior};
use dhow_sys::rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use dhow_sys::userns::{self, Maps, outside};

use crate::error::LaunchError;
use crate::namespaces::Wanted;

const STEP: &str = "namespaces";

/// A user namespace that is there, and who its root is on the host.
#[derive(Debug)]
pub(crate) struct UserNamespace {
    namespace: OwnedFd,
    root: HostIds,
}

/// Who the container's root is on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HostIds {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl UserNamespace {
    /// Makes the namespace or opens the one of a path. In the parent.
    pub(crate) fn get(wanted: Wanted, linux: Option<&Linux>) -> Result<Self, LaunchError> {
        let given = id_maps(
            linux.and_then(|linux| linux.uid_mappings().as_ref()),
            linux.and_then(|linux| linux.gid_mappings().as_ref()),
        )
        .map_err(|error| invalid(&format!("linux.{error}")))?;
        let (namespace, maps) = match wanted {
            Wanted::New => (make(&given)?, given),
            Wanted::Path(namespace) => {
                let maps = examine(&namespace, &given)?;
                (namespace, maps)
            }
        };
        match (outside(&maps.users, 0), outside(&maps.groups, 0)) {
            (Some(uid), Some(gid)) => Ok(Self { namespace, root: HostIds { uid, gid } }),
            (None, _) => Err(unmapped("uidMappings")),
            (_, None) => Err(unmapped("gidMappings")),
        }
    }

    /// Who its root is on the host.
    pub(crate) fn root(&self) -> HostIds {
        self.root
    }

    /// Moves this process into it, with all its capabilities and none of the host's. Who can trace everybody
    /// in there cannot trace this process.
    pub(crate) fn enter(&self) -> Result<(), LaunchError> {
        shield()?;
        namespace::join(self.namespace.as_fd(), Namespaces::USER)
            .map_err(|errno| failed("cannot enter the user namespace", errno))
    }
}

impl AsFd for UserNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}

/// Who the root of a running container's user namespace is on the host; none without such a namespace.
pub(crate) fn root_of(container: BorrowedFd<'_>) -> Result<Option<HostIds>, LaunchError> {
    let gone = || LaunchError::new(STEP, Kind::Conflict, "the container is not running");
    let pid = pid_of(container).filter(|pid| *pid > 0).ok_or_else(gone)?;
    match userns::maps_of_process(pid) {
        Ok(None) => Ok(None),
        Ok(Some(maps)) => match (outside(&maps.users, 0), outside(&maps.groups, 0)) {
            (Some(uid), Some(gid)) => Ok(Some(HostIds { uid, gid })),
            _ => Err(invalid("the container's user namespace maps no root")),
        },
        Err(Errno::NOENT | Errno::SRCH) => Err(gone()),
        Err(errno) => Err(failed("cannot examine the container's user namespace", errno)),
    }
}

/// The pid of a pid descriptor (proc_pid_fdinfo(5)); that of a process that has been reaped is negative.
fn pid_of(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
}

/// Makes this process undumpable, and what it forks.
pub(crate) fn shield() -> Result<(), LaunchError> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|errno| failed("cannot become undumpable", errno))
}

/// Makes this process root in the user namespace that it has entered, with no other group.
pub(crate) fn become_root() -> Result<(), LaunchError> {
    // Where setgroups is denied there is none to give up but those that the namespace's maker wanted.
    let groups = match set_thread_groups(&[]) {
        Err(Errno::PERM) => Ok(()),
        other => other,
    };
    groups
        .and_then(|()| set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT))
        .and_then(|()| set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT))
        .map_err(|errno| failed("cannot become root of the user namespace", errno))
}

/// Maps without a user namespace have no meaning.
pub(crate) fn refuse_maps(linux: Option<&Linux>) -> Result<(), LaunchError> {
    let Some(linux) = linux else { return Ok(()) };
    for (field, list) in
        [("uidMappings", linux.uid_mappings()), ("gidMappings", linux.gid_mappings())]
    {
        if list.iter().flatten().next().is_some() {
            let message = format!("linux.{field} needs a user namespace in linux.namespaces");
            return Err(invalid(&message));
        }
    }
    Ok(())
}

fn make(maps: &Maps) -> Result<OwnedFd, LaunchError> {
    for (field, ranges) in [("uidMappings", &maps.users), ("gidMappings", &maps.groups)] {
        if ranges.is_empty() {
            let message = format!("linux.{field}: a new user namespace needs a mapping");
            return Err(invalid(&message));
        }
    }
    userns::make(maps).map_err(|error| {
        let field = match error.step {
            userns::Step::Users => "linux.uidMappings: ",
            userns::Step::Groups => "linux.gidMappings: ",
            userns::Step::Enter | userns::Step::Open => "",
        };
        let message = format!("{field}cannot make a user namespace: {error}");
        let error_is = |errno| error.errno == errno;
        let told = LaunchError::new(STEP, Kind::Invalid, message);
        if error_is(Errno::INVAL) {
            told.with_hint("ranges must not overlap, and the outer ids must be there")
        } else if error_is(Errno::NOSPC) {
            told.with_hint("sysctl user.max_user_namespaces allows no more")
        } else {
            told
        }
    })
}

/// The maps of an existing namespace, which must be those given if any are.
fn examine(namespace: &OwnedFd, given: &Maps) -> Result<Maps, LaunchError> {
    let maps = userns::maps_of(namespace.as_fd()).map_err(|error| {
        invalid(&format!("linux.namespaces: cannot join the user namespace: {error}"))
    })?;
    let differs = |given: &Vec<_>, real: &Vec<_>| !given.is_empty() && given != real;
    if differs(&given.users, &maps.users) || differs(&given.groups, &maps.groups) {
        let message = "linux.uidMappings and linux.gidMappings are not those of the user namespace";
        return Err(invalid(message).with_hint("leave them out where one is joined by its path"));
    }
    Ok(maps)
}

fn unmapped(field: &str) -> LaunchError {
    invalid(&format!("linux.{field}: id 0 is not mapped"))
        .with_hint("what is done for a container before its command is done as its root")
}

fn invalid(message: &str) -> LaunchError {
    LaunchError::new(STEP, Kind::Invalid, message)
}

fn failed(message: &str, errno: Errno) -> LaunchError {
    LaunchError::new(STEP, Kind::Internal, format!("{message}: {}", Reason(errno)))
}
