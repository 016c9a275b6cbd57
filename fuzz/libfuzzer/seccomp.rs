//! `cargo +nightly fuzz run --fuzz-dir fuzz/libfuzzer seccomp fuzz/seeds/seccomp`
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dhow_fuzz::seccomp(bytes));
