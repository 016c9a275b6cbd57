//! Binds: a file or directory of the host's, shown in the container.

use std::cell::OnceCell;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use dhow_spec::oci_runtime::Mount;
use dhow_sys::mount::{
    OpenTreeFlags, Propagation, change_attributes, change_propagation, open_tree,
};
use dhow_sys::rustix::fs::CWD;
use dhow_sys::rustix::io::Errno;

use crate::failure::{Doing, Failure, PlanError};
use crate::idmap::IdMap;
use crate::options::Options;
use crate::text::host_path;

/// A bind's source.
#[derive(Debug)]
pub(crate) struct Bind {
    source: CString,
    recursive: bool,
    id_map: Option<IdMap>,
    /// Filled in the child.
    clone: OnceCell<OwnedFd>,
}

impl Bind {
    pub(crate) fn new(
        mount: &Mount,
        destination: &str,
        options: &Options,
        user_namespace: bool,
    ) -> Result<Self, PlanError> {
        if let Some(option) = options.first_data() {
            return Err(PlanError::Option { option, destination: destination.to_owned() });
        }
        let missing =
            || PlanError::Incomplete { destination: destination.to_owned(), what: "source" };
        let source = mount.source().as_ref().ok_or_else(missing)?;
        Ok(Self {
            source: host_path("mount source", source)?,
            recursive: options.bind.unwrap_or(true),
            id_map: IdMap::new(
                mount.uid_mappings().as_ref(),
                mount.gid_mappings().as_ref(),
                options.id_map,
                user_namespace,
            )?,
            clone: OnceCell::new(),
        })
    }

    /// The map of its ids, if they are mapped.
    pub(crate) fn id_map(&self) -> Option<&IdMap> {
        self.id_map.as_ref()
    }

    /// Clones the source with the attributes of `options`. In the child, before the host's tree is left or its
    /// propagation cut, so that a shared bind stays a peer of the host's; and before a user namespace is
    /// entered, for which the source may be out of reach.
    pub(crate) fn open(&self, options: &Options) -> Result<(), Failure> {
        let shown = || self.source.to_string_lossy().into_owned();
        let doing = || format!("cannot open mount source {}", shown());
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        if self.recursive {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        let tree = open_tree(CWD, self.source.as_c_str(), flags).doing(doing)?;
        let (propagation, deep) = options.propagation.unwrap_or((Propagation::Private, true));
        change_propagation(tree.as_fd(), propagation, deep).doing(doing)?;
        if let Some(id_map) = &self.id_map {
            id_map.apply(&tree, shown)?;
        }
        let doing = || format!("cannot set the attributes of mount source {}", shown());
        if !options.attributes.is_empty() {
            change_attributes(tree.as_fd(), options.attributes, false).doing(doing)?;
        }
        if !options.recursive.is_empty() {
            change_attributes(tree.as_fd(), options.recursive, true).doing(doing)?;
        }
        // Never filled before: the cell belongs to this one child.
        let _ = self.clone.set(tree);
        Ok(())
    }

    /// What [`Bind::open`] has cloned.
    pub(crate) fn opened(&self, destination: &str) -> Result<&OwnedFd, Failure> {
        let doing = || format!("cannot prepare the mount on {destination}");
        self.clone.get().ok_or(Errno::BADF).doing(doing)
    }
}
