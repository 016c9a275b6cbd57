//! The mounts of a specification, prepared on the host's side and made on the container's.
//!
//! Every target is opened beneath the root and a detached mount is attached to that descriptor, so an
//! image's symlinks lead at most to another place in the image (CVE-2021-30465). A procfs and a sysfs go
//! only onto a real directory (CVE-2019-19921), and nothing but a few files may cover what procfs says
//! (CVE-2019-16884).

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dhow_spec::oci_runtime::Mount;
use dhow_sys::beneath;
use dhow_sys::mount::{MountAttrFlags, attach, change_attributes, change_propagation};
use dhow_sys::rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC, fstat, fstatfs};
use dhow_sys::rustix::io::Errno;

use crate::bind::Bind;
use crate::cgroups::{CgroupView, Views};
use crate::copyup::copy_up;
use crate::failure::{Doing, Failure, PlanError};
use crate::filesystem;
use crate::options::{self, Options};
use crate::text::{c_string, inner_path};

/// What may be covered inside /proc: files that only inform (lxcfs does so).
const COVERABLE: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// A prepared mount.
#[derive(Debug)]
pub(crate) struct PreparedMount {
    /// Where it goes, cleaned, with its first slash.
    pub(crate) destination: String,
    options: Options,
    kind: Kind,
    user_namespace: bool,
}

#[derive(Debug)]
enum Kind {
    /// A new file system.
    New { kind: CString, source: Option<CString> },
    /// A file or directory of the host's.
    Bind(Bind),
    /// The container's own control groups.
    Cgroup(Views),
    /// What is mounted there already, with other attributes and options.
    Remount,
}

impl PreparedMount {
    /// Checks a mount; `user_namespace` is whether the container has one.
    pub(crate) fn new(
        mount: &Mount,
        views: &[CgroupView],
        user_namespace: bool,
    ) -> Result<Self, PlanError> {
        let destination = inner_path("mount destination", mount.destination())?;
        let given = mount.options().as_deref().unwrap_or_default();
        let options = options::parse(given)?;
        let typ = mount.typ().as_deref().unwrap_or("none");
        let bind = || Bind::new(mount, &destination, &options, user_namespace).map(Kind::Bind);
        let kind = match (options.bind, typ) {
            _ if options.remount => Kind::Remount,
            (Some(_), _) | (None, "bind") => bind()?,
            (None, "cgroup" | "cgroup2") => Kind::Cgroup(Views::new(views)?),
            (None, "none" | "") => {
                return Err(PlanError::Incomplete { destination, what: "type" });
            }
            (None, other) => Kind::New {
                kind: c_string("mount type", other.as_bytes())?,
                source: new_source(mount)?,
            },
        };
        let prepared = Self { destination, options, kind, user_namespace };
        prepared.check_proc()?;
        prepared.check_options(mount)?;
        Ok(prepared)
    }

    /// Options that mean something only for other kinds of mounts.
    fn check_options(&self, mount: &Mount) -> Result<(), PlanError> {
        let mapped = self.options.id_map.is_some()
            || mount.uid_mappings().iter().chain(mount.gid_mappings()).flatten().next().is_some();
        let is_tmpfs = matches!(&self.kind, Kind::New { kind, .. } if kind.as_bytes() == b"tmpfs");
        let wrong = match self.kind {
            Kind::Bind(_) => None,
            _ if mapped => Some("idmap"),
            _ => None,
        };
        let wrong = wrong.or((self.options.copy_up && !is_tmpfs).then_some("tmpcopyup"));
        match wrong {
            Some(option) => {
                let destination = self.destination.clone();
                Err(PlanError::Option { option: option.to_owned(), destination })
            }
            None => Ok(()),
        }
    }

    /// Nothing may be mounted inside /proc but the files that only inform.
    fn check_proc(&self) -> Result<(), PlanError> {
        let inside = self.destination.starts_with("/proc/");
        if inside && !COVERABLE.contains(&self.destination.as_str()) {
            return Err(PlanError::InsideProc(self.destination.clone()));
        }
        Ok(())
    }

    /// Whether it is a new file system, which starts empty.
    pub(crate) fn is_new(&self) -> bool {
        matches!(self.kind, Kind::New { .. })
    }

    /// Takes `ro` off the mount itself and says whether it was there: for /dev, whose nodes come after.
    pub(crate) fn defer_read_only(&mut self) -> bool {
        let read_only = self.options.is_read_only();
        self.options.attributes.set &= !MountAttrFlags::MOUNT_ATTR_RDONLY;
        read_only
    }

