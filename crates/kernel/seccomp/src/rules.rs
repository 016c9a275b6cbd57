//! A profile as numbers: for each interface, which call leads to which verdict under which conditions.
//!
//! What several rules for one call mean together: conditional ones are tried in the profile's order and
//! the first that matches decides; then the first unconditional one; then the default. An unconditional
//! rule with the default's own action is no rule (as runc has it). Within a rule all arguments must match,
//! unless it names an argument twice: then any of them is enough (as runc has it). Names unknown to an
//! interface are passed over, as with libseccomp.

use std::collections::BTreeMap;

use dhow_spec::oci_runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};

use crate::Result;
use crate::arch::{Abi, Multiplexed};
use crate::error::SeccompError;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// The kernel's MAX_ERRNO: what is larger it cuts down.
const MAX_ERRNO: u32 = 4095;

pub(crate) const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
pub(crate) const NOTIFY: u32 = 0x7fc0_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;

/// A test of one argument. Values are as wide as the interface compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Test {
    pub(crate) index: u8,
    pub(crate) compare: Compare,
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    LessOrEqual(u64),
    Greater(u64),
    GreaterOrEqual(u64),
    MaskedEqual { mask: u64, value: u64 },
}

/// What happens to one call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    /// Tests that must all hold, and the verdict if they do, in order.
    pub(crate) conditional: Vec<(Vec<Test>, u32)>,
    /// The verdict otherwise; None is the default.
    pub(crate) otherwise: Option<u32>,
}

/// All of one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) abi: Abi,
    pub(crate) calls: BTreeMap<u32, Calls>,
    /// The verdict on calls that are not listed.
    pub(crate) default: u32,
    /// Calls with a higher number than this are newer than the profile: they do not exist (ENOSYS), so
    /// that programs fall back to older ones instead of failing for want of permission.
    pub(crate) newest: Option<u32>,
}

impl Table {
    /// The verdict on calls that are newer than the profile.
    pub(crate) const NEWER: u32 = ERRNO | ENOSYS;

    pub(crate) fn new(profile: &LinuxSeccomp, abi: Abi) -> Result<Self> {
        let default = verdict(profile.default_action(), profile.default_errno_ret())?;
        let mut table = Self { abi, calls: BTreeMap::new(), default, newest: None };
        let mut newest = None;
        for rule in profile.syscalls().iter().flatten() {
            let action = verdict(rule.action(), rule.errno_ret())?;
            let conditions = conditions(rule, abi)?;
            for name in rule.names() {
                newest = newest.max(abi.number(name));
                if action != default || !conditions.is_empty() {
                    table.add(name, &conditions, action);
                }
            }
        }
        let permits = matches!(default, ALLOW | LOG);
        if !permits && default != Self::NEWER {
            // Multiplexed calls have a rule without being named.
            table.newest = newest.max(table.calls.keys().next_back().copied());
        }
        Ok(table)
    }

    fn add(&mut self, name: &str, conditions: &[Vec<Test>], action: u32) {
        if let Some(number) = self.abi.number(name) {
            self.calls.entry(number).or_default().add(conditions, action);
        }
        // The arguments of multiplexed calls are behind a pointer: only a rule without any carries over.
        if let (true, Some((number, which))) = (conditions.is_empty(), self.abi.multiplexed(name)) {
            let compare = match which {
                Multiplexed::Socket(function) => Compare::Equal(function.into()),
                Multiplexed::Ipc(function) => {
                    Compare::MaskedEqual { mask: 0xffff, value: function.into() }
                }
            };
            let test = vec![Test { index: 0, compare }];
            self.calls.entry(number).or_default().add(&[test], action);
        }
    }
}

impl Calls {
    fn add(&mut self, conditions: &[Vec<Test>], action: u32) {
        if conditions.is_empty() {
            self.otherwise.get_or_insert(action);
        }
        self.conditional.extend(conditions.iter().map(|tests| (tests.clone(), action)));
    }
}

/// The filter's return value for an action.
fn verdict(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32> {
    let has_errno =
        matches!(action, LinuxSeccompAction::ScmpActErrno | LinuxSeccompAction::ScmpActTrace);
    if let (false, Some(errno)) = (has_errno, errno) {
        let text = format!("errnoRet {errno} of {action}, which returns none");
        return Err(SeccompError::Contradiction(text));
    }
    let errno = errno.unwrap_or(EPERM);
    let data = |limit: u32| {
        if errno <= limit {
            return Ok(errno);
        }
        Err(SeccompError::Contradiction(format!("errnoRet {errno} is more than {limit}")))
    };
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => KILL_THREAD,
        LinuxSeccompAction::ScmpActKillProcess => KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => TRAP,
        LinuxSeccompAction::ScmpActErrno => ERRNO | data(MAX_ERRNO)?,
        LinuxSeccompAction::ScmpActTrace => TRACE | data(0xffff)?,
        LinuxSeccompAction::ScmpActLog => LOG,
        LinuxSeccompAction::ScmpActAllow => ALLOW,
        LinuxSeccompAction::ScmpActNotify => NOTIFY,
    })
}

/// The alternatives of a rule, each a list of tests; none if the rule is unconditional.
fn conditions(rule: &LinuxSyscall, abi: Abi) -> Result<Vec<Vec<Test>>> {
    let tests: Vec<Test> =
        rule.args().iter().flatten().map(|arg| test(arg, abi)).collect::<Result<_>>()?;
    if tests.is_empty() {
        return Ok(Vec::new());
    }
    let mut seen = [false; 6];
    let mut twice = false;
    for test in &tests {
        if let Some(seen) = seen.get_mut(usize::from(test.index)) {
            twice |= std::mem::replace(seen, true);
        }
    }
    Ok(if twice { tests.into_iter().map(|test| vec![test]).collect() } else { vec![tests] })
}

fn test(arg: &LinuxSeccompArg, abi: Abi) -> Result<Test> {
    let Some(index) = u8::try_from(arg.index()).ok().filter(|index| *index < 6) else {
        let text = format!("argument {} of a system call, which has 0 to 5", arg.index());
        return Err(SeccompError::Contradiction(text));
    };
    let width = if abi.is_wide() { u64::MAX } else { u32::MAX.into() };
    let value = arg.value() & width;
    let compare = match arg.op() {
        LinuxSeccompOperator::ScmpCmpEq => Compare::Equal(value),
        LinuxSeccompOperator::ScmpCmpNe => Compare::NotEqual(value),
        LinuxSeccompOperator::ScmpCmpLt => Compare::Less(value),
        LinuxSeccompOperator::ScmpCmpLe => Compare::LessOrEqual(value),
        LinuxSeccompOperator::ScmpCmpGt => Compare::Greater(value),
        LinuxSeccompOperator::ScmpCmpGe => Compare::GreaterOrEqual(value),
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            Compare::MaskedEqual { mask: value, value: arg.value_two().unwrap_or(0) & value }
        }
    };
    Ok(Test { index, compare })
}
