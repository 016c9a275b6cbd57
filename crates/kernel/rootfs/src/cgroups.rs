//! What a mount of type `cgroup` shows: the container's own control groups.

use std::cell::OnceCell;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dhow_sys::mount::{
    AttributeChange, MountAttrFlags, OpenTreeFlags, attach, change_attributes,
    change_attributes_privately, open_tree,
};
use dhow_sys::rustix::fs::{CWD, Mode, OFlags, mkdirat, openat, symlinkat};
use dhow_sys::rustix::io::Errno;

use crate::failure::{Doing, Failure, PlanError};
use crate::filesystem;
use crate::text::c_string;

/// A directory of a control group hierarchy that the container sees at its `/sys/fs/cgroup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupView {
    /// The directory on the host: the container's own cgroup in that hierarchy.
    pub source: String,
    /// Its name below `/sys/fs/cgroup`, such as `memory`; empty for a pure cgroup2 machine, where it is
    /// `/sys/fs/cgroup` itself.
    pub name: String,
}

/// All views of one mount.
#[derive(Debug)]
pub(crate) struct Views(Vec<View>);

#[derive(Debug)]
struct View {
    source: CString,
    /// Filled in the child.
    clone: OnceCell<OwnedFd>,
    name: CString,
    /// The controllers of a joint hierarchy (`cpu,cpuacct`), each a link to it.
    links: Vec<CString>,
}

impl Views {
    pub(crate) fn new(views: &[CgroupView]) -> Result<Self, PlanError> {
        let text = |text: &str| c_string("cgroup", text.as_bytes());
        let prepare = |view: &CgroupView| {
            let joint = view.name.contains(',');
            let links =
                view.name.split(',').filter(|_| joint).map(text).collect::<Result<_, _>>()?;
            let (source, name) = (text(&view.source)?, text(&view.name)?);
            Ok(View { source, clone: OnceCell::new(), name, links })
        };
        views.iter().map(prepare).collect::<Result<_, _>>().map(Self)
    }

    /// Clones them from the host's tree. The cgroups must exist.
    pub(crate) fn open(&self, attributes: AttributeChange) -> Result<(), Failure> {
        self.0.iter().try_for_each(|view| view.open(attributes))
    }

    /// On v1 and hybrid machines a tmpfs with a directory a hierarchy; else the one hierarchy itself.
    pub(crate) fn attach(
        &self,
        target: BorrowedFd<'_>,
        attributes: AttributeChange,
        destination: &str,
    ) -> Result<(), Failure> {
        let attached = |mount: BorrowedFd<'_>| {
            attach(mount, target).doing(|| format!("cannot attach the mount on {destination}"))
        };
        if let [view] = self.0.as_slice()
            && view.name.is_empty()
        {
            return attached(view.opened(destination)?);
        }
        let mode = [(c"mode", c"755")];
        let what = || destination.to_owned();
        let at_first = attributes.set & !MountAttrFlags::MOUNT_ATTR_RDONLY;
        let tmpfs = filesystem::make(c"tmpfs", Some(c"tmpfs"), mode, at_first, what)?;
        attached(tmpfs.as_fd())?;
        self.0.iter().try_for_each(|view| view.make(tmpfs.as_fd(), destination))?;
        change_attributes(tmpfs.as_fd(), attributes, false)
            .doing(|| format!("cannot set the attributes of {destination}"))
    }
}

impl View {
    fn open(&self, attributes: AttributeChange) -> Result<(), Failure> {
        let doing = || format!("cannot show cgroup {}", self.source.to_string_lossy());
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, self.source.as_c_str(), flags).doing(doing)?;
        change_attributes_privately(tree.as_fd(), attributes).doing(doing)?;
        // Never filled before: the cell belongs to this one child.
        let _ = self.clone.set(tree);
        Ok(())
    }

    fn make(&self, tmpfs: BorrowedFd<'_>, destination: &str) -> Result<(), Failure> {
        let doing = || format!("cannot make {destination}/{}", self.name.to_string_lossy());
        mkdirat(tmpfs, self.name.as_c_str(), Mode::from_raw_mode(0o755)).doing(doing)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = openat(tmpfs, self.name.as_c_str(), flags, Mode::empty()).doing(doing)?;
        attach(self.opened(destination)?, place.as_fd()).doing(doing)?;
        for link in &self.links {
            symlinkat(self.name.as_c_str(), tmpfs, link.as_c_str()).doing(doing)?;
        }
        Ok(())
    }

    fn opened(&self, destination: &str) -> Result<BorrowedFd<'_>, Failure> {
        let doing = || format!("cannot show a cgroup below {destination}");
        self.clone.get().map(AsFd::as_fd).ok_or(Errno::BADF).doing(doing)
    }
}
