//! Docker's seccomp profiles: its JSON format, its default profile, and resolving one for a container.
//!
//! A profile is the OCI's seccomp object with two additions: `archMap` names the further interfaces to
//! cover for each native one, and a rule may say under which conditions it counts at all (`includes`,
//! `excludes`: capabilities of the container, native architecture, kernel version). Resolving decides
//! these conditions.

mod default;
mod json;

use std::fmt;
use std::str::FromStr;

use dhow_spec::oci_runtime::{
    Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSyscallBuilder,
};
use dhow_sys::rustix::system::uname;

use crate::Result;
use crate::error::SeccompError;

/// What Docker calls this machine's architecture in conditions.
const NATIVE_NAME: &str = "amd64";
const NATIVE: Arch = Arch::ScmpArchX86_64;

/// A kernel's version as far as profiles look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// The 6 of 6.18.
    pub major: u32,
    /// The 18 of 6.18.
    pub minor: u32,
}

/// A profile with its conditions undecided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    default_action: LinuxSeccompAction,
    default_errno: Option<u32>,
    architectures: Vec<Arch>,
    flags: Option<Vec<LinuxSeccompFilterFlag>>,
    rules: Vec<Rule>,
}

/// A rule with its conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    names: Vec<String>,
    action: LinuxSeccompAction,
    errno: Option<u32>,
    args: Vec<LinuxSeccompArg>,
    includes: Conditions,
    excludes: Conditions,
}

/// Conditions; an empty one is no condition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Conditions {
    /// Capabilities, without "CAP_".
    capabilities: Vec<String>,
    architectures: Vec<String>,
    min_kernel: Option<KernelVersion>,
}

impl Profile {
    /// Reads Docker's JSON format (docs.docker.com/engine/security/seccomp). Members it does not know are
    /// passed over, as are `archMap` entries of other machines.
    ///
    /// # Errors
    /// [`SeccompError::TooLarge`] beyond 1 MiB, 4,096 rules, 65,536 names or 64 arguments in a rule;
    /// [`SeccompError::Json`], [`SeccompError::Contradiction`], [`SeccompError::Unsupported`].
    pub fn parse(json: &[u8]) -> Result<Self> {
        json::parse(json)
    }

    /// Docker's default profile: an allow list that leaves out what containers need not and what endangers
    /// the host, with exceptions for containers that were given the capability.
    pub fn default_profile() -> Self {
        default::profile()
    }

    /// What the profile means for a container whose bounding set is `capabilities`, on a kernel.
    pub fn resolve(&self, capabilities: &[Capability], kernel: KernelVersion) -> LinuxSeccomp {
        let held: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
        let syscalls = self
            .rules
            .iter()
            .filter(|rule| rule.includes.all_hold(&held, kernel))
            .filter(|rule| !rule.excludes.any_holds(&held, kernel))
            .filter_map(|rule| {
                let mut builder =
                    LinuxSyscallBuilder::default().names(rule.names.clone()).action(rule.action);
                if let Some(errno) = rule.errno {
                    builder = builder.errno_ret(errno);
                }
                if !rule.args.is_empty() {
                    builder = builder.args(rule.args.clone());
                }
                // Every member has a default, so building cannot fail.
                builder.build().ok()
            })
            .collect();
        let mut resolved = LinuxSeccomp::default();
        resolved
            .set_default_action(self.default_action)
            .set_default_errno_ret(self.default_errno)
            .set_architectures(Some(self.architectures.clone()))
            .set_flags(self.flags.clone())
            .set_syscalls(Some(syscalls));
        resolved
    }
}

impl Conditions {
    /// As `includes` is meant: each kind that is given must hold, and all capabilities.
    fn all_hold(&self, held: &[String], kernel: KernelVersion) -> bool {
        (self.architectures.is_empty() || self.is_native())
            && self.capabilities.iter().all(|capability| held.contains(capability))
            && self.min_kernel.is_none_or(|min| kernel >= min)
    }

    /// As `excludes` is meant: one is enough.
    fn any_holds(&self, held: &[String], kernel: KernelVersion) -> bool {
        self.is_native()
            || self.capabilities.iter().any(|capability| held.contains(capability))
            || self.min_kernel.is_some_and(|min| kernel >= min)
    }

    fn is_native(&self) -> bool {
        self.architectures.iter().any(|name| name == NATIVE_NAME)
    }
}

impl KernelVersion {
    /// The running kernel's. 0.0 if it names itself in a way that has no version: then rules that need a
    /// newer kernel do not count.
    pub fn running() -> Self {
        let name = uname();
        name.release()
            .to_str()
            .ok()
            .and_then(Self::of_release)
            .unwrap_or(Self { major: 0, minor: 0 })
    }

    /// The version at the beginning of a release such as "6.18.44-fc".
    fn of_release(release: &str) -> Option<Self> {
        let (major, rest) = release.split_once('.')?;
        let minor = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// As profiles write it: "4.8".
impl FromStr for KernelVersion {
    type Err = SeccompError;

    fn from_str(text: &str) -> Result<Self> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        Self::of_release(text).filter(|_| is_plain).ok_or_else(|| {
            SeccompError::Contradiction(format!("minKernel {text:?} is not a version"))
        })
    }
}
