//! The reaper as pid 1. This binary is its own `dhow-init`, so it has a main of its own.

#![allow(clippy::unwrap_used)]

mod stage;

use dhow_sys::rustix::process::{Signal, pidfd_send_signal};
use stage::Stage;

const TESTS: [(&str, fn()); 4] = [
    ("codes_and_signals_come_through", codes_and_signals_come_through),
    ("signals_are_forwarded", signals_are_forwarded),
    ("orphans_are_reaped", orphans_are_reaped),
    ("a_missing_command_is_found_before", a_missing_command_is_found_before),
];

fn main() {
    let arguments: Vec<_> = std::env::args_os().collect();
    if arguments.first().is_some_and(|name| name == "dhow-init") {
        dhow_runtime::init_main(arguments);
    }
    let given = |name: &str| arguments.iter().any(|argument| argument == name);
    if given("--list") {
        // What cargo-nextest asks for; none is ignored.
        let all = if given("--ignored") { &[] } else { TESTS.as_slice() };
        for (name, _) in all {
            println!("{name}: test");
        }
        return;
    }
    let chosen = TESTS.iter().filter(|(name, _)| !given("--exact") || given(name));
    chosen.for_each(|(_, test)| test());
}

fn stage(script: &str) -> Stage {
    let mut stage = Stage::new(script);
    stage.init = true;
    stage
}

fn codes_and_signals_come_through() {
    let output = stage("echo $$; tr '\\0' ' ' < /proc/1/cmdline | head -c 9; exit 6").run();
    assert_eq!(output.out, "2\ndhow-init", "{}", output.err);
    assert_eq!(output.code, 6);
    assert_eq!(stage("kill -9 $$").run().code, 137);
}

fn signals_are_forwarded() {
    let stage = stage("trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.01; done");
    let (stdio, mut pipes) = stage::pipes();
    let running = stage.launch_with(stdio).unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(&mut pipes.0, &mut ready).unwrap();
    pidfd_send_signal(&running.pidfd, Signal::TERM).unwrap();
    let output = stage::gather(&running, pipes);
    assert_eq!((output.out.as_str(), output.code), ("caught\n", 3));
}

fn orphans_are_reaped() {
    // The orphan ends before its grandparent looks: it waits for the file that the orphan makes last.
    let script = "(sh -c 'echo $$ > /tmp/pid' &) ; \
                  while ! test -s /tmp/pid; do sleep 0.01; done; \
                  while test -d /proc/$(cat /tmp/pid); do sleep 0.01; done; echo gone";
    assert_eq!(stage(script).run().out, "gone\n");
}

fn a_missing_command_is_found_before() {
    let stage = stage("").set("/process/args", serde_json::json!(["nosuch"]));
    let error = stage.try_run().err().unwrap();
    assert_eq!(error.message(), "exec: \"nosuch\": executable file not found in $PATH");
    assert_eq!(error.exit_code(), 127);
}