    /// Labels a new file system's files for SELinux, unless it has its own labels or says so itself.
    pub(crate) fn label(&mut self, label: &str) -> Result<(), PlanError> {
        let Kind::New { kind, .. } = &self.kind else { return Ok(()) };
        let has_own = [&b"proc"[..], b"sysfs", b"mqueue"].contains(&kind.as_bytes());
        let says_so = self.options.data.iter().any(|(key, _)| key.as_bytes() == b"context");
        if !has_own && !says_so {
            let label = c_string("mount label", label.as_bytes())?;
            self.options.data.push((c"context".to_owned(), Some(label)));
        }
        Ok(())
    }

    /// Gets the namespaces of mapped ids. In the parent.
    pub(crate) fn make_id_map(&self, container: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
        match &self.kind {
            Kind::Bind(bind) => bind
                .id_map()
                .map_or(Ok(()), |map| map.prepare(container, || self.destination.clone())),
            _ => Ok(()),
        }
    }

    /// Clones what is the host's: the mount of a bind's source, cgroups. Cgroups must exist.
    pub(crate) fn open_source(&self) -> Result<(), Failure> {
        match &self.kind {
            Kind::New { .. } | Kind::Remount => Ok(()),
            Kind::Cgroup(views) => views.open(self.options.attributes),
            Kind::Bind(bind) => bind.open(&self.options),
        }
    }

    /// Makes the mount beneath `root`.
    pub(crate) fn make(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        match &self.kind {
            Kind::New { kind, source } => self.make_new(root, kind, source.as_ref()),
            Kind::Bind(bind) => self.make_bind(root, bind.opened(&self.destination)?),
            Kind::Cgroup(views) => {
                let (target, _) = self.directory(root, false)?;
                views.attach(target.as_fd(), self.options.attributes, &self.destination)
            }
            Kind::Remount => self.remount(root),
        }
    }

    fn make_new(
        &self,
        root: BorrowedFd<'_>,
        kind: &CString,
        source: Option<&CString>,
    ) -> Result<(), Failure> {
        let system = kind.as_bytes() == b"proc" || kind.as_bytes() == b"sysfs";
        let (target, existed) = self.directory(root, system)?;
        let data = &self.options.data;
        let attributes = self.options.attributes.set;
        let source = source.map(CString::as_c_str);
        let what = || self.destination.clone();
        let tmpfs_mode = kind.as_bytes() == b"tmpfs"
            && existed
            && !data.iter().any(|(key, _)| key.as_bytes() == b"mode");
        let at_first = if self.options.copy_up {
            attributes & !MountAttrFlags::MOUNT_ATTR_RDONLY
        } else {
            attributes
        };
        let mount = filesystem::make(kind, source, data, at_first, what).map_err(|failure| {
            if self.user_namespace { explained(failure, kind) } else { failure }
        })?;
        if self.options.copy_up && existed {
            copy_up(target.as_fd(), mount.as_fd())
                .doing(|| format!("cannot copy {} into its tmpfs", self.destination))?;
        } else if tmpfs_mode {
            // Without a mode of its own, a tmpfs has that of what it covers.
            let mode = fstat(&target).map(|status| status.st_mode & 0o7777);
            mode.and_then(|mode| set_mode(&mount, mode))
                .doing(|| format!("cannot set the mode of {}", self.destination))?;
        }
        if at_first != attributes || !self.options.recursive.is_empty() {
            self.change(mount.as_fd())?;
        }
        self.attach(mount.as_fd(), target.as_fd())?;
        self.propagate(mount.as_fd())
    }

    fn make_bind(&self, root: BorrowedFd<'_>, clone: &OwnedFd) -> Result<(), Failure> {
        let doing = || format!("cannot prepare the mount on {}", self.destination);
        let target = if beneath::is_directory(clone).doing(doing)? {
            self.directory(root, false)?.0
        } else {
            beneath::make_file(root, self.relative(), Mode::from_raw_mode(0o755))
                .doing(|| format!("cannot make mount target {}", self.destination))?
        };
        self.check_covering(clone.as_fd(), target.as_fd())?;
        self.attach(clone.as_fd(), target.as_fd())
    }

