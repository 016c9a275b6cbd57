//! User, groups, capabilities and filter of a process: who it is and what it may do.
//!
//! ```text
//!   bounding set ─► keep capabilities ─► groups, gid, uid ─► [filter] ─► capabilities ─► no_new_privs
//!                                                              ▲            ─► PDEATHSIG ─► [filter]
//!        without no_new_privs the filter needs CAP_SYS_ADMIN ──┘  with it, it comes last ──┘
//! ```
//!
//! All by raw system calls of this thread: glibc's setuid would look for other threads.

use std::collections::HashSet;
use std::os::fd::{AsRawFd, BorrowedFd};

use dhow_error::{Classify, Kind};
use dhow_seccomp::{Flags, Program};
use dhow_spec::oci_runtime::{Capability, LinuxCapabilities, Process};
use dhow_sys::beneath;
use dhow_sys::caps::{self, CapabilitySet, Sets};
use dhow_sys::process::Reason;
use dhow_sys::rustix::buffer::spare_capacity;
use dhow_sys::rustix::fs::{FileType, OFlags, fstat};
use dhow_sys::rustix::io::{Errno, read};
use dhow_sys::rustix::process::{Gid, Uid};
use dhow_sys::rustix::thread::{
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};
use dhow_sys::seccomp::{self, LoadFlags};

use crate::channel::{Halt, Sender};
use crate::error::LaunchError;
use crate::user;

const STEP: &str = "identity";
/// The largest /etc/passwd or /etc/group that is read.
const LARGEST_FILE: usize = 1024 * 1024;

/// Who a process is to be.
#[derive(Debug)]
pub(crate) struct Identity {
    /// `user[:group]` to look up; else the numbers below count.
    name: Option<String>,
    uid: u32,
    gid: u32,
    /// Supplementary groups, with room for those that are found.
    groups: Vec<u32>,
    gids: Vec<Gid>,
    sets: Sets,
    no_new_privs: bool,
    filter: Option<Filter>,
    /// Room for /etc/passwd and /etc/group, untouched (and so not resident) in the parent.
    passwd: Vec<u8>,
    group: Vec<u8>,
}

impl Identity {
    /// Checks the specification; `warn` is told what cannot be had.
    pub(crate) fn new(
        process: &Process,
        seccomp: Option<&Program>,
        warn: &mut impl FnMut(String),
    ) -> Result<Self, LaunchError> {
        let user = process.user();
        let permitted =
            caps::permitted().map_err(|errno| failed("cannot read capabilities", errno))?;
        let mut groups = Vec::with_capacity(64);
        groups.extend(user.additional_gids().iter().flatten());
        if groups.iter().chain([&user.uid(), &user.gid()]).any(|id| *id == u32::MAX) {
            // setresuid(2) takes it as "as it is", which is root.
            return Err(LaunchError::new(
                "user",
                Kind::Invalid,
                "4294967295 is no user or group id",
            ));
        }
        Ok(Self {
            name: user.username().clone().filter(|name| !name.is_empty()),
            uid: user.uid(),
            gid: user.gid(),
            groups,
            gids: Vec::with_capacity(64),
            sets: sets_of(process.capabilities().as_ref(), permitted, warn),
            no_new_privs: process.no_new_privileges().unwrap_or(false),
            filter: seccomp.map(Filter::new),
            passwd: Vec::with_capacity(LARGEST_FILE),
            group: Vec::with_capacity(LARGEST_FILE),
        })
    }

