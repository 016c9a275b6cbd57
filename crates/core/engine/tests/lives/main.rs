//! Containers live and die, for real: shims, overlays and cgroups of this machine, no network.
//!
//! The launcher is a copy of the running binary, so this one has its own `main`, which becomes a launcher
//! or a reaper by its `argv[0]` and else runs the tests that nextest or `cargo test` asks for. Needs root
//! and `/bin/busybox`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails; without a harness of its own clippy takes it for a program"
)]

mod machine;
mod tests;

use std::env;
use std::process::ExitCode;

/// A test by its name.
type Test = (&'static str, fn());

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().collect();
    match arguments.first().and_then(|name| name.to_str()) {
        Some(dhow_shim::LAUNCHER_ARGV0) => dhow_shim::launcher_main(),
        Some("dhow-init") => dhow_runtime::init_main(arguments),
        _ => {}
    }
    let words: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| words.iter().any(|word| word == flag);
    if has("--list") {
        if !has("--ignored") {
            for (name, _) in tests::ALL {
                println!("{name}: test");
            }
        }
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    for (name, test) in tests::ALL {
        let is_wanted = wanted.is_empty()
            || wanted
                .iter()
                .any(|word| if has("--exact") { *word == name } else { name.contains(*word) });
        if is_wanted {
            test();
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}
