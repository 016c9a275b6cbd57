//! Which namespaces a container makes, joins or shares with the host.
//!
//! An entry without a path makes a new one, an entry with a path joins that one, no entry shares the
//! host's (OCI runtime specification, config-linux.md, "Namespaces"). A network entry without a path joins
//! the descriptor that the caller gives, if it gives one.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use dhow_error::Kind;
use dhow_spec::oci_runtime::{LinuxNamespaceType, Spec};
use dhow_sys::namespace::{self, Namespaces};
use dhow_sys::process::Reason;
use dhow_sys::rustix::fs::{Mode, OFlags, open};
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
    join: Vec<(OwnedFd, Namespaces)>,
    hostname: Option<String>,
    domainname: Option<String>,
}

impl NamespacePlan {
    /// Checks the specification; opens what is to be joined.
    pub(crate) fn new(spec: &Spec, netns: Option<BorrowedFd<'_>>) -> Result<Self, LaunchError> {
        let mut plan = Self {
            create: Namespaces::NONE,
            new_cgroup: false,
            pid: None,
            join: Vec::new(),
            hostname: spec.hostname().clone().filter(|name| !name.is_empty()),
            domainname: spec.domainname().clone().filter(|name| !name.is_empty()),
        };
        let linux = spec.linux().as_ref();
        for entry in linux.and_then(|linux| linux.namespaces().as_ref()).into_iter().flatten() {
            plan.take(entry.typ(), entry.path().as_deref(), netns)?;
        }
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
        let kind = kind_of(typ)?;
        match (kind, path, netns) {
            (Namespaces::MOUNT | Namespaces::CGROUP, Some(path), _) => {
                let message = format!("cannot join {typ} namespace {}", path.display());
                return Err(LaunchError::new(STEP, Kind::Unsupported, message));
            }
            (Namespaces::CGROUP, None, _) => self.new_cgroup = true,
            (Namespaces::PID, Some(path), _) => self.pid = Some(open_namespace(path)?),
            (_, Some(path), _) => self.join.push((open_namespace(path)?, kind)),
            (Namespaces::NETWORK, None, Some(netns)) => {
                let netns = netns.try_clone_to_owned().map_err(|error| {
                    LaunchError::new(
                        STEP,
                        Kind::Internal,
                        format!("cannot keep the network: {error}"),
                    )
                })?;
                self.join.push((netns, kind));
            }
            (_, None, _) => self.create.insert(kind),
        }
        Ok(())
    }

    /// The namespaces that are not the host's, for what may be changed in them.
    pub(crate) fn own(&self) -> Namespaces {
        self.join.iter().fold(self.create, |own, (_, kind)| own | *kind)
    }

    /// Joins what is to be joined and names the host. In the child; the names need a namespace that was
    /// made for it, or are those of the one joined.
    pub(crate) fn enter(&self) -> Result<(), LaunchError> {
        for (of, kind) in &self.join {
            namespace::join(of.as_fd(), *kind)
                .map_err(|errno| failed("cannot join a namespace", errno))?;
        }
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

fn kind_of(typ: LinuxNamespaceType) -> Result<Namespaces, LaunchError> {
    match typ {
        LinuxNamespaceType::Mount => Ok(Namespaces::MOUNT),
        LinuxNamespaceType::Cgroup => Ok(Namespaces::CGROUP),
        LinuxNamespaceType::Uts => Ok(Namespaces::UTS),
        LinuxNamespaceType::Ipc => Ok(Namespaces::IPC),
        LinuxNamespaceType::Pid => Ok(Namespaces::PID),
        LinuxNamespaceType::Network => Ok(Namespaces::NETWORK),
        LinuxNamespaceType::User | LinuxNamespaceType::Time => {
            let message = format!("{typ} namespaces are not supported yet");
            Err(LaunchError::new(STEP, Kind::Unsupported, message))
        }
    }
}

fn open_namespace(path: &Path) -> Result<OwnedFd, LaunchError> {
    let shown = path.display();
    let text = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| invalid(&format!("namespace path {shown} has a NUL byte in it")))?;
    open(text.as_c_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed(&format!("cannot open namespace {shown}"), errno))
}

fn invalid(message: &str) -> LaunchError {
    LaunchError::new(STEP, Kind::Invalid, message)
}

fn failed(message: &str, errno: dhow_sys::rustix::io::Errno) -> LaunchError {
    LaunchError::new(STEP, Kind::Internal, format!("{message}: {}", Reason(errno)))
}
