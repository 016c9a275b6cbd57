//! How a process is scheduled, where its memory comes from and which machine it believes to be on
//! (OCI runtime specification, config.md "scheduler", "ioPriority", "execCPUAffinity"; config-linux.md
//! "memoryPolicy", "personality").

use dhow_error::Kind;
use dhow_spec::oci_runtime::{
    ExecCPUAffinity, IOPriorityClass, Linux, LinuxMemoryPolicy, LinuxPersonalityDomain,
    LinuxSchedulerFlag, LinuxSchedulerPolicy, MemoryPolicyFlagType, MemoryPolicyModeType, Process,
    Scheduler,
};
use dhow_sys::process::Reason;
use dhow_sys::rustix::io::Errno;
use dhow_sys::rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use dhow_sys::schedule::{
    self, Attributes, Domain, Flags, IoClass, MemoryFlags, MemoryMode, Policy,
};

use crate::error::LaunchError;

const STEP: &str = "limits";
/// The kernel has no more nodes (MAX_NUMNODES).
const NODES: usize = 1024;

/// A process's schedule.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    attributes: Option<Attributes>,
    io: Option<(IoClass, u8)>,
    memory: Option<(MemoryMode, MemoryFlags, Vec<u64>)>,
    domain: Option<Domain>,
    /// Whether what takes it on is only the parent of the process that it is for.
    forks: bool,
}

impl Schedule {
    /// Checks the specification. `forks` is whether the process that takes it on is only the parent of the one
    /// that it is for.
    pub(crate) fn new(
        process: &Process,
        linux: Option<&Linux>,
        forks: bool,
    ) -> Result<Self, LaunchError> {
        let attributes = process.scheduler().as_ref().map(attributes).transpose()?;
        if forks && attributes.is_some_and(|it| it.policy == Policy::Deadline) {
            let message = "process.scheduler.policy: SCHED_DEADLINE cannot be given to an exec, or to a \
                           container with a user namespace";
            return Err(LaunchError::new(STEP, Kind::Unsupported, message)
                .with_hint("a process with that policy cannot make another (sched(7))"));
        }
        Ok(Self {
            attributes,
            io: process
                .io_priority()
                .as_ref()
                .map(|io| (io.class(), io.priority()))
                .map(io)
                .transpose()?,
            memory: linux
                .and_then(|linux| linux.memory_policy().as_ref())
                .map(memory)
                .transpose()?,
            domain: linux.map(domain).transpose()?.flatten(),
            forks,
        })
    }

    /// Takes it on, but for what would not pass on to a child.
    pub(crate) fn take_on(&self) -> Result<(), LaunchError> {
        if let Some(mut attributes) = self.attributes {
            if self.forks {
                attributes.flags = attributes.flags.without(Flags::RESET_ON_FORK);
            }
            set(&attributes)?;
        }
        if let Some((class, priority)) = self.io {
            schedule::set_io_priority(class, priority)
                .map_err(|errno| refused("process.ioPriority", errno))?;
        }
        if let Some((mode, flags, nodes)) = &self.memory {
            schedule::set_memory_policy(*mode, *flags, nodes)
                .map_err(|errno| refused("linux.memoryPolicy", errno))?;
        }
        if let Some(domain) = self.domain {
            schedule::set_domain(domain).map_err(|errno| refused("linux.personality", errno))?;
        }
        Ok(())
    }

    /// Takes on what would not pass on to a child, in the process that it is for.
    pub(crate) fn take_on_last(&self) -> Result<(), LaunchError> {
        match &self.attributes {
            Some(attributes) if self.forks && attributes.flags.contains(Flags::RESET_ON_FORK) => {
                set(attributes)
            }
            _ => Ok(()),
        }
    }
}

fn set(attributes: &Attributes) -> Result<(), LaunchError> {
    schedule::set(attributes).map_err(|errno| refused("process.scheduler", errno))
}

fn refused(field: &str, errno: Errno) -> LaunchError {
    let error =
        LaunchError::new(STEP, Kind::Invalid, format!("cannot set {field}: {}", Reason(errno)));
    match errno {
        Errno::PERM => error.with_hint(
            "it needs CAP_SYS_NICE here, and for real time a cgroup that has time for it (cpu.rt_runtime_us)",
        ),
        _ => error,
    }
}

