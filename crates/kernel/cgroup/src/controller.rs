//! The kernel's controllers by name, and sets of them.

/// A resource controller (v1: "subsystem").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Controller {
    /// CPU time.
    Cpu,
    /// CPU accounting (v1 only; v2's `cpu` does it).
    Cpuacct,
    /// CPU and memory node placement.
    Cpuset,
    /// Memory.
    Memory,
    /// Device access (v1 only; v2 uses BPF).
    Devices,
    /// Freezing (v1 only; a core feature of v2).
    Freezer,
    /// Block I/O: `blkio` on v1, `io` on v2.
    Io,
    /// Number of tasks.
    Pids,
    /// Huge pages.
    Hugetlb,
    /// Network class identifiers (v1 only).
    NetCls,
    /// Network priorities (v1 only).
    NetPrio,
    /// perf(1) by cgroup.
    PerfEvent,
    /// RDMA resources.
    Rdma,
}

impl Controller {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Cpu,
        Self::Cpuacct,
        Self::Cpuset,
        Self::Memory,
        Self::Devices,
        Self::Freezer,
        Self::Io,
        Self::Pids,
        Self::Hugetlb,
        Self::NetCls,
        Self::NetPrio,
        Self::PerfEvent,
        Self::Rdma,
    ];

    /// The name as v1's mount options and /proc/cgroups have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Cpuset => "cpuset",
            Self::Memory => "memory",
            Self::Devices => "devices",
            Self::Freezer => "freezer",
            Self::Io => "blkio",
            Self::Pids => "pids",
            Self::Hugetlb => "hugetlb",
            Self::NetCls => "net_cls",
            Self::NetPrio => "net_prio",
            Self::PerfEvent => "perf_event",
            Self::Rdma => "rdma",
        }
    }

    /// The name as cgroup2's `cgroup.controllers` has it.
    pub const fn unified_name(self) -> &'static str {
        match self {
            Self::Io => "io",
            other => other.name(),
        }
    }
}

/// A set of controllers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Controllers(u16);

impl Controllers {
    /// The set of those named in `words`; words that are no controller's name are passed over.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut set = Self::default();
        for word in words {
            for controller in Controller::ALL {
                if word == controller.name() || word == controller.unified_name() {
                    set.insert(controller);
                }
            }
        }
        set
    }

    /// The set of one.
    pub fn only(controller: Controller) -> Self {
        let mut set = Self::default();
        set.insert(controller);
        set
    }

    /// Adds one.
    pub fn insert(&mut self, controller: Controller) {
        self.0 |= 1 << controller as u16;
    }

    /// Whether `controller` is in the set.
    pub fn contains(self, controller: Controller) -> bool {
        self.0 & (1 << controller as u16) != 0
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in this set and not in `other`.
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The members, in the order of [`Controller::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Controller> {
        Controller::ALL.into_iter().filter(move |controller| self.contains(*controller))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_names_of_block_io_are_known() {
        assert!(Controllers::parse(["blkio"]).contains(Controller::Io));
        assert!(Controllers::parse(["io", "misc"]).contains(Controller::Io));
        let both = Controllers::parse("cpu,cpuacct,rw".split(','));
        assert_eq!(both.iter().collect::<Vec<_>>(), [Controller::Cpu, Controller::Cpuacct]);
    }
}
