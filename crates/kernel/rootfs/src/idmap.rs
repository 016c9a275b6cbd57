//! Id-mapped mounts: files of the host shown with other owners, without changing them
//! (OCI runtime specification, config.md, "uidMappings" of a mount; mount_setattr(2)).
//!
//! The ids are those of a user namespace: the container's own, or one that is made only for its maps. Both are
//! there before the process that mounts, because the kernel wants the file system's owner to do it.

use std::cell::OnceCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dhow_spec::oci_runtime::LinuxIdMapping;
use dhow_sys::mount::map_ids;
use dhow_sys::rustix::io::Errno;
use dhow_sys::userns::{self, MOST_RANGES, Maps, Range};

use crate::failure::{Doing, Failure, PlanError};

/// How a mount's ids are mapped.
#[derive(Debug)]
pub(crate) struct IdMap {
    /// Its own maps; else the container's.
    maps: Option<Maps>,
    /// Whether mounts beneath are mapped too.
    recursive: bool,
    /// Filled by the parent.
    namespace: OnceCell<OwnedFd>,
}

impl IdMap {
    /// Checks the maps of one mount; `option` is whether `ridmap` or `idmap` was given, `user_namespace`
    /// whether the container has one.
    pub(crate) fn new(
        users: Option<&Vec<LinuxIdMapping>>,
        groups: Option<&Vec<LinuxIdMapping>>,
        option: Option<bool>,
        user_namespace: bool,
    ) -> Result<Option<Self>, PlanError> {
        let given = |list: Option<&Vec<LinuxIdMapping>>| list.is_some_and(|list| !list.is_empty());
        let recursive = option.unwrap_or(false);
        let incomplete = |why| Err(PlanError::IdMap { field: "mounts.uidMappings", why });
        match (given(users), given(groups)) {
            (true, true) => {
                let maps = Some(id_maps(users, groups)?);
                Ok(Some(Self { maps, recursive, namespace: OnceCell::new() }))
            }
            (false, false) if option.is_none() => Ok(None),
            (false, false) if user_namespace => {
                Ok(Some(Self { maps: None, recursive, namespace: OnceCell::new() }))
            }
            (false, false) => incomplete("an idmap without mappings needs a user namespace"),
            _ => incomplete("a mount needs mappings of users and of groups, or neither"),
        }
    }

    /// Gets the namespace whose ids these are. In the parent.
    pub(crate) fn prepare(
        &self,
        container: Option<BorrowedFd<'_>>,
        what: impl Fn() -> String,
    ) -> Result<(), Failure> {
        let failed = |errno, detail: String| {
            Failure::new(errno, format!("cannot map the ids of the mount on {}{detail}", what()))
        };
        let namespace = match (&self.maps, container) {
            (Some(maps), _) => userns::make(maps)
                .map_err(|error| failed(error.errno, format!(" ({})", error.step)))?,
            (None, Some(container)) => {
                container.try_clone_to_owned().map_err(|_| failed(Errno::MFILE, String::new()))?
            }
            (None, None) => return Err(failed(Errno::INVAL, String::new())),
        };
        // Never filled before: a plan is carried out once.
        let _ = self.namespace.set(namespace);
        Ok(())
    }

    /// Maps the ids of the detached mount `tree` of `source`.
    pub(crate) fn apply(&self, tree: &OwnedFd, source: impl Fn() -> String) -> Result<(), Failure> {
        let doing = || format!("cannot map the ids of mount source {}", source());
        let namespace = self.namespace.get().ok_or(Errno::BADF).doing(doing)?;
        map_ids(tree.as_fd(), namespace.as_fd(), self.recursive).map_err(|errno| {
            let failure = Failure::new(errno, doing());
            match errno {
                Errno::INVAL => failure.with_hint(
                    "its file system, or one mounted in it, may not support id-mapped mounts",
                ),
                Errno::PERM => {
                    failure.with_hint("its file system belongs to another user namespace")
                }
                _ => failure,
            }
        })
    }
}

/// The specification's mappings as the kernel wants them. Errors: empty or too many ranges, or ranges beyond
/// the last id. Overlaps are the kernel's to refuse.
pub fn id_maps(
    users: Option<&Vec<LinuxIdMapping>>,
    groups: Option<&Vec<LinuxIdMapping>>,
) -> Result<Maps, PlanError> {
    let map = |field, list: Option<&Vec<LinuxIdMapping>>| {
        let refuse = |why| Err(PlanError::IdMap { field, why });
        let list = list.map(Vec::as_slice).unwrap_or_default();
        if list.len() > MOST_RANGES {
            return refuse("the kernel takes at most 340 ranges");
        }
        let beyond = |first: u32, size: u32| first.checked_add(size).is_none();
        if list.iter().any(|it| it.size() == 0) {
            return refuse("a range has size 0");
        }
        if list
            .iter()
            .any(|it| beyond(it.container_id(), it.size()) || beyond(it.host_id(), it.size()))
        {
            return refuse("a range ends beyond the last id");
        }
        let range = |it: &LinuxIdMapping| Range {
            inside: it.container_id(),
            outside: it.host_id(),
            size: it.size(),
        };
        Ok(list.iter().map(range).collect())
    };
    Ok(Maps { users: map("uidMappings", users)?, groups: map("gidMappings", groups)? })
}

#[cfg(test)]
mod tests {
    use dhow_spec::oci_runtime::LinuxIdMappingBuilder;

    use super::*;

    fn mapping(inside: u32, outside: u32, size: u32) -> LinuxIdMapping {
        let builder = LinuxIdMappingBuilder::default();
        builder.container_id(inside).host_id(outside).size(size).build().unwrap()
    }

    #[test]
    fn a_mount_without_maps_takes_the_containers() {
        let of = |option, user_namespace| IdMap::new(None, None, option, user_namespace);
        assert!(of(None, true).unwrap().is_none());
        assert!(of(Some(true), true).unwrap().is_some_and(|map| map.recursive));
        assert!(of(Some(false), false).is_err());
    }

    #[test]
    fn maps_without_an_option_count() {
        let list = vec![mapping(0, 1000, 10)];
        let own = IdMap::new(Some(&list), Some(&list), None, false).unwrap().unwrap();
        assert_eq!(own.maps.unwrap().users, [Range { inside: 0, outside: 1000, size: 10 }]);
        assert!(IdMap::new(Some(&list), None, None, true).is_err());
    }

    #[test]
    fn ranges_that_cannot_be() {
        for bad in [mapping(0, 0, 0), mapping(1, 0, u32::MAX), mapping(0, u32::MAX, 1)] {
            assert!(id_maps(Some(&vec![bad]), None).is_err());
        }
        assert!(id_maps(Some(&vec![mapping(0, 0, 1); MOST_RANGES + 1]), None).is_err());
        assert!(id_maps(Some(&vec![mapping(0, 0, u32::MAX)]), None).is_ok());
    }
}
