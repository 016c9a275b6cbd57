//! Where a container's cgroup is, in each hierarchy.
//!
//! Mostly that is one path for all. A path relative to the caller's own cgroup may differ from one v1
//! hierarchy to the next, because a process may be somewhere else in each. A [`Place`] is written as
//! text, so that it can be kept and opened again:
//!
//! ```text
//!   /dhow/box                      in every hierarchy
//!   memory:/session/dhow/box       one line more for each that differs, by label
//! ```
//!
//! A newline cannot be part of a cgroup's name (the kernel refuses it, so that /proc/PID/cgroup can be
//! read), which makes the text unambiguous.

use crate::Result;
use crate::control;
use crate::error::CgroupError;
use crate::layout::{Hierarchy, Layout, Mode};
use dhow_sys::process::Reason;

const OWN: &str = "/proc/self/cgroup";

/// The paths of one cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The path in most hierarchies, and the one to show.
    pub(crate) path: String,
    /// Label and path of those where it is another.
    others: Box<[(String, String)]>,
}

impl Place {
    /// Reads a place's text. Whether its paths are good is not looked at here ([`Place::check`]).
    pub(crate) fn parse(text: &str) -> Self {
        let mut lines = text.split('\n');
        let path = lines.next().unwrap_or_default().to_owned();
        let split = |line: &str| match line.split_once(':') {
            Some((label, path)) => (label.to_owned(), path.to_owned()),
            // No path at all, which is refused later.
            None => (line.to_owned(), String::new()),
        };
        Self { path, others: lines.map(split).collect() }
    }

    /// The text of a place with `path` in all hierarchies but those where `paths`, by label, say otherwise.
    pub(crate) fn text_of<'a>(
        path: String,
        paths: impl Iterator<Item = (&'a str, String)>,
    ) -> String {
        let mut text = path.clone();
        for (label, other) in paths.filter(|(_, other)| *other != path) {
            text.extend(["\n", label, ":", &other]);
        }
        text
    }

    /// The path in one hierarchy.
    pub(crate) fn path_in(&self, hierarchy: &Hierarchy) -> &str {
        let own = self.others.iter().find(|(label, _)| *label == hierarchy.label);
        own.map_or(self.path.as_str(), |(_, path)| path)
    }

    /// Refuses a path that could leave its hierarchy.
    pub(crate) fn check(&self) -> Result<()> {
        let paths = std::iter::once(&self.path).chain(self.others.iter().map(|(_, path)| path));
        for path in paths {
            check(path)?;
        }
        Ok(())
    }
}

fn check(path: &str) -> Result<()> {
    let bad = || CgroupError::BadPath { path: path.to_owned() };
    let relative = path.strip_prefix('/').ok_or_else(bad)?;
    let component_is_bad =
        |component: &str| matches!(component, "" | "." | "..") || component.contains('\0');
    if relative.split('/').any(component_is_bad) || path.len() > 3000 {
        return Err(bad());
    }
    Ok(())
}

impl Layout {
    /// The text of the place that an OCI configuration's `cgroupsPath` means (config-linux.md, "Cgroups
    /// Path"), for [`Layout::create`] and [`Layout::open`], as runc takes it: an absolute path counts from
    /// each hierarchy's root; a relative one from where the caller is, on a pure cgroup2 machine from
    /// that cgroup's parent (a cgroup with processes can have no children with limits there). An empty
    /// one is `id`. `..` never leads out of where the path counts from.
    ///
    /// # Errors
    /// [`CgroupError::Detect`] when the caller's own cgroups cannot be read, [`CgroupError::BadPath`] for a
    /// path that ends at a hierarchy's root or has a newline or NUL.
    pub fn place(&self, cgroups_path: &str, id: &str) -> Result<String> {
        let own = if cgroups_path.starts_with('/') {
            String::new()
        } else {
            control::read(OWN)
                .map_err(|errno| CgroupError::Detect { path: OWN, source: Reason(errno) })?
        };
        self.place_from(cgroups_path, id, &own)
    }

