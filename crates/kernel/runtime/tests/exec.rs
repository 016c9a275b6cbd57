//! Further processes in a running container.

#![allow(clippy::unwrap_used)]

mod stage;

use std::fs;

use serde_json::json;
use stage::Stage;

#[test]
fn an_exec_is_in_the_container() {
    let stage = Stage::new("exec sleep 100");
    let running = stage.start();
    let script = "hostname; ps | grep -c 'sleep 100'; for n in mnt net uts pid ipc cgroup; do \
                  test $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) || echo other $n; done; \
                  grep -v ':/$' /proc/self/cgroup; exit 9";
    let output = stage.exec(&running, &stage.process(&["/bin/sh", "-c", script])).unwrap();
    let lines: Vec<&str> = output.out.lines().collect();
    assert_eq!(lines[0], "stage", "{}", output.err);
    assert_eq!(lines.len(), 2, "{}", output.out);
    assert_eq!(output.code, 9);
    stage::kill(&running);
}

#[test]
fn an_exec_is_as_clean_as_a_start() {
    let stage = Stage::new("exec sleep 100");
    let running = stage.start();
    let exec = |arguments: &[&str]| stage.exec(&running, &stage.process(arguments)).unwrap().out;
    assert_eq!(exec(&["ls", "/proc/self/fd"]), "0\n1\n2\n3\n");
    assert_eq!(exec(&["grep", "SigBlk", "/proc/self/status"]), "SigBlk:\t0000000000000000\n");
    assert_eq!(exec(&["grep", "CapBnd", "/proc/self/status"]), "CapBnd:\t00000000a80425fb\n");
    stage::kill(&running);
}

#[test]
fn users_and_commands_are_the_containers() {
    let stage = Stage::new("exec sleep 100");
    let running = stage.start();
    let mut process = stage.process(&["id", "-un"]);
    process["user"]["username"] = json!("web");
    assert_eq!(stage.exec(&running, &process).unwrap().out, "web\n");
    for (command, code, message) in [
        ("nosuch", 127, "exec: \"nosuch\": executable file not found in $PATH"),
        ("/nosuch", 127, "exec: \"/nosuch\": stat /nosuch: no such file or directory"),
        ("/etc/passwd", 126, "exec: \"/etc/passwd\": permission denied"),
        ("/etc", 126, "exec: \"/etc\": is a directory"),
    ] {
        let error = stage.exec(&running, &stage.process(&[command])).err().unwrap();
        assert_eq!((error.exit_code(), error.message()), (code, message));
    }
    process["cwd"] = json!("/nosuch");
    let error = stage.exec(&running, &process).err().unwrap();
    assert_eq!(
        error.message(),
        "chdir to cwd (\"/nosuch\") set in config.json failed: no such file or directory"
    );
    stage::kill(&running);
}

#[test]
fn an_exec_in_what_has_ended_is_refused() {
    let stage = Stage::new("true");
    let running = stage.start();
    // Ended and not yet reaped: the pid is not free.
    let options = dhow_sys::rustix::process::WaitIdOptions::EXITED
        | dhow_sys::rustix::process::WaitIdOptions::NOWAIT;
    let pidfd = std::os::fd::AsFd::as_fd(&running.pidfd);
    dhow_sys::rustix::process::waitid(dhow_sys::rustix::process::WaitId::PidFd(pidfd), options)
        .unwrap();
    let error = stage.exec(&running, &stage.process(&["true"])).err().unwrap();
    assert_eq!(error.message(), "the container is not running");
    stage::wait(&running);
    let error = stage.exec(&running, &stage.process(&["true"])).err().unwrap();
    assert_eq!(error.message(), "the container is not running");
}

#[test]
fn our_own_children_stay_in_our_pid_namespace() {
    let stage = Stage::new("exec sleep 100");
    let running = stage.start();
    stage.exec(&running, &stage.process(&["true"])).unwrap();
    let [own, children] = ["pid", "pid_for_children"]
        .map(|name| fs::read_link(format!("/proc/thread-self/ns/{name}")).unwrap());
    assert_eq!(own, children);
    stage::kill(&running);
}

#[test]
fn an_exec_leaves_no_process_behind() {
    let stage = Stage::new("exec sleep 100");
    let running = stage.start();
    let alone = stage::children();
    stage.exec(&running, &stage.process(&["true"])).unwrap();
    assert!(stage.exec(&running, &stage.process(&["nosuch"])).is_err());
    assert_eq!(stage::children(), alone);
    stage::kill(&running);
}

#[test]
fn a_profile_that_forbids_to_fork_is_named() {
    let mut stage = Stage::new("exec sleep 100");
    let running = stage.start();
    let alone = stage::children();
    for (call, action, message) in [
        ("clone", "SCMP_ACT_ERRNO", "cannot clone into the container: operation not permitted"),
        ("setsid", "SCMP_ACT_ERRNO", "cannot make a session: operation not permitted"),
        ("clone", "SCMP_ACT_KILL_PROCESS", "the seccomp profile has killed the process"),
        ("setsid", "SCMP_ACT_KILL_PROCESS", "the seccomp profile has killed the process"),
    ] {
        for no_new_privs in [true, false] {
            stage.seccomp = Some(json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{ "names": [call], "action": action }],
            }));
            let mut process = stage.process(&["true"]);
            process["noNewPrivileges"] = json!(no_new_privs);
            let error = stage.exec(&running, &process).err().unwrap();
            assert!(error.message().starts_with(message), "{call} {action}: {error:?}");
            assert_eq!(error.exit_code(), 125);
            assert_eq!(stage::children(), alone);
        }
    }
    stage::kill(&running);
}

#[test]
fn a_full_container_says_so() {
    let stage =
        Stage::new("exec sleep 100").set("/linux/resources", json!({ "pids": { "limit": 1 } }));
    let running = stage.start();
    let alone = stage::children();
    let error = stage.exec(&running, &stage.process(&["true"])).err().unwrap();
    assert!(error.message().contains("resource temporarily unavailable"), "{error:?}");
    assert!(dhow_error::Classify::hint(&error).is_some_and(|hint| hint.contains("--pids-limit")));
    assert_eq!(stage::children(), alone);
    stage::kill(&running);
}
