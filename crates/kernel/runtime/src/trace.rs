//! When each step of a start was done.

use dhow_sys::process::monotonic_ns;

/// The number of steps.
pub(crate) const STEPS: usize = 17;

/// The steps that a child goes through, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    /// The child runs.
    Child,
    /// It has its own keyring and session and is in its control group.
    Cgroup,
    /// It is in its namespaces.
    Namespaces,
    /// The root is attached.
    Root,
    /// The mounts are made.
    Mounts,
    /// /dev is filled.
    Devices,
    /// The terminal is open.
    Console,
    /// Kernel parameters are set.
    Sysctls,
    /// Paths are masked and read-only.
    Protect,
    /// Hooks have run.
    Hooks,
    /// The root is `/`.
    Pivot,
    /// Standard streams, limits, working directory.
    Setup,
    /// The user is known.
    User,
    /// User, groups and capabilities are taken on.
    Identity,
    /// The filter is loaded.
    Seccomp,
    /// About to execute.
    Ready,
    /// Executing.
    Exec,
}

const ALL: [(Step, &str); STEPS] = [
    (Step::Child, "child"),
    (Step::Cgroup, "cgroup"),
    (Step::Namespaces, "namespaces"),
    (Step::Root, "root"),
    (Step::Mounts, "mounts"),
    (Step::Devices, "devices"),
    (Step::Console, "console"),
    (Step::Sysctls, "sysctls"),
    (Step::Protect, "protect"),
    (Step::Hooks, "hooks"),
    (Step::Pivot, "pivot"),
    (Step::Setup, "setup"),
    (Step::User, "user"),
    (Step::Identity, "identity"),
    (Step::Seccomp, "seccomp"),
    (Step::Ready, "ready"),
    (Step::Exec, "exec"),
];

impl Step {
    /// Its name in traces and errors.
    pub(crate) fn name(self) -> &'static str {
        ALL.get(self as usize).map_or("start", |(_, name)| name)
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        ALL.get(usize::from(byte)).map(|(step, _)| *step)
    }
}

/// A step and the CLOCK_MONOTONIC nanoseconds at which it was done.
pub(crate) type Mark = (&'static str, u64);

/// The steps done so far, without allocating.
#[derive(Debug)]
pub(crate) struct Trace {
    times: [u64; STEPS],
}

impl Trace {
    pub(crate) fn new() -> Self {
        Self { times: [0; STEPS] }
    }

    /// Notes that a step is done.
    pub(crate) fn mark(&mut self, step: Step) {
        if let Some(time) = self.times.get_mut(step as usize) {
            *time = monotonic_ns();
        }
    }

    /// Writes the marks, nine bytes each; gives how many bytes.
    pub(crate) fn encode(&self, packet: &mut [u8; 9 * STEPS]) -> usize {
        let (places, _) = packet.as_chunks_mut::<9>();
        let marks = self.times.iter().enumerate().filter(|(_, time)| **time != 0);
        let mut length = 0;
        for (place, (step, time)) in places.iter_mut().zip(marks) {
            let [first, rest @ ..] = place;
            *first = step as u8;
            *rest = time.to_le_bytes();
            length += 9;
        }
        length
    }

    /// Reads them back.
    pub(crate) fn decode(packet: &[u8]) -> Vec<Mark> {
        let (marks, _) = packet.as_chunks::<9>();
        marks
            .iter()
            .filter_map(|[step, time @ ..]| {
                Some((Step::from_byte(*step)?.name(), u64::from_le_bytes(*time)))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_back_in_order() {
        let mut trace = Trace::new();
        trace.mark(Step::Root);
        trace.mark(Step::Exec);
        let mut packet = [0; 9 * STEPS];
        let length = trace.encode(&mut packet);
        let names: Vec<_> =
            Trace::decode(&packet[..length]).into_iter().map(|mark| mark.0).collect();
        assert_eq!(names, ["root", "exec"]);
    }

    #[test]
    fn every_step_has_its_name() {
        for (place, (step, _)) in ALL.iter().enumerate() {
            assert_eq!(*step as usize, place);
        }
    }
}
