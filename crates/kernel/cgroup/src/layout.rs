//! Where this machine mounts which controller.
//!
//! [`Layout::detect`] reads /proc/self/mountinfo (proc_pid_mountinfo(5)) and cgroup2's
//! `cgroup.controllers`, once. A hierarchy mounted twice counts once; the mount that shows its root
//! is preferred. Paths are below the mount point, so in a container's own cgroup namespace they are
//! below what that container sees as the root.

use std::sync::{Arc, OnceLock};

use dhow_sys::process::Reason;
use dhow_sys::rustix::io::Errno;

use crate::Result;
use crate::control;
use crate::controller::{Controller, Controllers};
use crate::error::CgroupError;
use crate::group::Cgroup;

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Which cgroup versions are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// v1 hierarchies only.
    V1,
    /// v1 hierarchies, and a cgroup2 tree beside them.
    Hybrid,
    /// cgroup2 only.
    V2,
}

/// The mounted hierarchies. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Layout {
    v1: Arc<[Hierarchy]>,
    unified: Option<Arc<Hierarchy>>,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Mount point, without a slash at its end.
    pub(crate) mount: String,
    /// What of the hierarchy is mounted there: "/", or less in a container.
    pub(crate) root: String,
    /// One of the names that /proc/PID/cgroup has for it: a controller's, "name=..." for a hierarchy
    /// without controllers, nothing for cgroup2.
    pub(crate) label: String,
    /// What it controls. Empty for named v1 hierarchies.
    pub(crate) controllers: Controllers,
}

impl Layout {
    /// Finds out what is mounted.
    ///
    /// # Errors
    /// [`CgroupError::Detect`] when /proc cannot be read, [`CgroupError::NotMounted`] when there is no
    /// cgroup file system.
    pub fn detect() -> Result<Self> {
        let text = control::read(MOUNTINFO)
            .map_err(|errno| CgroupError::Detect { path: MOUNTINFO, source: Reason(errno) })?;
        let (v1, unified) = parse_mountinfo(&text);
        let unified = unified.map(|tree| {
            // Unreadable means no controllers: the tree still serves for cgroup.kill.
            let file = format!("{}/cgroup.controllers", tree.mount);
            let names = control::read(&file).unwrap_or_default();
            Hierarchy { controllers: Controllers::parse(names.split_whitespace()), ..tree }
        });
        if v1.is_empty() && unified.is_none() {
            return Err(CgroupError::NotMounted);
        }
        Ok(Self::from_hierarchies(v1, unified))
    }

    /// As [`Layout::detect`], but looked at once in the life of this process: for processes that make or
    /// enter one container, and do not care what is mounted meanwhile.
    ///
    /// # Errors
    /// As there.
    pub fn known() -> Result<Self> {
        static KNOWN: OnceLock<Layout> = OnceLock::new();
        if let Some(known) = KNOWN.get() {
            return Ok(known.clone());
        }
        let detected = Self::detect()?;
        Ok(KNOWN.get_or_init(|| detected).clone())
    }

    pub(crate) fn from_hierarchies(v1: Vec<Hierarchy>, unified: Option<Hierarchy>) -> Self {
        Self { v1: v1.into(), unified: unified.map(Arc::new) }
    }

    /// Which versions are mounted.
    pub fn mode(&self) -> Mode {
        match (self.v1.is_empty(), &self.unified) {
            (true, _) => Mode::V2,
            (false, Some(_)) => Mode::Hybrid,
            (false, None) => Mode::V1,
        }
    }

    /// Whether a limit of `controller` can be set here: on v1, or on cgroup2 (devices by BPF, freezing
    /// always).
    pub fn supports(&self, controller: Controller) -> bool {
        self.v1(controller).is_some() || self.unified(controller).is_some()
    }

    /// Makes `path` (such as "/dhow/<id>", or the text that [`Layout::place`] gave) in every hierarchy, with
    /// its parents; on cgroup2 also enables the controllers down to it. A directory that is already there
    /// is used, if nobody is in it: a container must neither be limited nor killed with others.
    ///
    /// # Errors
    /// [`CgroupError::BadPath`], [`CgroupError::Create`] (what was made is removed again),
    /// [`CgroupError::InheritCpuset`], [`CgroupError::NotEmpty`], [`CgroupError::Frozen`].
    pub fn create(&self, path: &str) -> Result<Cgroup> {
        let group = self.open(path);
        group.make()?;
        Ok(group)
    }

    /// The cgroup of that path or place, whether it exists or not. No system call.
    pub fn open(&self, path: &str) -> Cgroup {
        Cgroup::new(self.clone(), path)
    }

    /// Removes the cgroup `path` and says whether it is gone: false if processes or children are in
    /// it. For parents such as "/dhow", when the last container is gone.
    ///
    /// # Errors
    /// [`CgroupError::BadPath`], [`CgroupError::Destroy`].
    pub fn remove_parent(&self, path: &str) -> Result<bool> {
        self.open(path).remove_if_empty()
    }

    /// Where the hierarchies are mounted, v1 first: what a container's `/sys/fs/cgroup` is made of.
    pub fn mount_points(&self) -> impl Iterator<Item = &str> {
        self.hierarchies().map(|hierarchy| hierarchy.mount.as_str())
    }

    /// The v1 hierarchy of a controller.
    pub(crate) fn v1(&self, controller: Controller) -> Option<&Hierarchy> {
        self.v1.iter().find(|hierarchy| hierarchy.controllers.contains(controller))
    }

    /// The cgroup2 tree, if it serves that controller.
    pub(crate) fn unified(&self, controller: Controller) -> Option<&Hierarchy> {
        let unified = self.unified.as_deref()?;
        let core = matches!(controller, Controller::Devices | Controller::Freezer);
        (core || unified.controllers.contains(controller)).then_some(unified)
    }

