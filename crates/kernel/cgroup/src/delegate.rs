//! Giving a cgroup2 directory to a user, so that he can make groups below it and move his processes.
//!
//! The limits of the group itself stay whose they are: only the directory and the files that the kernel
//! names for it change hands (cgroups(7), "Delegation").

use dhow_sys::process::Reason;
use dhow_sys::rustix::fs::{Uid, chown};
use dhow_sys::rustix::io::Errno;

use crate::Result;
use crate::control;
use crate::error::CgroupError;
use crate::group::Cgroup;
use crate::layout::Mode;

/// Where the kernel says what a delegate needs to own (Linux 4.15).
const LIST: &str = "/sys/kernel/cgroup/delegate";
/// What every cgroup2 has of it, where the kernel does not say.
const ALWAYS: &str = "cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n";

impl Cgroup {
    /// Gives the cgroup to the host's user `uid`. Nothing happens where v1 is in use, whose delegation is not
    /// secure.
    ///
    /// # Errors
    /// [`CgroupError::Delegate`].
    pub fn delegate(&self, uid: u32) -> Result<()> {
        self.delegate_listed(uid, LIST)
    }

    fn delegate_listed(&self, uid: u32, list: &str) -> Result<()> {
        let (Mode::V2, Some(tree)) = (self.layout.mode(), self.layout.cgroup2()) else {
            return Ok(());
        };
        self.place.check()?;
        let directory = self.directory_of(tree);
        let give = |path: &str| chown(path, Some(Uid::from_raw(uid)), None);
        let failed = |errno| CgroupError::Delegate {
            directory: directory.clone(),
            uid,
            source: Reason(errno),
        };
        give(&directory).map_err(failed)?;
        let list = control::read(list).unwrap_or_else(|_| ALWAYS.to_owned());
        for name in list.lines().filter(|name| !name.is_empty() && !name.contains('/')) {
            match give(&self.file(tree, name)) {
                // Not every cgroup has every one.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use crate::controller::Controllers;
    use crate::layout::{Hierarchy, Layout};

    /// Shows: config-linux/cgroup-ownership-1, config-linux/cgroup-ownership-2
    #[test]
    fn only_what_a_delegate_needs_changes_hands() {
        let root = tempfile::tempdir().unwrap();
        let file = |name: &str| root.path().join("box").join(name);
        fs::create_dir(file("")).unwrap();
        for name in ["cgroup.procs", "cgroup.subtree_control", "memory.max"] {
            fs::write(file(name), "").unwrap();
        }
        let tree = || Hierarchy {
            mount: root.path().to_str().unwrap().to_owned(),
            root: "/".to_owned(),
            label: String::new(),
            controllers: Controllers::default(),
        };
        Layout::from_hierarchies(vec![], Some(tree())).open("/box").delegate(1000).unwrap();
        let owner = |name: &str| fs::metadata(file(name)).unwrap().uid();
        assert_eq!((owner(""), owner("cgroup.procs"), owner("memory.max")), (1000, 1000, 0));
        assert_eq!(owner("cgroup.subtree_control"), 1000);
        fs::write(file("cgroup.threads"), "").unwrap();
        // A kernel that says something else is listened to, one that says nothing needs not.
        let group = Layout::from_hierarchies(vec![], Some(tree())).open("/box");
        group.delegate_listed(1001, file("memory.max").to_str().unwrap()).unwrap();
        assert_eq!((owner(""), owner("cgroup.procs")), (1001, 1000));
        group.delegate_listed(1000, "/nosuch").unwrap();
        assert_eq!((owner("cgroup.threads"), owner("cgroup.subtree_control")), (1000, 1000));
        // v1 beside it: nothing is given away.
        Layout::from_hierarchies(vec![tree()], Some(tree())).open("/box").delegate(7).unwrap();
        assert_eq!(owner(""), 1000);
    }
}
