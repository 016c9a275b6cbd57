//! The plan of a container's mounts: checked on the host's side, carried out in the child.

use std::cell::OnceCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use dhow_spec::oci_runtime::Spec;
use dhow_sys::beneath;
use dhow_sys::mount::Propagation;
use dhow_sys::namespace::Namespaces;
use dhow_sys::rustix::fs::{Mode, OFlags};
use dhow_sys::rustix::io::{Errno, fcntl_dupfd_cloexec};

use crate::bare::Bare;
use crate::cgroups::CgroupView;
use crate::console::Console;
use crate::devices::{self, Node};
use crate::failure::{Doing, Failure, PlanError};
use crate::hide::{self, Covers};
use crate::mounts::PreparedMount;
use crate::options;
use crate::root::{self, PreparedRoot, Root};
use crate::sysctl::{self, Sysctl};
use crate::{filesystem, text};

/// What a plan is made from.
#[derive(Debug)]
pub struct PlanInput<'a> {
    /// The OCI runtime specification.
    pub spec: &'a Spec,
    /// What the root is made of; the specification's own root path is not looked at.
    pub root: &'a Root,
    /// What a mount of type `cgroup` shows.
    pub cgroups: &'a [CgroupView],
    /// The namespaces that the container has to itself, for its sysctls.
    pub own: Namespaces,
    /// Whether the container has a user namespace of its own.
    pub user_namespace: bool,
}

/// Everything that is to be done in a container's mount namespace.
#[derive(Debug)]
pub struct Plan {
    root: PreparedRoot,
    /// Whether it is attached where it is a directory.
    root_at_its_path: bool,
    mounts: Vec<PreparedMount>,
    nodes: Option<Vec<Node>>,
    dev_read_only: bool,
    masked: Vec<String>,
    read_only: Vec<String>,
    read_only_root: bool,
    propagation: Option<(Propagation, bool)>,
    sysctls: Vec<Sysctl>,
}

/// What is the host's, opened.
#[derive(Debug)]
pub struct Sources {
    covers: Option<Covers>,
}

/// A root with mounts on it, in the child. The steps are methods in the order in which they are called.
#[derive(Debug)]
pub struct Inside<'a> {
    plan: &'a Plan,
    root: OwnedFd,
    /// Whether the host's tree was never in this mount namespace.
    is_bare: bool,
    covers: Option<Covers>,
    procfs: OnceCell<OwnedFd>,
}

impl Plan {
    /// Checks a specification and prepares everything that needs no namespace.
    pub fn new(input: &PlanInput<'_>) -> Result<Self, PlanError> {
        let linux = input.spec.linux().as_ref();
        let mut mounts = Vec::new();
        for mount in input.spec.mounts().iter().flatten() {
            mounts.push(PreparedMount::new(mount, input.cgroups, input.user_namespace)?);
        }
        let label = linux.and_then(|linux| linux.mount_label().as_deref()).unwrap_or_default();
        if !label.is_empty() {
            mounts.iter_mut().try_for_each(|mount| mount.label(label))?;
        }
        let dev = mounts.iter_mut().rev().find(|mount| mount.destination == "/dev");
        let (dev_is_ours, dev_read_only) = match dev {
            Some(dev) if dev.is_new() => (true, dev.defer_read_only()),
            Some(_) => (false, false),
            None => (true, false),
        };
        let devices = linux.and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
        let nodes =
            if dev_is_ours { Some(devices::prepare(devices, input.user_namespace)?) } else { None };
        let propagation = linux.and_then(|linux| linux.rootfs_propagation().as_deref());
        let readonly = input.spec.root().as_ref().and_then(dhow_spec::oci_runtime::Root::readonly);
        Ok(Self {
            root: PreparedRoot::new(input.root)?,
            root_at_its_path: false,
            mounts,
            nodes,
            dev_read_only,
            masked: hide::prepare(
                "masked path",
                linux.and_then(|linux| linux.masked_paths().as_ref()),
            )?,
            read_only: hide::prepare(
                "read-only path",
                linux.and_then(|linux| linux.readonly_paths().as_ref()),
            )?,
            read_only_root: readonly.unwrap_or(false),
            propagation: propagation.map(parse_propagation).transpose()?.flatten(),
            sysctls: sysctl::prepare(linux.and_then(|linux| linux.sysctl().as_ref()), input.own)?,
        })
    }