    fn place_from(&self, cgroups_path: &str, id: &str, own: &str) -> Result<String> {
        let inner = clean(if cgroups_path.is_empty() { id } else { cgroups_path });
        if inner.is_empty() || inner.contains(['\n', '\0']) {
            return Err(CgroupError::BadPath { path: cgroups_path.to_owned() });
        }
        if cgroups_path.starts_with('/') {
            return Ok(["/", &inner].concat());
        }
        let below = |hierarchy: &Hierarchy| {
            let base = own_path(own, hierarchy);
            let parent = || base.rsplit_once('/').map_or("", |(parent, _)| parent);
            let base = if self.mode() == Mode::V2 { parent() } else { base };
            [base.trim_end_matches('/'), "/", &inner].concat()
        };
        let paths: Vec<_> =
            self.hierarchies().map(|hierarchy| (&hierarchy.label, below(hierarchy))).collect();
        let count = |path: &str| paths.iter().filter(|(_, other)| other == path).count();
        let most = paths.iter().map(|(_, path)| path).max_by_key(|path| count(path));
        let Some(most) = most else { return Err(CgroupError::NotMounted) };
        let mut text = most.clone();
        for (label, path) in paths.iter().filter(|(_, path)| path != most) {
            text.extend(["\n", label, ":", path]);
        }
        Ok(text)
    }
}

/// The caller's path in a hierarchy, below what is mounted of it; `own` is /proc/self/cgroup.
fn own_path<'a>(own: &'a str, hierarchy: &Hierarchy) -> &'a str {
    let path = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        names.split(',').any(|name| name == hierarchy.label).then_some(path)
    });
    let path = path.unwrap_or("/");
    let below = path.strip_prefix(hierarchy.root.trim_end_matches('/')).unwrap_or(path);
    if below.starts_with('/') { below } else { "/" }
}

/// The path without empty and '.' components, '..' taking one away, without a slash before it.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Controllers;

    fn hierarchy(label: &str, root: &str) -> Hierarchy {
        Hierarchy {
            mount: format!("/sys/fs/cgroup/{label}"),
            label: label.to_owned(),
            root: root.to_owned(),
            controllers: Controllers::parse([label]),
        }
    }

    const OWN: &str = "3:name=systemd:/\n2:memory:/session/a\n1:cpu,cpuacct:/\n0::/session/a\n";

    #[test]
    fn relative_paths_count_from_where_the_caller_is() {
        let v1 = ["cpu", "memory", "name=systemd"].map(|label| hierarchy(label, "/")).to_vec();
        let layout = Layout::from_hierarchies(v1, None);
        let place = |path| layout.place_from(path, "id", OWN).unwrap();
        assert_eq!(place("/x/../../y//z"), "/y/z");
        assert_eq!(place("x/./y"), "/x/y\nmemory:/session/a/x/y");
        assert_eq!(place("../../y"), "/y\nmemory:/session/a/y");
        assert_eq!(place(""), "/id\nmemory:/session/a/id");
        for bad in ["/", "/..", ".", "/a\nb", "a\0"] {
            assert!(layout.place_from(bad, "id", OWN).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn on_cgroup2_they_count_from_its_parent() {
        let layout = Layout::from_hierarchies(vec![], Some(hierarchy("", "/")));
        assert_eq!(layout.place_from("x", "id", OWN).unwrap(), "/session/x");
        assert_eq!(layout.place_from("", "id", "0::/\n").unwrap(), "/id");
    }

    #[test]
    fn what_is_mounted_of_a_hierarchy_counts_as_its_root() {
        let layout = Layout::from_hierarchies(vec![hierarchy("memory", "/session")], None);
        assert_eq!(layout.place_from("x", "id", OWN).unwrap(), "/a/x");
    }

    #[test]
    fn a_place_is_kept_as_text() {
        let place = Place::parse("/x\nmemory:/session/a/x\nname=systemd:/s:1/x");
        assert_eq!(place.path_in(&hierarchy("cpu", "/")), "/x");
        assert_eq!(place.path_in(&hierarchy("memory", "/")), "/session/a/x");
        assert_eq!(place.path_in(&hierarchy("name=systemd", "/")), "/s:1/x");
        place.check().unwrap();
        for bad in ["", "a", "/", "/a//b", "/a/../b", "/a/", "/.", "/a\0", "/a\n", "/a\nm:b"] {
            assert!(Place::parse(bad).check().is_err(), "{bad:?}");
        }
        Place::parse("/dhow/a-1.b").check().unwrap();
    }
}
