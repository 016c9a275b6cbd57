//! Which namespaces a container makes, joins or shares with the host.
//!
//! An entry without a path makes a new one, an entry with a path joins that one, no entry shares the
//! host's (OCI runtime specification, config-linux.md, "Namespaces"). A network entry without a path joins
//! the descriptor that the caller gives, if it gives one.
//!
//! Most are made by clone. Two are not: a cgroup namespace shows the cgroup in which it was made, so the
//! process must be there before; a time namespace takes its offsets only while nobody is in it. User
//! namespaces are the business of [`crate::userns`].

use std::ffi::{CStr, CString};
use std::fmt::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use dhow_error::Kind;
use dhow_spec::oci_runtime::{Linux, LinuxNamespaceType, Spec};
use dhow_sys::namespace::{self, Namespaces};
use dhow_sys::process::Reason;
use dhow_sys::rustix::fs::{Mode, OFlags, open};
use dhow_sys::rustix::io::{Errno, write};
use dhow_sys::rustix::system::{setdomainname, sethostname};

use crate::error::LaunchError;

const STEP: &str = "namespaces";

/// A checked plan of namespaces.
#[derive(Debug)]
pub(crate) struct NamespacePlan {
    /// Made by clone3.
    pub(crate) create: Namespaces,
    /// Whether a control group namespace is made, once the process is in its group.
    pub(crate) new_cgroup: bool,
    /// The pid namespace whose child the process becomes; joined by the parent.
    pub(crate) pid: Option<OwnedFd>,
    /// The user namespace, if it is not the host's.
    pub(crate) user: Option<Wanted>,
    join: Vec<Join>,
    /// The offsets of a new time namespace, as /proc/PID/timens_offsets takes them.
    time: Option<String>,
    hostname: Option<String>,
    domainname: Option<String>,
}

/// A namespace to join.
#[derive(Debug)]
struct Join {
    of: OwnedFd,
    kind: Namespaces,
    /// What it is, for messages.
    shown: String,
}

/// A user namespace: a new one, or that of a path.
#[derive(Debug)]
pub(crate) enum Wanted {
    New,
    Path(OwnedFd),
}

impl NamespacePlan {
    /// Checks the specification; opens what is to be joined.
    pub(crate) fn new(spec: &Spec, netns: Option<BorrowedFd<'_>>) -> Result<Self, LaunchError> {
        let mut plan = Self {
            create: Namespaces::NONE,
            new_cgroup: false,
            pid: None,
            user: None,
            join: Vec::new(),
            time: None,
            hostname: spec.hostname().clone().filter(|name| !name.is_empty()),
            domainname: spec.domainname().clone().filter(|name| !name.is_empty()),
        };
        let linux = spec.linux().as_ref();
        let mut seen = Namespaces::NONE;
        for entry in linux.and_then(|linux| linux.namespaces().as_ref()).into_iter().flatten() {
            let kind = kind_of(entry.typ());
            if seen.contains(kind) {
                let typ = entry.typ();
                return Err(invalid(&format!(
                    "linux.namespaces: there are two entries of type {typ}"
                )));
            }
            seen.insert(kind);
            plan.take(entry.typ(), entry.path().as_deref(), netns)?;
        }
        plan.set_time(linux)?;
        if !plan.create.contains(Namespaces::MOUNT) {
            return Err(invalid("a container needs a mount namespace of its own"));
        }
        let own_names = plan.own().contains(Namespaces::UTS);
        if !own_names && (plan.hostname.is_some() || plan.domainname.is_some()) {
            return Err(invalid("cannot set a host name: the UTS namespace is the host's"));
        }
        Ok(plan)
    }

    fn take(
        &mut self,
        typ: LinuxNamespaceType,
        path: Option<&Path>,
        netns: Option<BorrowedFd<'_>>,
    ) -> Result<(), LaunchError> {
        let path = path.filter(|path| !path.as_os_str().is_empty());
        let kind = kind_of(typ);
        match (kind, path, netns) {
            (Namespaces::MOUNT, Some(path), _) => {
                let path = path.display();
                let message = format!("linux.namespaces: cannot join mount namespace {path}");
                return Err(LaunchError::new(STEP, Kind::Unsupported, message)
                    .with_hint("a container's mounts are made in a mount namespace of its own"));
            }
            (Namespaces::CGROUP, None, _) => self.new_cgroup = true,
            (Namespaces::PID, Some(path), _) => self.pid = Some(open_namespace(path)?),
            (Namespaces::USER, None, _) => self.user = Some(Wanted::New),
            (Namespaces::USER, Some(path), _) => {
                self.user = Some(Wanted::Path(open_namespace(path)?));
            }
            (Namespaces::TIME, None, _) => self.time = Some(String::new()),
            (_, Some(path), _) => {
                let shown = format!("{typ} namespace {}", path.display());
                self.join.push(Join { of: open_namespace(path)?, kind, shown });
            }
            (Namespaces::NETWORK, None, Some(netns)) => {
                let netns = netns.try_clone_to_owned().map_err(|error| {
                    LaunchError::new(
                        STEP,
                        Kind::Internal,
                        format!("cannot keep the network: {error}"),
                    )
                })?;
                self.join.push(Join { of: netns, kind, shown: "the network".to_owned() });
            }
            (_, None, _) => self.create.insert(kind),
        }
        Ok(())
    }

