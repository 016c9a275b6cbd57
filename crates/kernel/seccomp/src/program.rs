//! A compiled filter as plain data.
//!
//! Its wire form, for handing it to another process of ours:
//!
//! ```text
//!   0        4        8        12                12 + 8 n
//!   | "DSC1" | flags  | n      | n instructions  |     all little-endian
//! ```
//!
//! An instruction is the kernel's `struct sock_filter` {code u16, jt u8, jf u8, k u32} as one u64 in
//! memory order of a little-endian machine.

use crate::Result;
use crate::assembler::RETURN;
use crate::error::SeccompError;
use crate::rules::NOTIFY;

const MAGIC: [u8; 4] = *b"DSC1";
const HEADER_BYTES: usize = 12;

/// The kernel's limit on a filter's length (BPF_MAXINSNS).
pub(crate) const MAX_INSTRUCTIONS: usize = 4096;

/// Flags of seccomp(2)'s SECCOMP_SET_MODE_FILTER, with the kernel's values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// Give the filter to all threads.
    pub const TSYNC: Self = Self(1);
    /// Log every action but "allow".
    pub const LOG: Self = Self(1 << 1);
    /// Do not switch on the speculative store bypass mitigation.
    pub const SPEC_ALLOW: Self = Self(1 << 2);
    /// While a listener handles a call, only fatal signals interrupt it (Linux 5.19).
    pub const WAIT_KILLABLE: Self = Self(1 << 5);

    /// The kernel's number.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// These and those.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A compiled seccomp filter, ready to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    instructions: Vec<u64>,
    flags: Flags,
}

impl Program {
    pub(crate) fn new(instructions: Vec<u64>, flags: Flags) -> Result<Self> {
        if instructions.len() > MAX_INSTRUCTIONS {
            let (instructions, limit) = (instructions.len(), MAX_INSTRUCTIONS);
            return Err(SeccompError::TooLong { instructions, limit });
        }
        Ok(Self { instructions, flags })
    }

    /// The instructions, each a `struct sock_filter`.
    pub fn instructions(&self) -> &[u64] {
        &self.instructions
    }

    /// How to load it.
    pub fn flags(&self) -> Flags {
        self.flags
    }

    /// Whether it hands calls over to a listener, which has to be made when it is loaded.
    pub fn notifies(&self) -> bool {
        self.instructions.contains(&(u64::from(RETURN) | u64::from(NOTIFY) << 32))
    }

    /// The number of instructions.
    pub fn len(&self) -> usize {
        self.instructions.len()
    }

    /// Whether it has no instruction; the kernel would refuse it.
    pub fn is_empty(&self) -> bool {
        self.instructions.is_empty()
    }

    /// The wire form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + 8 * self.instructions.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.flags.0.to_le_bytes());
        bytes.extend_from_slice(&(self.instructions.len() as u32).to_le_bytes());
        for instruction in &self.instructions {
            bytes.extend_from_slice(&instruction.to_le_bytes());
        }
        bytes
    }

    /// A program from its wire form. What it does is not checked: the kernel does that at loading.
    ///
    /// # Errors
    /// [`SeccompError::Decode`] for anything that [`Program::to_bytes`] does not write.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let word = |at: usize| -> Result<u32> {
            let bytes = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
            bytes.map(u32::from_le_bytes).ok_or(SeccompError::Decode("the header is cut off"))
        };
        if bytes.get(..4) != Some(&MAGIC) {
            return Err(SeccompError::Decode("the first bytes are not those of a program"));
        }
        let (flags, count) = (word(4)?, word(8)? as usize);
        let body = bytes.get(HEADER_BYTES..).unwrap_or_default();
        if count == 0 || count > MAX_INSTRUCTIONS || body.len() != 8 * count {
            return Err(SeccompError::Decode("the length is not that of its instructions"));
        }
        let instructions =
            body.as_chunks::<8>().0.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect();
        Ok(Self { instructions, flags: Flags(flags) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_form_round_trips_and_is_checked() {
        let program = Program::new(vec![1, u64::MAX], Flags::LOG.union(Flags::SPEC_ALLOW)).unwrap();
        let bytes = program.to_bytes();
        assert_eq!(Program::from_bytes(&bytes).unwrap(), program);
        for cut in 0..bytes.len() {
            assert!(Program::from_bytes(bytes.get(..cut).unwrap()).is_err());
        }
    }
}
