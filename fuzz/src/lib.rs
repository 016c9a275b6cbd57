//! What must hold for any bytes that somebody hands us. Each function takes them as they come and panics if
//! it does not hold.
//!
//! ```text
//!   seeds/NAME/*.json ─► tests/mutated.rs      bounded, on a stable compiler, with all other tests
//!                    └─► libfuzzer/NAME.rs     without end: cargo +nightly fuzz run --fuzz-dir fuzz/libfuzzer
//!                                              NAME fuzz/seeds/NAME
//! ```
//!
//! `libfuzzer/` is a workspace of its own, because it needs a nightly compiler and a C++ one.
#![allow(clippy::panic, reason = "what does not hold is told to a fuzzer by a panic")]

use dhow_runtime::HookPlan;
use dhow_seccomp::{Program, compile};
use dhow_spec::Configuration;
use dhow_spec::oci_runtime::LinuxSeccomp;

/// The kernel's limit on a filter's length (BPF_MAXINSNS).
const LONGEST: usize = 4096;
/// BPF_RET | BPF_K
const RETURN: u16 = 0x06;

/// A `config.json`: it is read, or refused in one line that names it. What is read is read again from what
/// is written of it, and what is made of its parts does not panic.
pub fn configuration(bytes: &[u8]) {
    let spec = match Configuration::parse(bytes) {
        Ok(configuration) => configuration.spec,
        Err(error) => {
            let said = error.to_string();
            assert!(said.starts_with("config.json: ") && !said.contains('\n'), "{said:?}");
            return;
        }
    };
    let _ = HookPlan::new(spec.hooks().as_ref());
    if let Some(profile) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) {
        compiled(profile);
    }
    let written = serde_json::to_vec(&spec).unwrap_or_else(|error| panic!("{error}"));
    match Configuration::parse(&written) {
        Ok(again) => assert_eq!(again.spec, spec),
        Err(error) => panic!("{error} in {}", String::from_utf8_lossy(&written)),
    }
}

/// The `seccomp` object of a configuration: it is compiled to a program that the kernel would take, or
/// refused.
pub fn seccomp(bytes: &[u8]) {
    if let Ok(profile) = serde_json::from_slice::<LinuxSeccomp>(bytes) {
        compiled(&profile);
    }
    // The same bytes as a program of ours.
    if let Ok(program) = Program::from_bytes(bytes) {
        assert_eq!(program.to_bytes(), bytes);
    }
}

fn compiled(profile: &LinuxSeccomp) {
    let Ok(program) = compile(profile) else { return };
    assert!((1..=LONGEST).contains(&program.len()), "{} instructions", program.len());
    for (place, instruction) in program.instructions().iter().enumerate() {
        let (code, constant) = (*instruction as u16, (*instruction >> 32) as usize);
        let (yes, no) = ((*instruction >> 16) as u8, (*instruction >> 24) as u8);
        let farthest = match code {
            RETURN => continue,
            // BPF_JMP | BPF_JA
            0x05 => constant,
            // Equal, greater, greater or equal.
            0x15 | 0x25 | 0x35 => usize::from(yes.max(no)),
            // Load, and.
            0x20 | 0x54 => 0,
            other => panic!("instruction {other:#x}"),
        };
        assert!(place + 1 + farthest < program.len(), "{place} leads out of the program");
    }
    match Program::from_bytes(&program.to_bytes()) {
        Ok(again) => assert_eq!(again, program),
        Err(error) => panic!("{error}"),
    }
}
