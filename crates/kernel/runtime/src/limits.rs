//! Resource limits, the OOM score and the umask of a process.
//!
//! What the machine does not allow (a hard limit above ours, a lower OOM score, both without
//! CAP_SYS_RESOURCE) is set as far as possible, with a warning; Docker's containers would not start there.

use std::io::Write;
use std::os::fd::BorrowedFd;

use dhow_error::Kind;
use dhow_spec::oci_runtime::{PosixRlimit, PosixRlimitType, Process};
use dhow_sys::beneath;
use dhow_sys::process::Reason;
use dhow_sys::rustix::fs::{Mode, OFlags};
use dhow_sys::rustix::io::{Errno, write};
use dhow_sys::rustix::process::{Resource, Rlimit, getpid, getrlimit, setrlimit, umask};

use crate::channel::Sender;
use crate::error::LaunchError;

const STEP: &str = "limits";
/// The umask of a process whose specification has none.
const UMASK: u32 = 0o022;
/// "Unlimited" in a specification (RLIM_INFINITY).
const INFINITY: u64 = u64::MAX;

/// A process's limits.
#[derive(Debug)]
pub(crate) struct Limits {
    rlimits: Vec<(Resource, &'static str, Rlimit)>,
    oom_score: Option<String>,
    umask: u32,
}

impl Limits {
    pub(crate) fn new(process: &Process) -> Result<Self, LaunchError> {
        let given = process.rlimits().as_deref().unwrap_or_default();
        let oom_score = process.oom_score_adj();
        if oom_score.is_some_and(|score| !(-1000..=1000).contains(&score)) {
            let message = "the OOM score adjustment must be from -1000 to 1000";
            return Err(LaunchError::new(STEP, Kind::Invalid, message));
        }
        let rlimits = given.iter().map(prepare).collect::<Result<Vec<_>, _>>()?;
        let mut names: Vec<_> = rlimits.iter().map(|(_, name, _)| *name).collect();
        names.sort_unstable();
        if let Some([name, _]) = names.array_windows().find(|[one, other]| one == other) {
            let message = format!("process.rlimits: limit {name} is there twice");
            return Err(LaunchError::new(STEP, Kind::Invalid, message));
        }
        Ok(Self {
            rlimits,
            oom_score: oom_score.map(|score| score.to_string()),
            umask: process.user().umask().unwrap_or(UMASK) & 0o777,
        })
    }

    /// Whether [`Limits::set_oom_score`] has anything to do.
    pub(crate) fn needs_procfs(&self) -> bool {
        self.oom_score.is_some()
    }

    /// Writes the OOM score adjustment below a procfs of this process's pid namespace.
    pub(crate) fn set_oom_score(
        &self,
        procfs: BorrowedFd<'_>,
        sender: &Sender,
    ) -> Result<(), LaunchError> {
        let Some(score) = &self.oom_score else { return Ok(()) };
        // procfs's own `self` is a symlink, which are not followed there.
        let mut path = [0; 32];
        let room = path.len();
        let mut rest = path.as_mut_slice();
        let fits = write!(rest, "{}/oom_score_adj", getpid().as_raw_nonzero()).is_ok();
        let length = room - rest.len();
        let path = path.get(..length).filter(|_| fits).unwrap_or_default();
        let written = beneath::open_strict(procfs, path, OFlags::WRONLY)
            .and_then(|file| write(&file, score.as_bytes()));
        match written {
            Ok(_) => Ok(()),
            Err(Errno::ACCESS | Errno::PERM) => {
                sender.warning(&format!(
                    "cannot lower the OOM score adjustment to {score}: CAP_SYS_RESOURCE is missing"
                ));
                Ok(())
            }
            Err(errno) => Err(failed("cannot set the OOM score adjustment", errno)),
        }
    }

    /// Raises our hard limits to what is wanted, as far as possible: for a process that is about to give up the
    /// privilege to do so.
    pub(crate) fn raise_hard(&self) {
        for (resource, _, wanted) in &self.rlimits {
            let now = getrlimit(*resource);
            let lower = now.maximum.is_some_and(|now| wanted.maximum.is_none_or(|it| it > now));
            if lower {
                // What is not allowed is told when the limits are set.
                let _ =
                    setrlimit(*resource, Rlimit { current: now.current, maximum: wanted.maximum });
            }
        }
    }

