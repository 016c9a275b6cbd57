//! The mounts of a specification, prepared on the host's side and made on the container's.
//!
//! Every target is opened beneath the root and a detached mount is attached to that descriptor, so an
//! image's symlinks lead at most to another place in the image (CVE-2021-30465). A procfs and a sysfs go
//! only onto a real directory (CVE-2019-19921), and nothing but a few files may cover what procfs says
//! (CVE-2019-16884).

use std::cell::OnceCell;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dhow_spec::oci_runtime::Mount;
use dhow_sys::beneath;
use dhow_sys::mount::{
    MountAttrFlags, OpenTreeFlags, Propagation, attach, change_attributes,
    change_attributes_privately, change_propagation, open_tree,
};
use dhow_sys::rustix::fs::{
    CWD, Mode, OFlags, PROC_SUPER_MAGIC, fstat, fstatfs, mkdirat, openat, symlinkat,
};
use dhow_sys::rustix::io::Errno;

use crate::failure::{Doing, Failure, PlanError};
use crate::filesystem;
use crate::options::{self, Options};
use crate::text::{c_string, host_path, inner_path};

/// A directory of a control group hierarchy that the container sees at its `/sys/fs/cgroup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupView {
    /// The directory on the host: the container's own cgroup in that hierarchy.
    pub source: String,
    /// Its name below `/sys/fs/cgroup`, such as `memory`; empty for a pure cgroup2 machine, where it is
    /// `/sys/fs/cgroup` itself.
    pub name: String,
}

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
}

#[derive(Debug)]
enum Kind {
    /// A new file system.
    New { kind: CString, source: Option<CString> },
    /// A file or directory of the host's; `clone` is filled in the child.
    Bind { source: CString, recursive: bool, clone: OnceCell<OwnedFd> },
    /// The container's own control groups.
    Cgroup { views: Vec<PreparedView> },
}

#[derive(Debug)]
struct PreparedView {
    source: CString,
    /// Filled in the child.
    clone: OnceCell<OwnedFd>,
    name: CString,
    /// The controllers of a joint hierarchy (`cpu,cpuacct`), each a link to it.
    links: Vec<CString>,
}

