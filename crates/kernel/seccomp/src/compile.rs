//! From the OCI's seccomp object to BPF.
//!
//! ```text
//!   load arch ─┬─ x86-64 ─ load number ─ binary tree over numbers ─┬─ return
//!              ├─ i386   ─ load number ─ binary tree over numbers  └─ tests of arguments ─ return
//!              └─ else: kill
//! ```
//!
//! A tree's leaves are runs of numbers with the same verdict, so Docker's default profile takes about
//! eight comparisons for a call. Until a leaf only arch and number are read: the kernel then finds out
//! by itself which calls are always allowed and does not run the filter for them (Linux 5.11).

use dhow_spec::oci_runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag};

use crate::Result;
use crate::SeccompError;
use crate::arch::{AUDIT_I386, AUDIT_X86_64, Abi, X32_BIT};
use crate::assembler::{Assembler, Jump, Label};
use crate::program::{Flags, Program};
use crate::rules::{Calls, Compare, KILL_PROCESS, Table, Test};

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Compiles a profile for this kernel's interfaces: x86_64 always, x86 and x32 if its `architectures` name
/// them. A call by an interface that is not named kills the process.
///
/// A profile without `flags` is loaded with SPEC_ALLOW, as runc does. Calls that are newer than all the
/// profile names give ENOSYS, unless the default action permits them.
///
/// # Errors
/// [`SeccompError`]: `Contradiction` for argument numbers and errno values out of range, an errno for an
/// action that returns none, a rule without a name and a listener without a path; `Unsupported` for
/// SCMP_ACT_NOTIFY as the default or on write(2), by which the listener is handed over; `TooLong` beyond
/// 4,096 instructions.
pub fn compile(profile: &LinuxSeccomp) -> Result<Program> {
    check(profile)?;
    let declared = Abi::declared(profile.architectures().as_deref().unwrap_or_default());
    let tables: Vec<Table> =
        declared.iter().map(|abi| Table::new(profile, *abi)).collect::<Result<_>>()?;
    let of = |abi: Abi| tables.iter().find(|table| table.abi == abi);

    let mut code = Assembler::default();
    let kill = code.ret(KILL_PROCESS);
    let mut dispatch = kill;
    if let Some(table) = of(Abi::X86) {
        let tree = tree(&mut code, &runs(table, 0, None));
        let entry = code.load(NUMBER, tree);
        let kill = code.ret(KILL_PROCESS);
        dispatch = code.branch(Jump::Equal, AUDIT_I386, entry, kill);
    }
    let mut wide = Vec::new();
    if let Some(table) = of(Abi::X86_64) {
        wide.extend(runs(table, 0, Some(X32_BIT - 1)));
    }
    match of(Abi::X32) {
        Some(table) => wide.extend(runs(table, X32_BIT, None)),
        None => wide.push(Run { first: X32_BIT, leaf: Leaf::Return(KILL_PROCESS) }),
    }
    let tree = tree(&mut code, &wide);
    let entry = code.load(NUMBER, tree);
    let start = code.branch(Jump::Equal, AUDIT_X86_64, entry, dispatch);
    code.load(ARCH, start);
    Program::new(code.finish(), flags(profile))
}

/// What the specification demands of a profile as a whole (config-linux.md, "Seccomp").
fn check(profile: &LinuxSeccomp) -> Result<()> {
    let contradiction = |text: &str| Err(SeccompError::Contradiction(text.into()));
    let is_notify = |action| action == LinuxSeccompAction::ScmpActNotify;
    let rules = || profile.syscalls().iter().flatten();
    if rules().any(|rule| rule.names().is_empty()) {
        return contradiction("a rule names no system call");
    }
    let has_listener =
        profile.listener_path().as_ref().is_some_and(|it| !it.as_os_str().is_empty());
    let has_metadata = profile.listener_metadata().as_ref().is_some_and(|it| !it.is_empty());
    if has_metadata && !has_listener {
        return contradiction("listenerMetadata without a listenerPath");
    }
    if is_notify(profile.default_action()) {
        return Err(SeccompError::Unsupported {
            what: "SCMP_ACT_NOTIFY as the default action".into(),
            why: "the listener could not be handed over",
        });
    }
    let mut notifying = rules().filter(|rule| is_notify(rule.action())).peekable();
    if notifying.peek().is_some() && !has_listener {
        return contradiction("SCMP_ACT_NOTIFY without a listenerPath");
    }
    if notifying.any(|rule| rule.names().iter().any(|name| name == "write")) {
        return Err(SeccompError::Unsupported {
            what: "SCMP_ACT_NOTIFY for the write system call".into(),
            why: "the listener is handed over by it",
        });
    }
    Ok(())
}

fn flags(profile: &LinuxSeccomp) -> Flags {
    let Some(list) = profile.flags() else { return Flags::SPEC_ALLOW };
    list.iter().fold(Flags::default(), |flags, flag| {
        flags.union(match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => Flags::LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => Flags::TSYNC,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => Flags::SPEC_ALLOW,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => Flags::WAIT_KILLABLE,
        })
    })
}

/// Numbers from `first` to the next run's.
#[derive(Debug)]
struct Run<'a> {
    first: u32,
    leaf: Leaf<'a>,
}

