//! `cargo +nightly fuzz run --fuzz-dir fuzz/libfuzzer configuration fuzz/seeds/configuration`
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dhow_fuzz::configuration(bytes));