fn attributes(given: &Scheduler) -> Result<Attributes, LaunchError> {
    let policy = match given.policy() {
        LinuxSchedulerPolicy::SchedOther => Policy::Other,
        LinuxSchedulerPolicy::SchedFifo => Policy::Fifo,
        LinuxSchedulerPolicy::SchedRr => Policy::RoundRobin,
        LinuxSchedulerPolicy::SchedBatch => Policy::Batch,
        LinuxSchedulerPolicy::SchedIdle => Policy::Idle,
        LinuxSchedulerPolicy::SchedDeadline => Policy::Deadline,
        LinuxSchedulerPolicy::SchedIso => {
            return Err(unsupported("process.scheduler.policy: Linux has no SCHED_ISO"));
        }
    };
    let mut flags = Flags::NONE;
    for flag in given.flags().iter().flatten() {
        flags = flags
            | match flag {
                LinuxSchedulerFlag::SchedResetOnFork => Flags::RESET_ON_FORK,
                LinuxSchedulerFlag::SchedFlagReclaim => Flags::RECLAIM,
                LinuxSchedulerFlag::SchedFlagDLOverrun => Flags::DEADLINE_OVERRUN,
                LinuxSchedulerFlag::SchedFlagKeepPolicy => Flags::KEEP_POLICY,
                LinuxSchedulerFlag::SchedFlagKeepParams => Flags::KEEP_PARAMETERS,
                LinuxSchedulerFlag::SchedFlagUtilClampMin
                | LinuxSchedulerFlag::SchedFlagUtilClampMax => {
                    let message =
                        "process.scheduler.flags: a utilisation clamp has no value to be set to";
                    return Err(unsupported(message));
                }
            };
    }
    let priority = given.priority().unwrap_or(0);
    Ok(Attributes {
        policy,
        flags,
        nice: given.nice().unwrap_or(0),
        priority: u32::try_from(priority)
            .map_err(|_| invalid("process.scheduler.priority is negative"))?,
        runtime_ns: given.runtime().unwrap_or(0),
        deadline_ns: given.deadline().unwrap_or(0),
        period_ns: given.period().unwrap_or(0),
    })
}

fn io((class, priority): (IOPriorityClass, i64)) -> Result<(IoClass, u8), LaunchError> {
    let class = match class {
        IOPriorityClass::IoprioClassRt => IoClass::RealTime,
        IOPriorityClass::IoprioClassBe => IoClass::BestEffort,
        IOPriorityClass::IoprioClassIdle => IoClass::Idle,
    };
    match u8::try_from(priority) {
        Ok(priority @ 0..=7) => Ok((class, priority)),
        _ => Err(invalid("process.ioPriority.priority is not from 0 to 7")),
    }
}

fn memory(given: &LinuxMemoryPolicy) -> Result<(MemoryMode, MemoryFlags, Vec<u64>), LaunchError> {
    let mode = match given.mode() {
        MemoryPolicyModeType::MpolDefault => MemoryMode::Default,
        MemoryPolicyModeType::MpolBind => MemoryMode::Bind,
        MemoryPolicyModeType::MpolInterleave => MemoryMode::Interleave,
        MemoryPolicyModeType::MpolWeightedInterleave => MemoryMode::WeightedInterleave,
        MemoryPolicyModeType::MpolPreferred => MemoryMode::Preferred,
        MemoryPolicyModeType::MpolPreferredMany => MemoryMode::PreferredMany,
        MemoryPolicyModeType::MpolLocal => MemoryMode::Local,
    };
    let flags = given.flags().iter().flatten().fold(MemoryFlags::NONE, |flags, flag| {
        flags
            | match flag {
                MemoryPolicyFlagType::MpolFNumaBalancing => MemoryFlags::NUMA_BALANCING,
                MemoryPolicyFlagType::MpolFRelativeNodes => MemoryFlags::RELATIVE_NODES,
                MemoryPolicyFlagType::MpolFStaticNodes => MemoryFlags::STATIC_NODES,
            }
    });
    let text = given.nodes().as_deref().unwrap_or_default();
    let numbers = numbers(text, NODES).ok_or_else(|| {
        invalid(&format!("linux.memoryPolicy.nodes: {text:?} is no list of nodes such as 0-3,7"))
    })?;
    let mut nodes = Vec::new();
    for number in numbers {
        let word = number / 64;
        if nodes.len() <= word {
            nodes.resize(word + 1, 0_u64);
        }
        if let Some(bits) = nodes.get_mut(word) {
            *bits |= 1 << (number % 64);
        }
    }
    Ok((mode, flags, nodes))
}

