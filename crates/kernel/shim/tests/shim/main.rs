//! Real containers under real shims, with this program as the daemon, the launcher and the shim.
//!
//! The binary re-executes itself by `argv[0]` as dhow does, so it has its own harness: it speaks as much of
//! libtest's command line as nextest and `cargo test` need. Each test has its own folder, container and
//! control group. They need root.

// What is allowed in any test; clippy does not see that this whole program is one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod container;
mod ends;
mod lives;
mod streams;

use std::panic::catch_unwind;
use std::process::ExitCode;

/// A test's name and body.
type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    ("output_goes_to_log_and_client_from_the_first_byte", streams::output),
    ("stdin_reaches_the_process_and_ends_with_the_client", streams::stdin),
    ("stdin_outlives_a_client_without_stdin_once", streams::stdin_kept),
    ("a_terminal_has_its_size_and_is_resized", streams::terminal),
    ("a_slow_client_blocks_the_process_and_loses_nothing", streams::slow_client),
    ("a_client_that_never_reads_does_not_keep_others_waiting_for_the_exit", streams::stuck_client),
    ("several_execs_run_at_once", lives::execs),
    ("an_exec_has_a_terminal_and_stdin", lives::exec_terminal),
    ("a_filter_holds_for_the_container_and_its_execs", lives::seccomp),
    ("an_init_forwards_signals_and_gives_the_code_of_its_command", ends::init),
    ("a_daemon_killed_and_its_launcher_lose_nothing", lives::survival),
    ("a_killed_shim_takes_its_container_along", lives::killed_shim),
    ("a_launcher_that_died_is_replaced", lives::launcher_replaced),
    ("one_container_leaves_nothing_in_the_launcher_for_the_next", lives::isolation),
    ("a_shim_is_small", lives::memory),
    ("exit_codes_and_signals", ends::codes),
    ("a_container_out_of_memory_says_so", ends::out_of_memory),
    ("a_failed_start_leaves_nothing", ends::failed_start),
    ("a_container_starts_again_in_its_folder", ends::again),
    ("a_shim_whose_folder_was_removed_ends_all_the_same", ends::folder_removed),
    ("processes_left_in_the_control_group_are_killed", ends::leftovers),
    ("a_grandchild_that_holds_the_output_of_an_exec_does_not_hold_its_end", ends::grandchild),
    ("a_shim_refuses_what_it_does_not_understand", ends::hostile_client),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.first().map(String::as_str) {
        Some(dhow_shim::LAUNCHER_ARGV0) => dhow_shim::launcher_main(),
        Some("dhow-init") => dhow_runtime::init_main(std::env::args_os().collect()),
        _ => {}
    }
    if let [_, flag, folder] = arguments.as_slice()
        && flag == "--daemon"
    {
        lives::be_daemon(folder.as_ref());
    }
    harness(&arguments)
}

/// As much of libtest as its callers use: `--list`, `--ignored`, `--exact NAME`, a filter.
fn harness(arguments: &[String]) -> ExitCode {
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let filter = arguments
        .iter()
        .skip(1)
        .find(|argument| !argument.starts_with('-') && *argument != "terse");
    let selected = TESTS.iter().filter(|(name, _)| match filter {
        Some(filter) if has("--exact") => name == filter,
        Some(filter) => name.contains(filter.as_str()),
        None => true,
    });
    if has("--ignored") {
        return ExitCode::SUCCESS;
    }
    let mut failed = false;
    for (name, body) in selected {
        if has("--list") {
            println!("{name}: test");
            continue;
        }
        let passed = catch_unwind(*body).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed |= !passed;
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