impl PreparedMount {
    pub(crate) fn new(mount: &Mount, views: &[CgroupView]) -> Result<Self, PlanError> {
        let destination = inner_path("mount destination", mount.destination())?;
        let given = mount.options().as_deref().unwrap_or_default();
        let options = options::parse(given, &destination)?;
        let typ = mount.typ().as_deref().unwrap_or("none");
        let kind = match (options.bind, typ) {
            (Some(recursive), _) => bind(mount, &destination, recursive)?,
            (None, "bind") => bind(mount, &destination, true)?,
            (None, "cgroup" | "cgroup2") => Kind::Cgroup { views: prepare_views(views)? },
            (None, "none" | "") => {
                return Err(PlanError::Incomplete { destination, what: "type" });
            }
            (None, other) => Kind::New {
                kind: c_string("mount type", other.as_bytes())?,
                source: new_source(mount)?,
            },
        };
        let prepared = Self { destination, options, kind };
        prepared.check_proc()?;
        Ok(prepared)
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

    /// Clones what is the host's: the mount of a bind's source, cgroups. Done before the host's tree is left
    /// or its propagation cut, so that a shared bind stays a peer of the host's. Cgroups must exist.
    pub(crate) fn open_source(&self) -> Result<(), Failure> {
        let (source, recursive, clone) = match &self.kind {
            Kind::New { .. } => return Ok(()),
            Kind::Cgroup { views } => {
                return views.iter().try_for_each(|view| self.open_view(view));
            }
            Kind::Bind { source, recursive, clone } => (source, recursive, clone),
        };
        let doing = || format!("cannot open mount source {}", source.to_string_lossy());
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        if *recursive {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        let tree = open_tree(CWD, source.as_c_str(), flags).doing(doing)?;
        let (propagation, deep) = self.options.propagation.unwrap_or((Propagation::Private, true));
        change_propagation(tree.as_fd(), propagation, deep).doing(doing)?;
        // Never filled before: the cell belongs to this one child.
        let _ = clone.set(tree);
        Ok(())
    }

    /// Makes the mount beneath `root`.
    pub(crate) fn make(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        match &self.kind {
            Kind::New { kind, source } => self.make_new(root, kind, source.as_ref()),
            Kind::Bind { clone, .. } => self.make_bind(root, clone.get()),
            Kind::Cgroup { views } => self.make_cgroup(root, views),
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
        let mount = filesystem::make(kind, source, data, attributes, what)?;
        if tmpfs_mode {
            // Without a mode of its own, a tmpfs has that of what it covers.
            let mode = fstat(&target).map(|status| status.st_mode & 0o7777);
            mode.and_then(|mode| set_mode(&mount, mode))
                .doing(|| format!("cannot set the mode of {}", self.destination))?;
        }
        self.attach(mount.as_fd(), target.as_fd())
    }

    fn make_bind(&self, root: BorrowedFd<'_>, clone: Option<&OwnedFd>) -> Result<(), Failure> {
        let doing = || format!("cannot prepare the mount on {}", self.destination);
        let clone = clone.ok_or(Errno::BADF).doing(doing)?;
        let target = if beneath::is_directory(clone).doing(doing)? {
            self.directory(root, false)?.0
        } else {
            beneath::make_file(root, self.relative(), Mode::from_raw_mode(0o755))
                .doing(|| format!("cannot make mount target {}", self.destination))?
        };
        self.check_covering(clone.as_fd(), target.as_fd())?;
        if !self.options.attributes.is_empty() {
            change_attributes(clone.as_fd(), self.options.attributes, false).doing(doing)?;
        }
        if !self.options.recursive.is_empty() {
            change_attributes(clone.as_fd(), self.options.recursive, true).doing(doing)?;
        }
        self.attach(clone.as_fd(), target.as_fd())
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

    /// On v1 and hybrid machines a tmpfs with a directory a hierarchy; else the one hierarchy itself.
    fn make_cgroup(&self, root: BorrowedFd<'_>, views: &[PreparedView]) -> Result<(), Failure> {
        let (target, _) = self.directory(root, false)?;
        if let [view] = views
            && view.name.is_empty()
        {
            return self.attach(self.opened(view)?, target.as_fd());
        }
        let mode = [(c"mode", c"755")];
        let what = || self.destination.clone();
        let attributes = self.options.attributes.set & !MountAttrFlags::MOUNT_ATTR_RDONLY;
        let tmpfs = filesystem::make(c"tmpfs", Some(c"tmpfs"), mode, attributes, what)?;
        self.attach(tmpfs.as_fd(), target.as_fd())?;
        for view in views {
            self.make_view(view, tmpfs.as_fd())?;
        }
        let last = self.options.attributes;
        change_attributes(tmpfs.as_fd(), last, false)
            .doing(|| format!("cannot set the attributes of {}", self.destination))
    }

    fn make_view(&self, view: &PreparedView, tmpfs: BorrowedFd<'_>) -> Result<(), Failure> {
        let doing = || format!("cannot make {}/{}", self.destination, view.name.to_string_lossy());
        mkdirat(tmpfs, view.name.as_c_str(), Mode::from_raw_mode(0o755)).doing(doing)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = openat(tmpfs, view.name.as_c_str(), flags, Mode::empty()).doing(doing)?;
        attach(self.opened(view)?, place.as_fd()).doing(doing)?;
        for link in &view.links {
            symlinkat(view.name.as_c_str(), tmpfs, link.as_c_str()).doing(doing)?;
        }
        Ok(())
    }

    fn open_view(&self, view: &PreparedView) -> Result<(), Failure> {
        let doing = || format!("cannot show cgroup {}", view.source.to_string_lossy());
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, view.source.as_c_str(), flags).doing(doing)?;
        change_attributes_privately(tree.as_fd(), self.options.attributes).doing(doing)?;
        // Never filled before, as above.
        let _ = view.clone.set(tree);
        Ok(())
    }

    fn opened<'a>(&self, view: &'a PreparedView) -> Result<BorrowedFd<'a>, Failure> {
        let doing = || format!("cannot show a cgroup below {}", self.destination);
        view.clone.get().map(AsFd::as_fd).ok_or(Errno::BADF).doing(doing)
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

fn bind(mount: &Mount, destination: &str, recursive: bool) -> Result<Kind, PlanError> {
    let missing = || PlanError::Incomplete { destination: destination.to_owned(), what: "source" };
    let source = mount.source().as_ref().ok_or_else(missing)?;
    let source = host_path("mount source", source)?;
    Ok(Kind::Bind { source, recursive, clone: OnceCell::new() })
}

fn new_source(mount: &Mount) -> Result<Option<CString>, PlanError> {
    use std::os::unix::ffi::OsStrExt;
    let source = mount.source().as_ref();
    source.map(|source| c_string("mount source", source.as_os_str().as_bytes())).transpose()
}

fn prepare_views(views: &[CgroupView]) -> Result<Vec<PreparedView>, PlanError> {
    let text = |text: &str| c_string("cgroup", text.as_bytes());
    let prepare = |view: &CgroupView| {
        let joint = view.name.contains(',');
        let links = view.name.split(',').filter(|_| joint).map(text).collect::<Result<_, _>>()?;
        let (source, name) = (text(&view.source)?, text(&view.name)?);
        Ok(PreparedView { source, clone: OnceCell::new(), name, links })
    };
    views.iter().map(prepare).collect()
}