    /// Finds out, beneath `root`, who the user is; gives its home directory if that is `wanted`.
    pub(crate) fn resolve(
        &mut self,
        root: BorrowedFd<'_>,
        wanted: bool,
    ) -> Result<Option<&[u8]>, LaunchError> {
        if self.name.is_none() && !wanted {
            return Ok(None);
        }
        load(root, b"etc/passwd", &mut self.passwd)?;
        let Some(name) = &self.name else {
            return Ok(user::home_of(self.uid, &self.passwd).or(Some(b"/")));
        };
        load(root, b"etc/group", &mut self.group)?;
        let found = user::resolve(name, &self.passwd, &self.group, &mut self.groups)
            .map_err(|error| LaunchError::new("user", error.kind(), error.to_string()))?;
        (self.uid, self.gid) = (found.uid, found.gid);
        // The primary group is among the supplementary ones, or giving it up would lift a "not for this
        // group" of a file's mode (CVE-2022-36109).
        if !self.groups.contains(&found.gid) {
            self.groups.insert(0, found.gid);
        }
        Ok(Some(found.home.unwrap_or(b"/")).filter(|_| wanted))
    }

    /// The user's id; final once resolved.
    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    /// Becomes that user with those capabilities; loads the filter if that has to come first.
    pub(crate) fn take_on(&mut self, sender: &Sender) -> Result<(), LaunchError> {
        caps::limit_bounding(self.sets.bounding)
            .map_err(|errno| failed("cannot limit the bounding set", errno))?;
        set_keep_capabilities(true).map_err(|errno| failed("cannot keep capabilities", errno))?;
        self.change_user().map_err(|errno| {
            let message = format!("cannot become user {} of group {}", self.uid, self.gid);
            failed(&message, errno)
        })?;
        set_keep_capabilities(false)
            .map_err(|errno| failed("cannot change capabilities", errno))?;
        if !self.no_new_privs && self.filter.is_some() {
            caps::raise_permitted().map_err(|errno| failed("cannot raise capabilities", errno))?;
            self.load_filter(sender)?;
        }
        caps::apply(&self.sets).map_err(|errno| failed("cannot set capabilities", errno))?;
        if self.no_new_privs {
            set_no_new_privs(true).map_err(|errno| failed("cannot set no_new_privs", errno))?;
        }
        Ok(())
    }

    /// Loads the filter where it can come last.
    pub(crate) fn take_on_last(&self, sender: &Sender) -> Result<(), LaunchError> {
        if self.no_new_privs && self.filter.is_some() { self.load_filter(sender) } else { Ok(()) }
    }

    fn change_user(&mut self) -> Result<(), Errno> {
        self.gids.clear();
        self.gids.extend(self.groups.iter().map(|gid| Gid::from_raw(*gid)));
        set_thread_groups(&self.gids)?;
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)
    }

    fn load_filter(&self, sender: &Sender) -> Result<(), LaunchError> {
        let Some(Filter { instructions, flags, notifies }) = &self.filter else { return Ok(()) };
        let doing = |errno| {
            let message = format!("cannot load the seccomp filter: {}", Reason(errno));
            LaunchError::new("seccomp", Kind::Internal, message)
        };
        if !notifies {
            return seccomp::load(instructions, *flags).map_err(doing);
        }
        let listener = seccomp::load_listened(instructions, *flags).map_err(doing)?;
        // From here on any call but this may wait for whom the parent gives it to.
        sender.halt(Halt::Listened(listener.as_raw_fd())).map_err(|errno| {
            let message = format!("cannot hand over the seccomp listener: {}", Reason(errno));
            LaunchError::new("seccomp", Kind::Internal, message)
        })
    }
}

/// A filter to load.
#[derive(Debug)]
struct Filter {
    instructions: Vec<u64>,
    flags: LoadFlags,
    /// Whether it needs a listener.
    notifies: bool,
}

impl Filter {
    fn new(program: &Program) -> Self {
        let notifies = program.notifies();
        let flag = |of: Flags, load: LoadFlags| {
            if program.flags().contains(of) { load } else { LoadFlags::NONE }
        };
        let mut flags =
            flag(Flags::LOG, LoadFlags::LOG) | flag(Flags::SPEC_ALLOW, LoadFlags::SPEC_ALLOW);
        if notifies {
            // The kernel takes it for a listener only.
            flags = flags | flag(Flags::WAIT_KILLABLE, LoadFlags::WAIT_KILLABLE);
        }
        // TSYNC is about other threads, and here is none.
        Self { instructions: program.instructions().to_vec(), flags, notifies }
    }
}

