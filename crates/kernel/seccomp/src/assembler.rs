//! Classic BPF, written from the last instruction to the first.
//!
//! Jumps only go forward and a conditional one no further than 255 instructions. Written backwards,
//! every target exists already when a jump to it is made, so its distance is known and a detour (an
//! unconditional jump, which goes any distance) is put in exactly where one is too long.

use std::collections::HashMap;

/// BPF_LD | BPF_W | BPF_ABS
const LOAD: u16 = 0x20;
/// BPF_ALU | BPF_AND | BPF_K
const AND: u16 = 0x54;
/// BPF_JMP | BPF_JA
const JUMP: u16 = 0x05;
/// BPF_RET | BPF_K
pub(crate) const RETURN: u16 = 0x06;

/// How far a conditional jump is let go; 255 is the limit, and detours for its two targets are made one
/// after the other.
const REACH: usize = 250;

/// A conditional jump's comparison of the accumulator with a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Jump {
    /// BPF_JMP | BPF_JEQ | BPF_K
    Equal = 0x15,
    /// BPF_JMP | BPF_JGT | BPF_K
    Greater = 0x25,
    /// BPF_JMP | BPF_JGE | BPF_K
    GreaterOrEqual = 0x35,
}

/// A place to jump to: the number of instructions from it to the program's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label(usize);

/// A program under construction.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    /// From the last to the first.
    code: Vec<u64>,
    /// The nearest return of each value.
    returns: HashMap<u32, Label>,
}

impl Assembler {
    /// A return of `value` that a conditional jump made next can reach.
    pub(crate) fn ret(&mut self, value: u32) -> Label {
        match self.returns.get(&value) {
            Some(label) if self.code.len() - label.0 < REACH => *label,
            _ => {
                let label = self.push(RETURN, 0, 0, value);
                self.returns.insert(value, label);
                label
            }
        }
    }

    /// Loads a word of seccomp_data, then goes on with `next`.
    pub(crate) fn load(&mut self, offset: u32, next: Label) -> Label {
        self.go_to(next);
        self.push(LOAD, 0, 0, offset)
    }

    /// Masks the accumulator, then goes on with `next`.
    pub(crate) fn and(&mut self, mask: u32, next: Label) -> Label {
        self.go_to(next);
        self.push(AND, 0, 0, mask)
    }

    /// Compares the accumulator with `value` and goes on with one of two.
    pub(crate) fn branch(&mut self, jump: Jump, value: u32, yes: Label, no: Label) -> Label {
        let yes = self.near(yes);
        let no = self.near(no);
        let (yes, no) = (self.code.len() - yes.0, self.code.len() - no.0);
        self.push(jump as u16, yes as u8, no as u8, value)
    }

    /// The program, from the first instruction to the last.
    pub(crate) fn finish(mut self) -> Vec<u64> {
        self.code.reverse();
        self.code
    }

    /// Makes `next` the instruction that follows the one pushed next.
    fn go_to(&mut self, next: Label) {
        let distance = self.code.len() - next.0;
        if distance > 0 {
            self.push(JUMP, 0, 0, distance as u32);
        }
    }

    /// `label`, or a detour to it.
    fn near(&mut self, label: Label) -> Label {
        let distance = self.code.len() - label.0;
        if distance < REACH { label } else { self.push(JUMP, 0, 0, distance as u32) }
    }

    /// An instruction as `struct sock_filter` in a little-endian u64.
    fn push(&mut self, code: u16, yes: u8, no: u8, constant: u32) -> Label {
        let instruction = u64::from(code)
            | u64::from(yes) << 16
            | u64::from(no) << 24
            | u64::from(constant) << 32;
        self.code.push(instruction);
        Label(self.code.len())
    }
}
