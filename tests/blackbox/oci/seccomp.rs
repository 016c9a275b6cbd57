//! Seccomp: what a container's filter does to its calls, and who answers those that it hands over.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};
use dhow_sys::fdpass;
use dhow_sys::rustix::event::{PollFd, PollFlags, poll};
use dhow_sys::rustix::io::Errno;
use dhow_sys::seccomp::{Answer, answer, next_call};
use dhow_tests::Bundle;
use serde_json::{Value, json};

/// Sets the profile: everything is allowed but for these rules.
fn profile(bundle: &Bundle, rules: Value) -> Result<()> {
    bundle.change(|config| {
        config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules});
    })
}

#[test]
fn calls_meet_what_the_profile_says() -> Result<()> {
    let bundle =
        Bundle::new(&["sh", "-c", "mkdir /dev/shm/a; echo $?; chmod 0 /dev/shm; echo $?"])?;
    let rules = json!([
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
        {"names": ["chmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_KILL_PROCESS"},
    ]);
    for no_new_privileges in [true, false] {
        profile(&bundle, rules.clone())?;
        bundle.change(|config| config["process"]["noNewPrivileges"] = json!(no_new_privileges))?;
        let output = bundle.run()?;
        assert_eq!(output.stdout, "1\n159\n", "{output:?}");
        ensure!(output.stderr.contains("No space left on device"), "{output:?}");
    }
    bundle.nothing_left()
}

/// Shows: config-linux/seccomp-1, config-linux/seccomp-2, config-linux/seccomp-5
#[test]
fn profiles_that_make_no_sense_are_refused() -> Result<()> {
    let bundle = Bundle::new(&["true"])?;
    let allow = json!("SCMP_ACT_ALLOW");
    let rule = |action: &str, names: Value| json!([{"names": names, "action": action}]);
    let cases = [
        (json!({"defaultAction": allow, "defaultErrnoRet": 5}), "errnoRet 5 of SCMP_ACT_ALLOW"),
        (
            json!({"defaultAction": allow, "syscalls": [{"names": ["chmod"], "action": "SCMP_ACT_KILL", "errnoRet": 1}]}),
            "errnoRet 1 of SCMP_ACT_KILL",
        ),
        (
            json!({"defaultAction": allow, "syscalls": rule("SCMP_ACT_ERRNO", json!([]))}),
            "names no system call",
        ),
        (
            json!({"defaultAction": allow, "listenerMetadata": "x"}),
            "listenerMetadata without a listenerPath",
        ),
        (
            json!({"defaultAction": allow, "syscalls": rule("SCMP_ACT_NOTIFY", json!(["mkdir"]))}),
            "SCMP_ACT_NOTIFY without a listenerPath",
        ),
        (
            json!({"defaultAction": allow, "listenerPath": "/x", "syscalls": rule("SCMP_ACT_NOTIFY", json!(["write"]))}),
            "SCMP_ACT_NOTIFY for the write system call",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/x"}),
            "SCMP_ACT_NOTIFY as the default action",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_MAYBE"}),
            "config.json: linux.seccomp.defaultAction: unknown variant",
        ),
    ];
    for (seccomp, said) in cases {
        bundle.change(|config| config["linux"]["seccomp"] = seccomp)?;
        let output = bundle.run()?;
        ensure!(output.code == 1 && output.stderr.contains(said), "{said}: {output:?}");
        bundle.nothing_left()?;
    }
    Ok(())
}

#[test]
fn architectures_and_flags_of_all_kinds_are_taken() -> Result<()> {
    let bundle = Bundle::new(&["sh", "-c", "mkdir /dev/shm/a || echo refused"])?;
    bundle.change(|config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_S390X", "SCMP_ARCH_LOONGARCH64"],
            "flags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
            "syscalls": [{"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO"}],
        });
    })?;
    assert_eq!(bundle.run()?.ok()?, "refused");
    bundle.nothing_left()
}

/// Who answers for a container: refuses every mkdir with ENOTTY, lets all else through. Gives what the
/// connection brought.
struct Agent(JoinHandle<Result<Value>>);

impl Agent {
    /// Answers `connections` one after the other; the state of the last is given.
    fn listen(bundle: &Bundle, connections: usize) -> Result<Self> {
        let listener = UnixListener::bind(bundle.path("agent"))?;
        Ok(Self(std::thread::spawn(move || {
            let mut states = (0..connections).map(|_| Self::serve(&listener));
            states.try_fold(Value::Null, |_, state| state)
        })))
    }

    fn serve(listener: &UnixListener) -> Result<Value> {
        let (mut connection, _) = listener.accept()?;
        let mut buffer = vec![0; 65_536];
        let first = fdpass::receive(connection.as_fd(), &mut buffer)?;
        let mut text = buffer.get(..first.bytes).unwrap_or_default().to_vec();
        // It ends: one state for a connection.
        connection.read_to_end(&mut text)?;
        let [calls]: [OwnedFd; 1] =
            first.descriptors.try_into().ok().context("not one descriptor")?;
        std::thread::spawn(move || Self::answer_all(&calls));
        Ok(serde_json::from_slice(&text)?)
    }

