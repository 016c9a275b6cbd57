//! Control groups that a container has made below its own, for processes that join it there.
//!
//! They are named as runc's users name them: `PATH` for all hierarchies, or `CONTROLLERS:PATH` for those of
//! the named controllers (`cpu,cpuacct:jobs`), as often as there are hierarchies.

use crate::Result;
use crate::error::CgroupError;
use crate::layout::{Hierarchy, Layout, Mode};
use crate::place::Place;

impl Layout {
    /// The text of the place that `given` names below the container's own, for [`Layout::open`]. Whether
    /// it is there shows when it is entered.
    ///
    /// # Errors
    /// [`CgroupError::BadBelow`] for what names nothing below, names a controller twice, or one that is not
    /// mounted.
    pub fn below(&self, place: &str, given: &[&str]) -> Result<String> {
        let own = Place::parse(place);
        let mut named = Vec::new();
        for text in given {
            match text.split_once(':') {
                None if given.len() > 1 => {
                    return Err(bad(text, "with others it needs a controller before it"));
                }
                None => named.push((None, inner(text, text)?)),
                Some((controllers, path)) => {
                    for controller in controllers.split(',') {
                        self.check(text, controller)?;
                        named.push((Some(controller), inner(text, path)?));
                    }
                }
            }
        }
        for (at, (controller, _)) in named.iter().enumerate() {
            if let Some(name) = controller
                && named.iter().take(at).any(|(other, _)| other == controller)
            {
                return Err(bad(name, "the controller is named twice"));
            }
        }
        let paths = self.hierarchies().map(|hierarchy| {
            let below = named.iter().find(|(controller, _)| match controller {
                Some(name) => is_called(hierarchy, name),
                // Beside v1 hierarchies, the cgroup2 tree has no controllers to divide by.
                None => !hierarchy.label.is_empty() || self.mode() == Mode::V2,
            });
            let below = below.map_or("", |(_, below)| below.as_str());
            (hierarchy.label.as_str(), [own.path_in(hierarchy), below].concat())
        });
        Ok(Place::text_of(own.path.clone(), paths))
    }

    fn check(&self, text: &str, controller: &str) -> Result<()> {
        if controller.is_empty() {
            return Err(bad(text, "it begins with no controller"));
        }
        if self.hierarchies().any(|hierarchy| is_called(hierarchy, controller)) {
            return Ok(());
        }
        Err(bad(text, "unknown controller"))
    }
}

/// v1 hierarchies have the names of their controllers; `systemd` is for `name=systemd`.
fn is_called(hierarchy: &Hierarchy, name: &str) -> bool {
    let named = hierarchy.label.strip_prefix("name=");
    hierarchy.label == name
        || named == Some(name)
        || (!hierarchy.label.is_empty()
            && hierarchy.controllers.iter().any(|controller| controller.name() == name))
}

/// The path with a slash before it, or nothing for the container's own group.
fn inner(text: &str, path: &str) -> Result<String> {
    let parts: Vec<_> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.iter().any(|part| *part == ".." || part.contains(['\0', '\n'])) {
        return Err(bad(text, "bad sub cgroup path"));
    }
    Ok(parts.iter().flat_map(|part| ["/", part]).collect())
}

fn bad(text: &str, why: &'static str) -> CgroupError {
    CgroupError::BadBelow { text: text.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Controllers;

    fn hierarchy(label: &str, controllers: &[&str]) -> Hierarchy {
        Hierarchy {
            mount: format!("/sys/fs/cgroup/{label}"),
            label: label.to_owned(),
            root: "/".to_owned(),
            controllers: Controllers::parse(controllers.iter().copied()),
        }
    }

    fn hybrid() -> Layout {
        let v1 = vec![
            hierarchy("cpu", &["cpu", "cpuacct"]),
            hierarchy("memory", &["memory"]),
            hierarchy("name=systemd", &[]),
        ];
        Layout::from_hierarchies(v1, Some(hierarchy("", &[])))
    }

    #[test]
    fn one_path_is_for_all_controllers() {
        let below = |given: &str| hybrid().below("/x", &[given]).unwrap();
        assert_eq!(
            below("jobs//a/."),
            "/x\ncpu:/x/jobs/a\nmemory:/x/jobs/a\nname=systemd:/x/jobs/a"
        );
        assert_eq!(below("/"), "/x");
        let v2 = Layout::from_hierarchies(vec![], Some(hierarchy("", &["memory"])));
        assert_eq!(v2.below("/x", &["jobs"]).unwrap(), "/x\n:/x/jobs");
        assert_eq!(v2.open("/x\n:/x/jobs").directories().next().unwrap().1, "/x/jobs");
    }

    #[test]
    fn controllers_have_their_own() {
        let below = hybrid().below("/x\nmemory:/y", &["cpuacct:a", "memory:b"]).unwrap();
        assert_eq!(below, "/x\ncpu:/x/a\nmemory:/y/b");
    }

    #[test]
    fn the_rest_is_refused() {
        for given in [
            &[".."][..],
            &["a/../.."],
            &["a", "b"],
            &["memory:a", "memory:b"],
            &["whaaat:/"],
            &[":a"],
        ] {
            assert!(hybrid().below("/x", given).is_err(), "{given:?}");
        }
    }
}