    /// Changes the attributes of what is mounted there, and the options of its file system if any are given.
    /// What is not named stays, unlike with mount(2).
    fn remount(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        let place = beneath::open(root, self.relative(), OFlags::PATH)
            .doing(|| format!("cannot remount {}", self.destination))?;
        if !self.options.data.is_empty() {
            let what = || self.destination.clone();
            filesystem::reconfigure(place.as_fd(), &self.options.data, what)?;
        }
        self.change(place.as_fd()).map_err(|failure| match failure.errno() {
            Errno::INVAL => {
                failure.with_hint("nothing is mounted there, or its attributes are locked")
            }
            _ => failure,
        })?;
        self.propagate(place.as_fd())
    }

    /// Changes the attributes of the mount at `place`.
    fn change(&self, place: BorrowedFd<'_>) -> Result<(), Failure> {
        let doing = || format!("cannot set the attributes of {}", self.destination);
        change_attributes(place, self.options.attributes, false).doing(doing)?;
        if self.options.recursive.is_empty() {
            return Ok(());
        }
        change_attributes(place, self.options.recursive, true).doing(doing)
    }

    /// Gives the attached mount at `place` its propagation.
    fn propagate(&self, place: BorrowedFd<'_>) -> Result<(), Failure> {
        let Some((propagation, deep)) = self.options.propagation else { return Ok(()) };
        change_propagation(place, propagation, deep)
            .doing(|| format!("cannot set the propagation of {}", self.destination))
    }

    /// Refuses a bind that would cover what procfs says, wherever the image's symlinks have led it.
    fn check_covering(&self, clone: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Failure> {
        let is_procfs = |place| fstatfs(place).is_ok_and(|fs| fs.f_type == PROC_SUPER_MAGIC);
        let allowed = match self.destination.as_str() {
            "/proc" => is_procfs(clone),
            destination => COVERABLE.contains(&destination) || !is_procfs(target),
        };
        if allowed {
            return Ok(());
        }
        Err(Failure::new(Errno::PERM, format!("cannot mount on {} inside /proc", self.destination)))
    }

    /// The target directory, made if it is missing, and whether it was there. With `strict` no symlink is
    /// followed.
    fn directory(&self, root: BorrowedFd<'_>, strict: bool) -> Result<(OwnedFd, bool), Failure> {
        let path = self.relative();
        let doing = || format!("cannot make mount target {}", self.destination);
        let place = OFlags::PATH | OFlags::DIRECTORY;
        let opened = if strict {
            beneath::open_direct(root, path, place)
        } else {
            beneath::open(root, path, place)
        };
        match opened {
            Err(Errno::NOENT) => {
                let made = beneath::make_directory(root, path, Mode::from_raw_mode(0o755));
                Ok((made.doing(doing)?, false))
            }
            other => Ok((other.doing(doing)?, true)),
        }
    }

    fn attach(&self, mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Failure> {
        attach(mount, target).doing(|| format!("cannot attach the mount on {}", self.destination))
    }

    /// The destination without its first slash.
    fn relative(&self) -> &[u8] {
        self.destination.as_bytes().get(1..).unwrap_or_default()
    }
}

fn set_mode(mount: &OwnedFd, mode: u32) -> Result<(), Errno> {
    dhow_sys::rustix::fs::chmodat(
        mount,
        c".",
        Mode::from_raw_mode(mode),
        dhow_sys::rustix::fs::AtFlags::empty(),
    )
}

fn new_source(mount: &Mount) -> Result<Option<CString>, PlanError> {
    use std::os::unix::ffi::OsStrExt;
    let source = mount.source().as_ref();
    source.map(|source| c_string("mount source", source.as_os_str().as_bytes())).transpose()
}

/// The kernel's refusals in a user namespace, explained.
fn explained(failure: Failure, kind: &CString) -> Failure {
    match (failure.errno(), kind.as_bytes()) {
        (Errno::PERM, b"sysfs") => {
            failure.with_hint("a user namespace's sysfs needs a new network namespace; else bind /sys")
        }
        (Errno::PERM, b"proc") => failure.with_hint(
            "a user namespace's procfs needs a new pid namespace, and nothing mounted in the host's /proc",
        ),
        (Errno::PERM, b"mqueue") => {
            failure.with_hint("a user namespace's mqueue needs a new IPC namespace")
        }
        (Errno::INVAL, b"devpts" | b"tmpfs") => {
            failure.with_hint("uid= and gid= must be ids that the user namespace maps")
        }
        _ => failure,
    }
}