    /// The root as a mount that is attached nowhere, made on the host's side; `None` where the kernel
    /// cannot, and [`Plan::attach_root`] makes it. As long as a descriptor of it is open its file system
    /// lives, whatever becomes of the container.
    pub fn make_root(&self) -> Result<Option<OwnedFd>, Failure> {
        self.root.make()
    }

    /// Has the root attached at the path of its directory and not on "/", so that both it and the host's
    /// files are found by path until the pivot. Of no effect on an overlay, which has no directory of its
    /// own, and with an empty mount namespace, where there are no paths.
    pub fn keep_root_at_its_path(&mut self) {
        self.root_at_its_path = true;
    }

    /// Gets the user namespaces of id-mapped mounts; `container` is the container's own. In the parent, which
    /// must be single-threaded.
    pub fn make_id_maps(&self, container: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
        self.mounts.iter().try_for_each(|mount| mount.make_id_map(container))
    }

    /// Opens what is the host's, with the host's privileges, for a process that is to be in a user namespace:
    /// it calls [`Plan::attach_root_as_user`] then. In the host's mount namespace.
    pub fn open_sources(&self) -> Result<Sources, Failure> {
        self.mounts.iter().try_for_each(PreparedMount::open_source)?;
        self.nodes.iter().flatten().try_for_each(Node::open_source)?;
        let covers = if self.masked.is_empty() { None } else { Some(Covers::open()?) };
        Ok(Sources { covers })
    }

    /// Attaches the root in a copy of the host's mount namespace that belongs to the container's user
    /// namespace. An empty one would not do: the kernel lets only who sees a procfs mount one there
    /// (mount_too_revealing in its fs/namespace.c).
    pub fn attach_root_as_user(
        &self,
        root: Option<BorrowedFd<'_>>,
        sources: Sources,
    ) -> Result<Inside<'_>, Failure> {
        let doing = || "cannot attach the container's root";
        root::leave_host_propagation()?;
        let root = root.ok_or(Errno::NOSYS).doing(doing).map_err(|failure| {
            failure.with_hint("an overlay with a user namespace needs Linux 6.5")
        })?;
        let own = fcntl_dupfd_cloexec(root, 3).doing(|| "cannot keep the root")?;
        let root = self.place(own)?;
        let covers = sources.covers;
        Ok(Inside { plan: self, root, is_bare: false, covers, procfs: OnceCell::new() })
    }

    /// Leaves the host's mounts and attaches the root, as [`Plan::make_root`] gave it. With `bare` the
    /// process must be in the host's mount namespace, which it leaves for an empty one of its own; that
    /// needs a root. Without, it must be in a copy of the host's.
    pub fn attach_root(
        &self,
        root: Option<BorrowedFd<'_>>,
        bare: Option<&Bare>,
    ) -> Result<Inside<'_>, Failure> {
        let bare = bare.filter(|_| root.is_some());
        let Sources { covers } = self.open_sources()?;
        match bare {
            Some(bare) => bare.enter()?,
            None => root::leave_host_propagation()?,
        }
        let root = match root {
            Some(root) => {
                let own = fcntl_dupfd_cloexec(root, 3).doing(|| "cannot keep the root")?;
                if bare.is_some() { root::onto_slash(own)? } else { self.place(own)? }
            }
            None => self.root.attach()?,
        };
        Ok(Inside { plan: self, root, is_bare: bare.is_some(), covers, procfs: OnceCell::new() })
    }
}

impl Plan {
    fn place(&self, mount: OwnedFd) -> Result<OwnedFd, Failure> {
        match &self.root {
            PreparedRoot::Dir(path) if self.root_at_its_path => root::onto(mount, path),
            _ => root::onto_slash(mount),
        }
    }
}