    /// Sets the resource limits.
    pub(crate) fn set_rlimits(&self, sender: &Sender) -> Result<(), LaunchError> {
        for (resource, name, wanted) in &self.rlimits {
            match setrlimit(*resource, *wanted) {
                Ok(()) => {}
                Err(Errno::PERM) => lower(*resource, name, wanted, sender)?,
                Err(errno) => return Err(failed(&format!("cannot set limit {name}"), errno)),
            }
        }
        Ok(())
    }

    /// Sets the umask.
    pub(crate) fn set_umask(&self) {
        umask(Mode::from_raw_mode(self.umask));
    }
}

/// Sets what our own hard limit allows.
fn lower(
    resource: Resource,
    name: &str,
    wanted: &Rlimit,
    sender: &Sender,
) -> Result<(), LaunchError> {
    let hard = getrlimit(resource).maximum;
    let possible =
        Rlimit { current: at_most(wanted.current, hard), maximum: at_most(wanted.maximum, hard) };
    let shown = possible.maximum.map_or("unlimited".to_owned(), |limit| limit.to_string());
    sender.warning(&format!(
        "limit {name} lowered to {shown}, which is all that this machine allows"
    ));
    setrlimit(resource, possible)
        .map_err(|errno| failed(&format!("cannot set limit {name}"), errno))
}

/// The smaller of two limits, where none is unlimited.
fn at_most(wanted: Option<u64>, hard: Option<u64>) -> Option<u64> {
    match (wanted, hard) {
        (Some(wanted), Some(hard)) => Some(wanted.min(hard)),
        (wanted, hard) => wanted.or(hard),
    }
}

fn prepare(limit: &PosixRlimit) -> Result<(Resource, &'static str, Rlimit), LaunchError> {
    let (resource, name) = match limit.typ() {
        PosixRlimitType::RlimitCpu => (Resource::Cpu, "cpu"),
        PosixRlimitType::RlimitFsize => (Resource::Fsize, "fsize"),
        PosixRlimitType::RlimitData => (Resource::Data, "data"),
        PosixRlimitType::RlimitStack => (Resource::Stack, "stack"),
        PosixRlimitType::RlimitCore => (Resource::Core, "core"),
        PosixRlimitType::RlimitRss => (Resource::Rss, "rss"),
        PosixRlimitType::RlimitNproc => (Resource::Nproc, "nproc"),
        PosixRlimitType::RlimitNofile => (Resource::Nofile, "nofile"),
        PosixRlimitType::RlimitMemlock => (Resource::Memlock, "memlock"),
        PosixRlimitType::RlimitAs => (Resource::As, "as"),
        PosixRlimitType::RlimitLocks => (Resource::Locks, "locks"),
        PosixRlimitType::RlimitSigpending => (Resource::Sigpending, "sigpending"),
        PosixRlimitType::RlimitMsgqueue => (Resource::Msgqueue, "msgqueue"),
        PosixRlimitType::RlimitNice => (Resource::Nice, "nice"),
        PosixRlimitType::RlimitRtprio => (Resource::Rtprio, "rtprio"),
        PosixRlimitType::RlimitRttime => (Resource::Rttime, "rttime"),
    };
    if limit.soft() > limit.hard() {
        let (soft, hard) = (limit.soft(), limit.hard());
        let message = format!("limit {name}: soft limit {soft} is above hard limit {hard}");
        return Err(LaunchError::new(STEP, Kind::Invalid, message));
    }
    let bound = |value: u64| Some(value).filter(|value| *value != INFINITY);
    Ok((resource, name, Rlimit { current: bound(limit.soft()), maximum: bound(limit.hard()) }))
}

fn failed(message: &str, errno: Errno) -> LaunchError {
    LaunchError::new(STEP, Kind::Internal, format!("{message}: {}", Reason(errno)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlimited_is_more_than_any_number() {
        assert_eq!(at_most(Some(5), Some(3)), Some(3));
        assert_eq!(at_most(None, Some(3)), Some(3));
        assert_eq!(at_most(Some(5), None), Some(5));
        assert_eq!(at_most(None, None), None);
    }
}
