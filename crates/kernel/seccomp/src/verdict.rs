//! What a program says to a call, found out without loading it.

use crate::Program;
use crate::arch::{AUDIT_X86_64, Abi};
use crate::assembler::RETURN;

/// SECCOMP_RET_ALLOW and SECCOMP_RET_LOG: the call is made.
const ALLOW: u32 = 0x7fff_0000;
const LOG: u32 = 0x7ffc_0000;
/// The bits of a return value that say what is done.
const ACTION: u32 = 0xffff_0000;

impl Program {
    /// Whether the native call of that name goes through with those arguments. A program with instructions
    /// that are not ours lets nothing through.
    pub fn lets(&self, name: &str, arguments: [u64; 6]) -> bool {
        let Some(number) = Abi::X86_64.number(name) else { return false };
        let verdict = self.verdict(number, arguments).map(|verdict| verdict & ACTION);
        matches!(verdict, Some(ALLOW | LOG))
    }

    /// Runs the program as the kernel does (seccomp(2), "struct seccomp_data"; jumps only go forward).
    fn verdict(&self, number: u32, arguments: [u64; 6]) -> Option<u32> {
        let word = |offset: u32| match offset {
            0 => Some(number),
            4 => Some(AUDIT_X86_64),
            16..64 => {
                let argument = arguments.get(offset as usize / 8 - 2)?;
                Some(if offset.is_multiple_of(8) { *argument } else { argument >> 32 } as u32)
            }
            _ => None,
        };
        let (mut accumulator, mut at) = (0_u32, 0_usize);
        loop {
            let instruction = *self.instructions().get(at)?;
            let (code, constant) = (instruction as u16, (instruction >> 32) as u32);
            let jump = |holds: bool| instruction >> if holds { 16 } else { 24 } & 0xff;
            at += 1;
            match code {
                0x20 => accumulator = word(constant)?,
                0x54 => accumulator &= constant,
                0x05 => at += constant as usize,
                0x15 => at += jump(accumulator == constant) as usize,
                0x25 => at += jump(accumulator > constant) as usize,
                0x35 => at += jump(accumulator >= constant) as usize,
                RETURN => return Some(constant),
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dhow_spec::oci_runtime::LinuxSeccomp;

    use crate::compile;

    #[test]
    fn verdicts_are_those_of_the_profile() {
        let profile: LinuxSeccomp = serde_json::from_str(
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
                {"names": ["read", "clone"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["write"], "action": "SCMP_ACT_LOG"},
                {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
                 "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]}]}"#,
        )
        .unwrap();
        let program = compile(&profile).unwrap();
        assert!(program.lets("read", [0; 6]) && program.lets("write", [0; 6]));
        assert!(program.lets("personality", [8, 0, 0, 0, 0, 0]));
        assert!(!program.lets("personality", [8 | 1 << 32, 0, 0, 0, 0, 0]));
        assert!(!program.lets("open", [0; 6]) && !program.lets("no such call", [0; 6]));
    }
}