fn domain(linux: &Linux) -> Result<Option<Domain>, LaunchError> {
    let Some(given) = linux.personality() else { return Ok(None) };
    if given.flags().iter().flatten().next().is_some() {
        return Err(invalid("linux.personality.flags: there are no flags of a personality"));
    }
    Ok(Some(match given.domain() {
        LinuxPersonalityDomain::PerLinux => Domain::Linux,
        LinuxPersonalityDomain::PerLinux32 => Domain::Linux32,
    }))
}

/// On which CPUs an exec begins, and on which it goes on.
#[derive(Debug, Default)]
pub(crate) struct Affinity {
    initial: Option<CpuSet>,
    last: Option<CpuSet>,
}

impl Affinity {
    pub(crate) fn new(given: Option<&ExecCPUAffinity>) -> Result<Self, LaunchError> {
        Ok(Self {
            initial: cpus("initial", given.and_then(|given| given.initial().as_ref()))?,
            last: cpus("final", given.and_then(|given| given.cpu_affinity_final().as_ref()))?,
        })
    }

    /// Does `make` with this thread on the initial CPUs, and puts it back where it was.
    pub(crate) fn around<T>(&self, make: impl FnOnce() -> T) -> Result<T, LaunchError> {
        let Some(initial) = &self.initial else { return Ok(make()) };
        let failed = |errno| refused("process.execCPUAffinity.initial", errno);
        let before = sched_getaffinity(None).map_err(failed)?;
        sched_setaffinity(None, initial).map_err(failed)?;
        let made = make();
        // It was there before: unless a CPU is gone by now, that is possible.
        let _ = sched_setaffinity(None, &before);
        Ok(made)
    }

    /// Moves this process to its final CPUs. In its control group.
    pub(crate) fn take_on(&self) -> Result<(), LaunchError> {
        let Some(last) = &self.last else { return Ok(()) };
        sched_setaffinity(None, last)
            .map_err(|errno| refused("process.execCPUAffinity.final", errno))
    }
}

/// The CPUs of one field of an affinity.
fn cpus(field: &str, text: Option<&String>) -> Result<Option<CpuSet>, LaunchError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let numbers = numbers(text, CpuSet::MAX_CPU).filter(|numbers| !numbers.is_empty());
    let numbers = numbers.ok_or_else(|| {
        invalid(&format!(
            "process.execCPUAffinity.{field}: {text:?} is no list of CPUs such as 0-3,7"
        ))
    })?;
    let mut set = CpuSet::new();
    for number in numbers {
        set.set(number);
    }
    Ok(Some(set))
}

/// The numbers of a list such as `0-3,7`, all below `bound`. An empty text is an empty list. Pure.
fn numbers(text: &str, bound: usize) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= bound {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

fn invalid(message: &str) -> LaunchError {
    LaunchError::new(STEP, Kind::Invalid, message)
}

fn unsupported(message: &str) -> LaunchError {
    LaunchError::new(STEP, Kind::Unsupported, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers() {
        assert_eq!(numbers("0-2,7", 8), Some(vec![0, 1, 2, 7]));
        assert_eq!(numbers("", 8), Some(vec![]));
        for bad in ["8", "2-1", "x", "1,,2", "-1", "1-", "0-99999999999999999999"] {
            assert_eq!(numbers(bad, 8), None, "{bad}");
        }
    }

    #[test]
    fn nodes_are_bits() {
        let mut given = LinuxMemoryPolicy::default();
        given.set_mode(MemoryPolicyModeType::MpolBind).set_nodes(Some("0,65".to_owned()));
        assert_eq!(memory(&given).unwrap().2, [1, 2]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[0-9,x -]{0,30}") {
            let _ = numbers(&text, 1024);
        }
    }
}
