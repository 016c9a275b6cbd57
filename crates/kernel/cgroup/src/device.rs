//! Device rules, and the program that enforces them on cgroup2.
//!
//! Rules are read in order and start from "deny all". For each wanted kind of access (read, write, make)
//! the last rule that matches the device and names that kind decides. A rule of type `a` is about all
//! devices and all access: rules before it have no say.
//!
//! v1's kernel code knows a default and exceptions to it, so there a rule that carves a part out of a wider
//! exception cannot be had and is refused.

use dhow_spec::oci_runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use dhow_sys::bpf::Instruction;

use crate::Result;
use crate::error::CgroupError;

/// More rules than any container has; bounds the program's length.
const MAX_RULES: usize = 1000;

const MAKE: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const EVERY_ACCESS: u8 = MAKE | READ | WRITE;

/// Which devices a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Block,
    Character,
}

/// One rule, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    allow: bool,
    class: Class,
    major: Option<i32>,
    minor: Option<i32>,
    access: u8,
}

/// A checked list: a default and what comes after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    allow_by_default: bool,
    rules: Vec<Rule>,
}

/// What every container may do, as Docker and runc have it: make any node, use the harmless memory devices,
/// the terminal multiplexers and its own terminals. For putting behind a "deny all".
pub fn default_rules() -> Vec<LinuxDeviceCgroup> {
    use LinuxDeviceType::{B, C};
    let any = None;
    let table = [
        (C, any, any, "m"),
        (B, any, any, "m"),
        (C, Some(1), Some(3), "rwm"), // null
        (C, Some(1), Some(5), "rwm"), // zero
        (C, Some(1), Some(7), "rwm"), // full
        (C, Some(1), Some(8), "rwm"), // random
        (C, Some(1), Some(9), "rwm"), // urandom
        (C, Some(5), Some(0), "rwm"), // tty
        (C, Some(5), Some(1), "rwm"), // console
        (C, Some(5), Some(2), "rwm"), // ptmx
        (C, Some(136), any, "rwm"),   // pseudo-terminals
    ];
    table
        .into_iter()
        .map(|(typ, major, minor, access)| {
            let mut rule = LinuxDeviceCgroup::default();
            rule.set_allow(true).set_typ(Some(typ)).set_major(major).set_minor(minor);
            rule.set_access(Some(access.to_owned()));
            rule
        })
        .collect()
}

impl Rules {
    /// Checks a list of the OCI's rules. None if it is empty: then nothing is restricted.
    pub(crate) fn parse(list: &[LinuxDeviceCgroup]) -> Result<Option<Self>> {
        if list.is_empty() {
            return Ok(None);
        }
        if list.len() > MAX_RULES {
            let why = format!("a cgroup takes {MAX_RULES} at most");
            return Err(CgroupError::BadValue {
                what: "number of device rules",
                value: list.len().to_string(),
                why,
            });
        }
        let mut parsed = Self { allow_by_default: false, rules: Vec::with_capacity(list.len()) };
        for rule in list {
            match rule.typ().unwrap_or_default() {
                LinuxDeviceType::A => {
                    if rule.major().is_some_and(|n| n >= 0)
                        || rule.minor().is_some_and(|n| n >= 0)
                        || parse_access(rule)? != EVERY_ACCESS
                    {
                        return Err(bad(rule, "type a is for all devices and all access"));
                    }
                    parsed.allow_by_default = rule.allow();
                    parsed.rules.clear();
                }
                LinuxDeviceType::B => parsed.rules.push(Rule::parse(rule, Class::Block)?),
                LinuxDeviceType::C | LinuxDeviceType::U => {
                    parsed.rules.push(Rule::parse(rule, Class::Character)?);
                }
                LinuxDeviceType::P => return Err(bad(rule, "a FIFO is not a device")),
            }
        }
        Ok(Some(parsed))
    }

    /// v1: whether the default is "allow", then each rule as (allow, text for devices.allow or .deny).
    ///
    /// # Errors
    /// The rule that v1 cannot express, in words.
    pub(crate) fn to_v1(&self) -> Result<(bool, Vec<(bool, String)>), String> {
        let mut exceptions: Vec<Rule> = Vec::new();
        let mut lines = Vec::with_capacity(self.rules.len());
        for rule in &self.rules {
            if rule.allow == self.allow_by_default {
                let carves = |wider: &Rule| wider.overlaps(rule) && !wider.same_devices(rule);
                if exceptions.iter().any(carves) {
                    return Err(rule.to_string());
                }
                exceptions.iter_mut().filter(|other| other.same_devices(rule)).for_each(|other| {
                    other.access &= !rule.access;
                });
                exceptions.retain(|other| other.access != 0);
            } else {
                exceptions.push(*rule);
            }
            lines.push((rule.allow, rule.to_string()));
        }
        Ok((self.allow_by_default, lines))
    }