#[derive(Debug)]
enum Leaf<'a> {
    Return(u32),
    Test(&'a Calls, &'a Table),
}

/// The runs of one interface, whose numbers go from `first` to `last`.
fn runs(table: &Table, first: u32, last: Option<u32>) -> Vec<Run<'_>> {
    let mut runs = Vec::new();
    let mut push = |first: u32, leaf| match (runs.last(), &leaf) {
        (Some(Run { leaf: Leaf::Return(before), .. }), Leaf::Return(verdict))
            if before == verdict => {}
        _ => runs.push(Run { first, leaf }),
    };
    let mut next = Some(first);
    let in_range = table.calls.range(first..=last.unwrap_or(u32::MAX));
    for (number, calls) in in_range {
        if next != Some(*number) {
            push(next.unwrap_or(first), Leaf::Return(table.default));
        }
        let leaf = match calls.otherwise {
            verdict if calls.conditional.is_empty() => {
                Leaf::Return(verdict.unwrap_or(table.default))
            }
            _ => Leaf::Test(calls, table),
        };
        push(*number, leaf);
        next = number.checked_add(1);
    }
    // `newest` may be a call that has no rule of its own, because its action is the default's.
    if let Some(newer) = table.newest.and_then(|newest| newest.checked_add(1)) {
        if let Some(next) = next.filter(|next| *next < newer) {
            push(next, Leaf::Return(table.default));
        }
        push(newer, Leaf::Return(Table::NEWER));
    } else if let Some(next) = next {
        push(next, Leaf::Return(table.default));
    }
    runs
}

/// A balanced tree; its depth is the logarithm of the number of runs.
fn tree(code: &mut Assembler, runs: &[Run<'_>]) -> Label {
    match runs {
        [] => code.ret(KILL_PROCESS),
        [Run { leaf: Leaf::Return(verdict), .. }] => code.ret(*verdict),
        [Run { leaf: Leaf::Test(calls, table), .. }] => tests(code, calls, table),
        _ => {
            let (low, high) = runs.split_at(runs.len() / 2);
            let first = high.first().map_or(0, |run| run.first);
            let high = tree(code, high);
            let low = tree(code, low);
            code.branch(Jump::GreaterOrEqual, first, high, low)
        }
    }
}

/// The conditional rules of a call, in order, then what holds otherwise.
fn tests(code: &mut Assembler, calls: &Calls, table: &Table) -> Label {
    let mut next = code.ret(calls.otherwise.unwrap_or(table.default));
    for (tests, verdict) in calls.conditional.iter().rev() {
        let mut yes = code.ret(*verdict);
        for test in tests.iter().rev() {
            yes = compare(code, *test, table.abi, yes, next);
        }
        next = yes;
    }
    next
}

/// One argument, in one or two halves.
fn compare(code: &mut Assembler, test: Test, abi: Abi, yes: Label, no: Label) -> Label {
    let argument = Argument { low: ARGUMENTS + 8 * u32::from(test.index), is_wide: abi.is_wide() };
    match test.compare {
        Compare::Equal(value) => argument.equals(code, u64::MAX, value, yes, no),
        Compare::NotEqual(value) => argument.equals(code, u64::MAX, value, no, yes),
        Compare::MaskedEqual { mask, value } => argument.equals(code, mask, value, yes, no),
        Compare::Greater(value) => argument.exceeds(code, Jump::Greater, value, yes, no),
        Compare::LessOrEqual(value) => argument.exceeds(code, Jump::Greater, value, no, yes),
        Compare::GreaterOrEqual(value) => {
            argument.exceeds(code, Jump::GreaterOrEqual, value, yes, no)
        }
        Compare::Less(value) => argument.exceeds(code, Jump::GreaterOrEqual, value, no, yes),
    }
}

/// Where an argument is in seccomp_data, and whether its high half counts.
#[derive(Debug, Clone, Copy)]
struct Argument {
    low: u32,
    is_wide: bool,
}

impl Argument {
    fn high(self) -> u32 {
        self.low + 4
    }

    fn equals(self, code: &mut Assembler, mask: u64, value: u64, yes: Label, no: Label) -> Label {
        let low = half_equals(code, self.low, mask as u32, value as u32, yes, no);
        if !self.is_wide {
            return low;
        }
        half_equals(code, self.high(), (mask >> 32) as u32, (value >> 32) as u32, low, no)
    }

    /// Greater, or greater or equal: the high halves decide unless they are equal.
    fn exceeds(self, code: &mut Assembler, jump: Jump, value: u64, yes: Label, no: Label) -> Label {
        let low = code.branch(jump, value as u32, yes, no);
        let low = code.load(self.low, low);
        if !self.is_wide {
            return low;
        }
        let high = (value >> 32) as u32;
        let equal = code.branch(Jump::Equal, high, low, no);
        let greater = code.branch(Jump::Greater, high, yes, equal);
        code.load(self.high(), greater)
    }
}

/// A half whose mask is empty always fits.
fn half_equals(
    code: &mut Assembler,
    offset: u32,
    mask: u32,
    value: u32,
    yes: Label,
    no: Label,
) -> Label {
    if mask == 0 {
        return yes;
    }
    let mut next = code.branch(Jump::Equal, value, yes, no);
    if mask != u32::MAX {
        next = code.and(mask, next);
    }
    code.load(offset, next)
}