    /// Takes over the offsets of the clocks.
    fn set_time(&mut self, linux: Option<&Linux>) -> Result<(), LaunchError> {
        let offsets = linux.and_then(|linux| linux.time_offsets().as_ref());
        let Some(offsets) = offsets.filter(|offsets| !offsets.is_empty()) else { return Ok(()) };
        let Some(text) = &mut self.time else {
            return Err(invalid(
                "linux.timeOffsets needs a new time namespace in linux.namespaces",
            ));
        };
        for (clock, offset) in offsets {
            if clock != "monotonic" && clock != "boottime" {
                let message = format!("linux.timeOffsets: there is no clock {clock:?}");
                return Err(
                    invalid(&message).with_hint("clocks with an offset are monotonic and boottime")
                );
            }
            let (seconds, nanoseconds) =
                (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
            if nanoseconds >= 1_000_000_000 {
                let message = format!("linux.timeOffsets.{clock}.nanosecs is a second or more");
                return Err(invalid(&message));
            }
            // Writing to memory.
            let _ = writeln!(text, "{clock} {seconds} {nanoseconds}");
        }
        Ok(())
    }

    /// The namespaces that are not the host's, for what may be changed in them.
    pub(crate) fn own(&self) -> Namespaces {
        self.join.iter().fold(self.create, |own, join| own | join.kind)
    }

    /// Joins what is to be joined. In the child, with the host's privileges.
    pub(crate) fn join(&self) -> Result<(), LaunchError> {
        for Join { of, kind, shown } in &self.join {
            namespace::join(of.as_fd(), *kind)
                .map_err(|errno| failed(&format!("cannot join {shown}"), errno))?;
        }
        Ok(())
    }

    /// Makes the time namespace and sets its offsets. What this process forks or executes from then on is in
    /// it; with `enter`, so is this process. In the host's mount namespace, whose /proc it needs.
    pub(crate) fn unshare_time(&self, enter: bool) -> Result<(), LaunchError> {
        let Some(offsets) = &self.time else { return Ok(()) };
        namespace::unshare(Namespaces::TIME)
            .map_err(|errno| failed("cannot make a time namespace", errno))?;
        if !offsets.is_empty() {
            let written = open_own(c"/proc/self/timens_offsets", OFlags::WRONLY)
                .and_then(|file| write(&file, offsets.as_bytes()));
            written.map_err(|errno| failed("cannot set linux.timeOffsets", errno))?;
        }
        if enter {
            // Before Linux 6.0 an exec would not.
            open_own(c"/proc/self/ns/time_for_children", OFlags::RDONLY)
                .and_then(|own| namespace::join(own.as_fd(), Namespaces::TIME))
                .map_err(|errno| failed("cannot enter the time namespace", errno))?;
        }
        Ok(())
    }

    /// Names the host and brings up a new network's `lo`. In the child; the names need a namespace that was
    /// made for it, or are those of the one joined.
    pub(crate) fn furnish(&self) -> Result<(), LaunchError> {
        if self.create.contains(Namespaces::NETWORK) {
            namespace::loopback_up().map_err(|errno| failed("cannot bring up lo", errno))?;
        }
        if let Some(name) = &self.hostname {
            sethostname(name.as_bytes())
                .map_err(|errno| failed("cannot set the host name", errno))?;
        }
        if let Some(name) = &self.domainname {
            setdomainname(name.as_bytes())
                .map_err(|errno| failed("cannot set the domain name", errno))?;
        }
        Ok(())
    }

    /// Makes the control group namespace; the process must be in its group by now, or it would see its own
    /// path instead of `/`. clone3 takes the parent's group for the root, also with CLONE_INTO_CGROUP.
    pub(crate) fn unshare_cgroup(&self) -> Result<(), LaunchError> {
        if !self.new_cgroup {
            return Ok(());
        }
        namespace::unshare(Namespaces::CGROUP)
            .map_err(|errno| failed("cannot make a cgroup namespace", errno))
    }
}

fn kind_of(typ: LinuxNamespaceType) -> Namespaces {
    match typ {
        LinuxNamespaceType::Mount => Namespaces::MOUNT,
        LinuxNamespaceType::Cgroup => Namespaces::CGROUP,
        LinuxNamespaceType::Uts => Namespaces::UTS,
        LinuxNamespaceType::Ipc => Namespaces::IPC,
        LinuxNamespaceType::Pid => Namespaces::PID,
        LinuxNamespaceType::Network => Namespaces::NETWORK,
        LinuxNamespaceType::User => Namespaces::USER,
        LinuxNamespaceType::Time => Namespaces::TIME,
    }
}

/// Opens a file of this process's own in the host's /proc.
fn open_own(path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    open(path, flags | OFlags::CLOEXEC, Mode::empty())
}

fn open_namespace(path: &Path) -> Result<OwnedFd, LaunchError> {
    let shown = path.display();
    if !path.is_absolute() {
        return Err(invalid(&format!("linux.namespaces: path {shown} is not absolute")));
    }
    let text = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| invalid(&format!("namespace path {shown} has a NUL byte in it")))?;
    open(text.as_c_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed(&format!("cannot open namespace {shown}"), errno))
}

fn invalid(message: &str) -> LaunchError {
    LaunchError::new(STEP, Kind::Invalid, message)
}

fn failed(message: &str, errno: Errno) -> LaunchError {
    LaunchError::new(STEP, Kind::Internal, format!("{message}: {}", Reason(errno)))
}
