//! Hooks as programs: what they are given, and what is made of their ends.

use std::time::Instant;

use dhow_spec::oci_runtime::HookBuilder;
use dhow_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use dhow_sys::rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::*;

/// A plan with one createRuntime hook for each script.
fn plan(scripts: &[&str], timeout: Option<i64>) -> HookPlan {
    let hook = |script: &&str| {
        let arguments = ["sh", "-c", script].map(str::to_owned).to_vec();
        let hook = HookBuilder::default().path("/bin/sh").args(arguments);
        let hook = hook.env(vec!["A=1".to_owned(), "B=x y".to_owned()]);
        match timeout {
            Some(seconds) => hook.timeout(seconds).build().unwrap(),
            None => hook.build().unwrap(),
        }
    };
    let mut hooks = Hooks::default();
    hooks.set_create_runtime(Some(scripts.iter().map(hook).collect()));
    HookPlan::new(Some(&hooks)).unwrap()
}

fn run(scripts: &[&str], timeout: Option<i64>, state: &str) -> Result<(), String> {
    let place = Place::Path(Path::new("/tmp"));
    let ran = plan(scripts, timeout).run(HookKind::CreateRuntime, state, place);
    ran.map_err(|error| error.message().to_owned())
}

#[test]
fn a_hook_gets_what_the_configuration_says_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("seen");
    let script = format!(
        "cat > {0}; echo \"|$0|$#|$A|$B|$HOME|$(pwd)\" >> {0}; set -- /proc/self/fd/*; echo $# >> {0}",
        file.display()
    );
    // Larger than a pipe holds.
    let state = "s".repeat(100_000);
    run(&[&script], None, &state).unwrap();
    let seen = std::fs::read_to_string(file).unwrap();
    // The fourth descriptor is the folder of descriptors that is read.
    assert_eq!(seen.strip_prefix(&state).unwrap(), "|sh|0|1|x y||/tmp\n4\n");
}

#[test]
fn hooks_run_in_order_up_to_the_first_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    let write = |word: &str, code: u8| {
        format!("echo {word} >> {}/order; echo of {word}; exit {code}", folder.path().display())
    };
    let scripts = [write("one", 0), write("two", 3), write("three", 0)];
    let scripts = scripts.each_ref().map(String::as_str);
    let error = run(&scripts, None, "").unwrap_err();
    assert_eq!(error, "createRuntime hook /bin/sh failed with exit code 3: of two");
    let order = || std::fs::read_to_string(folder.path().join("order")).unwrap();
    assert_eq!(order(), "one\ntwo\n");
    let failures = plan(&scripts, None).run_all(HookKind::CreateRuntime, "", Place::Here);
    assert_eq!(failures.len(), 1);
    assert_eq!(order(), "one\ntwo\none\ntwo\nthree\n");
}

#[test]
fn a_hook_that_takes_too_long_is_killed_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!("sleep 100 & echo $! > {}; wait", file.display());
    let begin = Instant::now();
    let error = run(&[&script], Some(1), "").unwrap_err();
    assert!(error.contains("longer than its timeout of 1 s"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(50));
    let pid: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
    // The signal is on its way; what has died may be reaped by then, and is not to be found.
    let Ok(process) = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()) else { return };
    let mut ended = [PollFd::new(&process, PollFlags::IN)];
    let patience = Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(poll(&mut ended, Some(&patience)), Ok(1), "it runs on");
}

#[test]
fn one_that_never_stops_talking_is_killed_too() {
    let error = run(&["exec yes"], Some(1), "").unwrap_err();
    assert!(error.contains("timeout"), "{error}");
}

#[test]
fn a_hook_may_leave_something_behind() {
    let begin = Instant::now();
    run(&["sleep 5 & exit 0"], None, "").unwrap();
    assert!(begin.elapsed() < Duration::from_secs(4));
}

#[test]
fn ends_are_told() {
    assert_eq!(
        run(&["kill -9 $$"], None, "").unwrap_err(),
        "createRuntime hook /bin/sh was killed by signal 9"
    );
    let hooks = |path: &str| {
        let mut hooks = Hooks::default();
        hooks.set_poststop(Some(vec![HookBuilder::default().path(path).build().unwrap()]));
        HookPlan::new(Some(&hooks))
    };
    let failures = hooks("/no/such").unwrap().run_all(HookKind::Poststop, "", Place::Here);
    let messages: Vec<_> = failures.iter().map(LaunchError::message).collect();
    assert_eq!(
        messages,
        [
            "poststop hook /no/such failed with exit code 127: cannot execute it: no such file or directory"
        ]
    );
    let relative = hooks("bin/sh").unwrap_err();
    assert_eq!(relative.message(), "hooks.poststop[0].path: \"bin/sh\" is not an absolute path");
}

#[test]
fn a_timeout_is_more_than_zero() {
    for seconds in [0, -1] {
        let mut hooks = Hooks::default();
        let hook = HookBuilder::default().path("/bin/true").timeout(seconds).build().unwrap();
        hooks.set_poststart(Some(vec![hook]));
        let error = HookPlan::new(Some(&hooks)).unwrap_err();
        assert!(error.message().starts_with("hooks.poststart[0].timeout"), "{error}");
    }
}

#[test]
fn descriptors_made_before_are_enough() {
    let plan = plan(&["cat | grep -q state"], None);
    let ready = plan.ready(HookKind::CreateRuntime, "the state").unwrap();
    assert_eq!(ready.descriptors().count(), 3);
    drop(plan);
    ready.run().unwrap();
}