impl Inside<'_> {
    /// Makes the specification's mounts, in its order. Cgroup mounts need the process to be in its cgroup.
    pub fn mount(&self) -> Result<(), Failure> {
        self.plan.mounts.iter().try_for_each(|mount| mount.make(self.root.as_fd()))
    }

    /// Makes device nodes and links. The umask must be 0.
    pub fn make_devices(&self) -> Result<(), Failure> {
        let nodes = self.plan.nodes.as_deref();
        nodes.map_or(Ok(()), |nodes| devices::make(nodes, self.root.as_fd()))
    }

    /// Opens a terminal of the container's devpts and binds it to /dev/console.
    pub fn open_console(&self) -> Result<Console, Failure> {
        let console = Console::open(self.root.as_fd())?;
        console.bind(self.root.as_fd())?;
        Ok(console)
    }

    /// Makes `path`, as [`clean_path`] gave it, a directory beneath the root with its parents, if it is
    /// missing (the process's working directory).
    pub fn make_directory(&self, path: &str) -> Result<(), Failure> {
        let mode = Mode::from_raw_mode(0o755);
        beneath::make_directory(self.root.as_fd(), path.as_bytes(), mode)
            .map(drop)
            .doing(|| format!("cannot make working directory {path}"))
    }

    /// Sets the kernel parameters.
    pub fn write_sysctls(&self) -> Result<(), Failure> {
        if self.plan.sysctls.is_empty() {
            return Ok(());
        }
        sysctl::write_all(&self.plan.sysctls, self.procfs()?)
    }

    /// A procfs of this pid namespace that is attached nowhere.
    pub fn procfs(&self) -> Result<BorrowedFd<'_>, Failure> {
        if let Some(procfs) = self.procfs.get() {
            return Ok(procfs.as_fd());
        }
        let procfs = filesystem::private_procfs()?;
        Ok(self.procfs.get_or_init(|| procfs).as_fd())
    }

    /// Hides and protects what the specification says, and makes the root read-only if it is to be.
    pub fn protect(&self) -> Result<(), Failure> {
        let root = self.root.as_fd();
        for path in &self.plan.read_only {
            hide::make_read_only(root, path)?;
        }
        if let Some(covers) = &self.covers {
            self.plan.masked.iter().try_for_each(|path| covers.mask(root, path))?;
        }
        if self.plan.dev_read_only {
            let doing = || "cannot make /dev read-only";
            let dev = beneath::open(root, b"dev", OFlags::PATH).doing(doing)?;
            hide::set_read_only(dev.as_fd(), false).doing(doing)?;
        }
        if self.plan.read_only_root {
            hide::set_read_only(root, false).doing(|| "cannot make the root read-only")?;
        }
        Ok(())
    }

    /// Makes the root this process's root and lets go of the host's. With `stay` the host's is left beneath
    /// it, for where it cannot be let go of (a root on the kernel's own rootfs, pivot_root(2)).
    pub fn pivot(&self, stay: bool) -> Result<(), Failure> {
        let root = self.root.as_fd();
        if self.is_bare || stay { root::change(root) } else { root::pivot(root) }?;
        // Not before: pivot_root(2) takes no shared mount.
        self.plan.propagation.map_or(Ok(()), |propagation| root::propagate(root, propagation))
    }

    /// The container's root.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// A container's path without `.`, `..` and doubled slashes, with a slash in front.
pub fn clean_path(what: &'static str, path: &Path) -> Result<String, PlanError> {
    text::inner_path(what, path)
}

/// A private procfs for a process that joins a container, as [`Inside::procfs`].
pub fn private_procfs() -> Result<OwnedFd, Failure> {
    filesystem::private_procfs()
}

/// Private, the default, is what a new root has anyway.
fn parse_propagation(name: &str) -> Result<Option<(Propagation, bool)>, PlanError> {
    if name.is_empty() {
        return Ok(None);
    }
    let parsed = options::propagation(name);
    let (propagation, deep) = parsed.ok_or_else(|| PlanError::Propagation(name.to_owned()))?;
    Ok(Some((propagation, deep)))
}