    /// cgroup2: the device program.
    ///
    /// The context is `struct bpf_cgroup_dev_ctx` {access_type, major, minor}, with the class in the low
    /// half of access_type and the wanted access in the high half. r2 holds the access not yet granted,
    /// r3 the class, r4 and r5 the numbers. Rules are tried from the last to the first.
    pub(crate) fn to_program(&self) -> Vec<Instruction> {
        let mut program = vec![
            op::load(2, 1, 0),
            op::copy(3, 2),
            op::and(3, 0xffff),
            op::shift_right(2, 16),
            op::load(4, 1, 4),
            op::load(5, 1, 8),
        ];
        for rule in self.rules.iter().rev() {
            rule.emit(&mut program);
        }
        program.extend([op::set(0, i32::from(self.allow_by_default)), op::exit()]);
        program
    }
}

impl Rule {
    fn parse(rule: &LinuxDeviceCgroup, class: Class) -> Result<Self> {
        let number = |number: Option<i64>| match number {
            None | Some(-1) => Ok(None),
            Some(number) => match i32::try_from(number) {
                Ok(number) if number >= 0 => Ok(Some(number)),
                _ => Err(bad(rule, "device numbers are 0 to 2147483647, or -1 for any")),
            },
        };
        Ok(Self {
            allow: rule.allow(),
            class,
            major: number(rule.major())?,
            minor: number(rule.minor())?,
            access: parse_access(rule)?,
        })
    }

    fn same_devices(&self, other: &Self) -> bool {
        (self.class, self.major, self.minor) == (other.class, other.major, other.minor)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let meets = |a: Option<i32>, b: Option<i32>| a.is_none() || b.is_none() || a == b;
        self.class == other.class
            && meets(self.major, other.major)
            && meets(self.minor, other.minor)
            && self.access & other.access != 0
    }

    fn emit(&self, program: &mut Vec<Instruction>) {
        let class = match self.class {
            Class::Block => 1,
            Class::Character => 2,
        };
        let verdict = if self.allow {
            // Granted; if that was all that was wanted, yes.
            vec![
                op::and(2, !i32::from(self.access)),
                op::skip_unless_equal(2, 0, 2),
                op::set(0, 1),
                op::exit(),
            ]
        } else {
            vec![
                op::skip_if_any_bit(2, i32::from(self.access), 1),
                op::skip(2),
                op::set(0, 0),
                op::exit(),
            ]
        };
        let tests: Vec<(u8, i32)> =
            [Some((3, class)), self.major.map(|n| (4, n)), self.minor.map(|n| (5, n))]
                .into_iter()
                .flatten()
                .collect();
        for (done, (register, number)) in tests.iter().enumerate() {
            let distance = tests.len() - done - 1 + verdict.len();
            program.push(op::skip_unless_equal(*register, *number, distance as i16));
        }
        program.extend(verdict);
    }
}