    /// Until the last process with the filter has ended.
    fn answer_all(calls: &OwnedFd) {
        loop {
            let mut watched = [PollFd::new(calls, PollFlags::IN)];
            if poll(&mut watched, None).is_err() || watched[0].revents().contains(PollFlags::HUP) {
                return;
            }
            match next_call(calls) {
                // mkdir and mkdirat.
                Ok(call) if [83, 258].contains(&call.number) => {
                    // A caller that was killed needs no answer.
                    let _ = answer(calls, &call, Answer::Fail(Errno::NOTTY));
                }
                Ok(call) => drop(answer(calls, &call, Answer::Continue)),
                Err(Errno::NOENT | Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    fn state(self) -> Result<Value> {
        self.0.join().map_err(|_| anyhow::anyhow!("the agent has panicked"))?
    }
}

/// A bundle whose calls `names` are handed over to the bundle's socket `agent`.
fn notifying(arguments: &[&str], names: Value) -> Result<Bundle> {
    let bundle = Bundle::new(arguments)?;
    let path = bundle.path("agent");
    bundle.change(|config| {
        config["annotations"] = json!({"key": "value"});
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
            "listenerPath": path,
            "listenerMetadata": "my metadata",
            "syscalls": [{"names": names, "action": "SCMP_ACT_NOTIFY"}],
        });
    })?;
    Ok(bundle)
}

const MKDIR: &[&str] = &["sh", "-c", "mkdir /dev/shm/a 2>&1 | grep -c 'Inappropriate ioctl'"];

/// Shows: config-linux/seccomp-3, config-linux/seccomp-6
#[test]
fn a_listener_answers_for_the_container() -> Result<()> {
    for no_new_privileges in [true, false] {
        let bundle = notifying(MKDIR, json!(["mkdir", "mkdirat"]))?;
        bundle.change(|config| config["process"]["noNewPrivileges"] = json!(no_new_privileges))?;
        let agent = Agent::listen(&bundle, 1)?;
        bundle.create()?;
        let state = agent.state()?;
        let pid = bundle.pid()?;
        assert_eq!(state["ociVersion"], "1.3.0");
        assert_eq!(state["fds"], json!(["seccompFd"]));
        assert_eq!(state["pid"], pid);
        assert_eq!(state["metadata"], "my metadata");
        assert_eq!(
            state["state"],
            json!({
                "ociVersion": "1.3.0", "id": bundle.id(), "status": "creating", "pid": pid,
                "bundle": bundle.shown(), "annotations": {"key": "value"},
            })
        );
        bundle.ok(&["start", bundle.id()])?;
        bundle.wait_for("stopped")?;
        assert_eq!(bundle.said()?, "1\n");
        bundle.leave_nothing()?;
    }
    Ok(())
}

#[test]
fn a_listener_answers_what_the_runtime_itself_calls() -> Result<()> {
    let names = json!([
        "mkdir", "mkdirat", "execve", "openat", "open", "read", "close", "prctl", "sendmsg"
    ]);
    for no_new_privileges in [true, false] {
        let bundle = notifying(MKDIR, names.clone())?;
        bundle.change(|config| config["process"]["noNewPrivileges"] = json!(no_new_privileges))?;
        let agent = Agent::listen(&bundle, 1)?;
        let output = bundle.run()?;
        assert_eq!(output.stdout, "1\n", "{output:?}");
        agent.state()?;
        bundle.nothing_left()?;
    }
    Ok(())
}

#[test]
fn a_listener_answers_for_an_exec() -> Result<()> {
    let bundle = notifying(&["sleep", "100"], json!(["mkdir", "mkdirat"]))?;
    let agent = Agent::listen(&bundle, 2)?;
    bundle.start()?;
    let output = bundle.exec(MKDIR)?;
    assert_eq!(output.stdout, "1\n", "{output:?}");
    let state = agent.state()?;
    assert_eq!(state["state"]["status"], "running");
    assert_eq!(state["state"]["pid"], bundle.pid()?);
    assert_ne!(state["pid"], state["state"]["pid"]);
    bundle.leave_nothing()
}

/// Shows: config-linux/seccomp-4
#[test]
fn a_listener_that_is_not_there_is_told() -> Result<()> {
    let bundle = notifying(MKDIR, json!(["mkdir"]))?;
    let output = bundle.run()?;
    ensure!(output.code == 1, "{output:?}");
    ensure!(output.stderr.contains("cannot hand the seccomp listener to"), "{output:?}");
    bundle.nothing_left()
}

#[test]
fn a_listener_without_calls_for_it_is_not_asked() -> Result<()> {
    let bundle = notifying(&["echo", "up"], json!(["mkdir"]))?;
    bundle.change(|config| config["linux"]["seccomp"]["syscalls"] = json!([]))?;
    assert_eq!(bundle.run()?.ok()?, "up");
    bundle.nothing_left()
}