    pub(crate) fn v1_hierarchies(&self) -> &[Hierarchy] {
        &self.v1
    }

    pub(crate) fn cgroup2(&self) -> Option<&Hierarchy> {
        self.unified.as_deref()
    }

    /// All hierarchies, v1 first.
    pub(crate) fn hierarchies(&self) -> impl Iterator<Item = &Hierarchy> {
        self.v1.iter().chain(self.unified.as_deref())
    }

    /// What to tell somebody who wants a controller that is not there.
    pub(crate) fn missing_hint(&self, controller: Controller) -> String {
        let name = controller.name();
        let listed = match control::read("/proc/cgroups") {
            Ok(text) => text.lines().any(|line| line.split_whitespace().next() == Some(name)),
            Err(Errno::NOENT) => false,
            Err(_) => true,
        };
        match (listed, self.mode()) {
            (false, _) => format!("this kernel is built or booted without the {name} controller"),
            (true, Mode::V2) => format!(
                "the kernel has it: enable it with echo +{} > cgroup.subtree_control in the parent",
                controller.unified_name()
            ),
            (true, _) => {
                format!("the kernel has it: mount -t cgroup -o {name} cgroup /sys/fs/cgroup/{name}")
            }
        }
    }
}

impl Hierarchy {
    /// The directory of cgroup `path` (which begins with a slash).
    pub(crate) fn directory(&self, path: &str) -> String {
        [self.mount.as_str(), path].concat()
    }
}

/// The v1 hierarchies and cgroup2's, whose controllers are not known yet.
fn parse_mountinfo(text: &str) -> (Vec<Hierarchy>, Option<Hierarchy>) {
    let mut found: Vec<Mount> = Vec::new();
    for mount in text.lines().filter_map(Mount::parse) {
        match found.iter_mut().find(|other| other.device == mount.device) {
            Some(other) if other.root != "/" && mount.root == "/" => *other = mount,
            Some(_) => {}
            None => found.push(mount),
        }
    }
    let unified = found.iter().find(|mount| mount.is_v2).map(Mount::hierarchy);
    let v1 = found.iter().filter(|mount| !mount.is_v2).map(Mount::hierarchy).collect();
    (v1, unified)
}

/// A cgroup line of mountinfo.
struct Mount<'a> {
    device: &'a str,
    root: &'a str,
    point: &'a str,
    is_v2: bool,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (head, tail) = line.split_once(" - ")?;
        let mut tail = tail.split(' ');
        let is_v2 = match tail.next()? {
            "cgroup" => false,
            "cgroup2" => true,
            _ => return None,
        };
        let mut head = head.split(' ').skip(2);
        let (device, root, point) = (head.next()?, head.next()?, head.next()?);
        Some(Self { device, root, point, is_v2, options: tail.nth(1).unwrap_or_default() })
    }

    fn hierarchy(&self) -> Hierarchy {
        let options = if self.is_v2 { "" } else { self.options };
        let controllers = Controllers::parse(options.split(','));
        let named = || options.split(',').find(|option| option.starts_with("name="));
        let label = controllers.iter().next().map(Controller::name).or_else(named);
        Hierarchy {
            mount: unescape(self.point),
            root: unescape(self.root),
            label: label.unwrap_or_default().to_owned(),
            controllers,
        }
    }
}

/// Mount points have space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        match after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if byte.is_ascii() => {
                plain.push(char::from(byte));
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                plain.push('\\');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
23 1 8:1 / / rw - ext4 /dev/root rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
50 23 0:32 /box /var/lib/a\\040b/memory rw - cgroup cgroup rw,memory
";

    #[test]
    fn mountinfo_gives_each_hierarchy_once() {
        let (v1, unified) = parse_mountinfo(HYBRID);
        assert_eq!(unified.map(|tree| tree.mount).as_deref(), Some("/sys/fs/cgroup/unified"));
        let points: Vec<_> = v1.iter().map(|hierarchy| hierarchy.mount.as_str()).collect();
        assert_eq!(
            points,
            ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/systemd"]
        );
        let cpu = v1.first().map(|hierarchy| hierarchy.controllers).unwrap_or_default();
        assert!(cpu.contains(Controller::Cpu) && cpu.contains(Controller::Cpuacct));
        assert!(v1.last().is_some_and(|hierarchy| hierarchy.controllers.is_empty()));
        let labels: Vec<_> = v1.iter().map(|hierarchy| hierarchy.label.as_str()).collect();
        assert_eq!(labels, ["cpu", "memory", "name=systemd"]);
    }

    #[test]
    fn a_mount_of_the_root_wins_over_a_bind_mount() {
        let reversed = HYBRID.lines().rev().collect::<Vec<_>>().join("\n");
        let (v1, _) = parse_mountinfo(&reversed);
        assert!(v1.iter().any(|hierarchy| hierarchy.mount == "/sys/fs/cgroup/memory"));
        assert!(!v1.iter().any(|hierarchy| hierarchy.mount.contains("a b")));
    }

    #[test]
    fn modes() {
        let one = || Hierarchy {
            mount: "/m".into(),
            root: "/".into(),
            label: String::new(),
            controllers: Controllers::default(),
        };
        assert_eq!(Layout::from_hierarchies(vec![one()], None).mode(), Mode::V1);
        assert_eq!(Layout::from_hierarchies(vec![one()], Some(one())).mode(), Mode::Hybrid);
        assert_eq!(Layout::from_hierarchies(vec![], Some(one())).mode(), Mode::V2);
    }

    #[test]
    fn octal_escapes() {
        assert_eq!(unescape(r"/a\040b\134c"), r"/a b\c");
        assert_eq!(unescape(r"/a\9"), r"/a\9");
    }
}