/// As v1 writes it: "c 1:3 rwm".
impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = |number: Option<i32>| number.map_or("*".to_owned(), |n| n.to_string());
        let class = if self.class == Class::Block { 'b' } else { 'c' };
        write!(f, "{class} {}:{} ", number(self.major), number(self.minor))?;
        for (bit, letter) in [(READ, "r"), (WRITE, "w"), (MAKE, "m")] {
            if self.access & bit != 0 {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// Without an access string a rule is about every access.
fn parse_access(rule: &LinuxDeviceCgroup) -> Result<u8> {
    let text = rule.access().as_deref().unwrap_or_default();
    if text.is_empty() {
        return Ok(EVERY_ACCESS);
    }
    text.chars().try_fold(0, |access, letter| match letter {
        'r' => Ok(access | READ),
        'w' => Ok(access | WRITE),
        'm' => Ok(access | MAKE),
        _ => Err(bad(rule, "access is made of the letters r, w and m")),
    })
}

fn bad(rule: &LinuxDeviceCgroup, why: &str) -> CgroupError {
    CgroupError::BadValue { what: "device rule", value: rule.to_string(), why: why.to_owned() }
}

/// The few instructions that device programs are made of (the kernel's bpf/standardization).
mod op {
    use dhow_sys::bpf::Instruction;

    const fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
        Instruction { code, registers: from << 4 | to, offset, immediate }
    }

    /// BPF_LDX | BPF_MEM | BPF_W
    pub(super) const fn load(to: u8, base: u8, offset: i16) -> Instruction {
        instruction(0x61, to, base, offset, 0)
    }

    /// BPF_ALU64 | BPF_MOV | BPF_X
    pub(super) const fn copy(to: u8, from: u8) -> Instruction {
        instruction(0xbf, to, from, 0, 0)
    }

    /// BPF_ALU64 | BPF_MOV | BPF_K
    pub(super) const fn set(to: u8, value: i32) -> Instruction {
        instruction(0xb7, to, 0, 0, value)
    }

    /// BPF_ALU64 | BPF_AND | BPF_K
    pub(super) const fn and(to: u8, mask: i32) -> Instruction {
        instruction(0x57, to, 0, 0, mask)
    }

    /// BPF_ALU64 | BPF_RSH | BPF_K
    pub(super) const fn shift_right(to: u8, bits: i32) -> Instruction {
        instruction(0x77, to, 0, 0, bits)
    }

    /// BPF_JMP | BPF_JNE | BPF_K
    pub(super) const fn skip_unless_equal(register: u8, value: i32, count: i16) -> Instruction {
        instruction(0x55, register, 0, count, value)
    }

    /// BPF_JMP | BPF_JSET | BPF_K
    pub(super) const fn skip_if_any_bit(register: u8, bits: i32, count: i16) -> Instruction {
        instruction(0x45, register, 0, count, bits)
    }

    /// BPF_JMP | BPF_JA
    pub(super) const fn skip(count: i16) -> Instruction {
        instruction(0x05, 0, 0, count, 0)
    }

    /// BPF_JMP | BPF_EXIT
    pub(super) const fn exit() -> Instruction {
        instruction(0x95, 0, 0, 0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: bool, text: &str) -> LinuxDeviceCgroup {
        let words: Vec<&str> = text.split([' ', ':']).collect();
        let typ = match words[0] {
            "a" => LinuxDeviceType::A,
            "b" => LinuxDeviceType::B,
            _ => LinuxDeviceType::C,
        };
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(allow).set_typ(Some(typ));
        rule.set_major(words[1].parse().ok()).set_minor(words[2].parse().ok());
        rule.set_access(Some(words[3].to_owned()));
        rule
    }

    fn rules(list: &[(bool, &str)]) -> Rules {
        let list: Vec<_> = list.iter().map(|(allow, text)| rule(*allow, text)).collect();
        Rules::parse(&list).unwrap().unwrap()
    }

    /// Runs the few instructions that `op` has.
    fn run(program: &[Instruction], class: u64, major: u64, minor: u64, access: u64) -> bool {
        let context = [access << 16 | class, major, minor];
        let mut registers = [0_u64; 16];
        let mut at = 0_i64;
        loop {
            let i = program[usize::try_from(at).unwrap()];
            let to = usize::from(i.registers & 15);
            let from = usize::from(i.registers >> 4);
            let immediate = i64::from(i.immediate) as u64;
            let mut jump = false;
            match i.code {
                0x61 => registers[to] = context[i.offset as usize / 4],
                0xbf => registers[to] = registers[from],
                0xb7 => registers[to] = immediate,
                0x57 => registers[to] &= immediate,
                0x77 => registers[to] >>= immediate,
                0x55 => jump = registers[to] != immediate,
                0x45 => jump = registers[to] & immediate != 0,
                0x05 => jump = true,
                0x95 => return registers[0] == 1,
                code => panic!("unknown instruction {code:#x}"),
            }
            at += 1 + if jump { i64::from(i.offset) } else { 0 };
        }
    }

    const B: u64 = 1;
    const C: u64 = 2;

    #[test]
    fn the_last_rule_for_each_access_decides() {
        let program = rules(&[
            (true, "c 9:9 rwm"), // forgotten: the next is about everything
            (false, "a *:* rwm"),
            (true, "c *:* m"),
            (true, "c 1:3 r"),
            (true, "c 1:3 w"),
            (true, "b 8:* rwm"),
            (false, "b 8:1 w"),
        ])
        .to_program();
        let check = |class, major, minor, access| run(&program, class, major, minor, access);
        let all = [
            (check(C, 9, 9, 1), true),
            (check(C, 9, 9, 2), false),
            (check(C, 1, 3, 2 | 4), true),
            (check(C, 1, 3, 1 | 2 | 4), true),
            (check(B, 1, 3, 2), false),
            (check(B, 8, 0, 7), true),
            (check(B, 8, 1, 2), true),
            (check(B, 8, 1, 2 | 4), false),
        ];
        for (at, (got, want)) in all.into_iter().enumerate() {
            assert_eq!(got, want, "case {at}");
        }
    }

    #[test]
    fn allow_all_is_the_default_of_privileged_containers() {
        let program = rules(&[(true, "a *:* rwm"), (false, "c 10:229 w")]).to_program();
        assert!(run(&program, B, 8, 0, 7));
        assert!(run(&program, C, 10, 229, 2));
        assert!(!run(&program, C, 10, 229, 6));
    }

    #[test]
    fn v1_refuses_what_its_kernel_code_would_silently_not_do() {
        let carved = rules(&[(false, "a *:* rwm"), (true, "c 1:* rw"), (false, "c 1:3 w")]);
        assert_eq!(carved.to_v1(), Err("c 1:3 w".to_owned()));
        // Docker's own list: a denial of something that was never allowed.
        let docker = rules(&[(false, "a *:* rwm"), (false, "c 10:229 rwm"), (true, "c *:* m")]);
        assert!(docker.to_v1().is_ok());
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["a 1:3 rwm", "a *:* r", "c 1:3 x", "c -2:3 r", "c 4294967296:3 r"] {
            assert!(Rules::parse(&[rule(true, text)]).is_err(), "{text}");
        }
        assert!(Rules::parse(&[]).unwrap().is_none());
        assert!(Rules::parse(&vec![rule(true, "c 1:3 r"); 1001]).is_err());
    }
}