/// Reads a file of the image into `content`, which has the room. A missing one is empty.
fn load(root: BorrowedFd<'_>, path: &[u8], content: &mut Vec<u8>) -> Result<(), LaunchError> {
    let shown = String::from_utf8_lossy(path);
    let doing = |errno| failed(&format!("cannot read /{shown}"), errno);
    // Not blocking: an image may have a FIFO there.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match beneath::open(root, path, flags) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(errno) => return Err(doing(errno)),
    };
    let is_file =
        FileType::from_raw_mode(fstat(&file).map_err(doing)?.st_mode) == FileType::RegularFile;
    if !is_file {
        return Err(LaunchError::new("user", Kind::Invalid, format!("/{shown} is not a file")));
    }
    while content.len() < LARGEST_FILE {
        match read(&file, spare_capacity(content)) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(doing(errno)),
        }
    }
    Err(LaunchError::new("user", Kind::Invalid, format!("/{shown} is larger than 1 MiB")))
}

fn sets_of(
    given: Option<&LinuxCapabilities>,
    permitted: CapabilitySet,
    warn: &mut impl FnMut(String),
) -> Sets {
    let set = |list: Option<&Option<HashSet<Capability>>>| {
        list.into_iter().flatten().flatten().fold(CapabilitySet::empty(), |set, capability| {
            set | caps::by_name(&capability.to_string()).unwrap_or(CapabilitySet::empty())
        })
    };
    let wanted = Sets {
        bounding: set(given.map(LinuxCapabilities::bounding)),
        effective: set(given.map(LinuxCapabilities::effective)),
        permitted: set(given.map(LinuxCapabilities::permitted)),
        inheritable: set(given.map(LinuxCapabilities::inheritable)),
        ambient: set(given.map(LinuxCapabilities::ambient)),
    };
    let missing = (wanted.bounding | wanted.effective | wanted.permitted) & !permitted;
    if !missing.is_empty() {
        let names = caps::names(missing).join(", ");
        warn(format!("capabilities that this machine does not have are left out: {names}"));
    }
    let inheritable = wanted.inheritable & permitted;
    let own_permitted = wanted.permitted & permitted;
    Sets {
        bounding: wanted.bounding & permitted,
        effective: wanted.effective & own_permitted,
        permitted: own_permitted,
        inheritable,
        ambient: wanted.ambient & own_permitted & inheritable,
    }
}

fn failed(message: &str, errno: Errno) -> LaunchError {
    LaunchError::new(STEP, Kind::Internal, format!("{message}: {}", Reason(errno)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_those_wanted_and_had() {
        let mut given = LinuxCapabilities::default();
        let both = HashSet::from([Capability::Chown, Capability::SysResource]);
        given.set_bounding(Some(both.clone())).set_permitted(Some(both.clone()));
        given.set_effective(Some(both.clone())).set_ambient(Some(both));
        let mut warnings = Vec::new();
        let sets = sets_of(Some(&given), CapabilitySet::CHOWN, &mut |text| warnings.push(text));
        assert_eq!(sets.bounding, CapabilitySet::CHOWN);
        assert_eq!(sets.effective, CapabilitySet::CHOWN);
        assert_eq!(sets.ambient, CapabilitySet::empty());
        assert_eq!(
            warnings,
            ["capabilities that this machine does not have are left out: CAP_SYS_RESOURCE"]
        );
    }

    #[test]
    fn without_a_list_there_are_none() {
        let sets = sets_of(None, CapabilitySet::all(), &mut |_| {});
        assert!(sets.bounding.is_empty() && sets.permitted.is_empty());
    }
}
