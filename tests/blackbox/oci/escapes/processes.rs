//! From one process to another: the runtime's own, while it works on a container.

use std::fs;
use std::path::Path;

use anyhow::Result;
use dhow_tests::bundle::eventually;
use dhow_tests::daemon;
use serde_json::json;

use super::Attack;

/// How often somebody joins a container whose first process hunts.
const JOINS: usize = 25;

/// Has processes join a container whose first process looks into each, and says what it found.
fn hunted(more: &[&str], join: &[&str]) -> Result<String> {
    let mut attack = Attack::intruder("hunt", more)?;
    let binary = attack.bundle.copy_binary()?;
    let before = fs::read(&binary)?;
    attack.bundle.start()?;
    for _ in 0..JOINS {
        let joined = attack.bundle.exec(join)?;
        assert!(joined.code == 0 || join != ["true"], "{joined:?}");
    }
    fs::write(attack.bundle.path("rootfs/stop"), "")?;
    attack.bundle.wait_for("stopped")?;
    let found = attack.bundle.said()?;
    assert!(fs::read(&binary)? == before, "the runtime was written to: {found}");
    attack.bundle.ok(&["delete", attack.bundle.id()])?;
    attack.failed()?;
    Ok(found)
}

#[test]
fn cve_2016_9962_a_joining_process_is_out_of_reach() -> Result<()> {
    assert_eq!(hunted(&[], &["true"])?, "");
    Ok(())
}

#[test]
fn cve_2016_9962_a_joining_process_is_out_of_a_tracers_reach() -> Result<()> {
    assert_eq!(hunted(&["CAP_SYS_PTRACE"], &["true"])?, "");
    Ok(())
}

/// An image's program that is whoever executes it, and a hunter beside it.
#[test]
fn cve_2019_5736_exec_of_the_runtime_itself() -> Result<()> {
    assert_eq!(hunted(&["CAP_SYS_PTRACE"], &["/proc/self/exe", "--version"])?, "");
    Ok(())
}

#[test]
fn cve_2019_5736_run_of_the_runtime_itself() -> Result<()> {
    let mut attack = Attack::new(&["/proc/self/exe", "--version"])?;
    let binary = attack.bundle.copy_binary()?;
    let before = fs::read(&binary)?;
    attack.bundle.run()?;
    // A script whose interpreter is whoever executes it.
    let script = attack.bundle.path("rootfs/bin/script");
    fs::write(&script, "#!/proc/self/exe\n")?;
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    attack.bundle.args(&["/bin/script"])?;
    // It may execute itself for ever.
    attack.bundle.start()?;
    attack.bundle.ok(&["delete", "--force", attack.bundle.id()])?;
    assert!(fs::read(&binary)? == before, "the runtime was written to");
    attack.failed()
}

/// The process that waits for `start` is ours, and in the container.
#[test]
fn cve_2019_5736_a_waiting_process_cannot_be_written_to() -> Result<()> {
    let mut attack = Attack::new(&["true"])?;
    attack.bring_intruder()?;
    let binary = attack.bundle.copy_binary()?;
    let before = fs::read(&binary)?;
    attack.bundle.create()?;
    let secret = attack.secret.to_string_lossy().into_owned();
    let secret = secret.as_str();
    let id = attack.bundle.id().to_owned();
    let exec = ["exec", "--detach", "--cap", "CAP_SYS_PTRACE", &id, "/intruder", "hunt", secret];
    attack.bundle.detached(&exec)?.ok()?;
    // It has looked around when it can be seen to have ended.
    fs::write(attack.bundle.path("rootfs/stop"), "")?;
    eventually("the hunter's end", || {
        let ps = attack.bundle.oci(&["ps", &id])?;
        Ok(!ps.stdout.contains("hunt"))
    })?;
    let found = attack.bundle.said()?;
    attack.bundle.ok(&["delete", "--force", &id])?;
    assert!(fs::read(&binary)? == before, "the runtime was written to: {found}");
    assert_eq!(found, "");
    attack.failed()
}

/// What the caller forgot to close is not the container's.
#[test]
fn cve_2024_21626_nothing_is_leaked() -> Result<()> {
    let attack = Attack::intruder("escape", &[])?;
    let state = attack.bundle.path("state");
    let script = format!(
        "exec 7</ 8<{0} 9</sys/fs/cgroup; exec \"$1\" oci --root {1} run --bundle {0} {2}",
        attack.bundle.shown(),
        state.display(),
        attack.bundle.id()
    );
    let run = || -> Result<_> {
        let mut shell = daemon::command(Path::new("sh"));
        shell.args(["-c", &script, "sh"]).arg(daemon::binary()?);
        daemon::finish(&mut shell)?.ok()
    };
    assert_eq!(run()?, "");
    attack.bundle.args(&["sh", "-c", "ls /proc/self/fd | tr '\\n' ' '"])?;
    // The last one is the folder that ls reads.
    assert_eq!(run()?, "0 1 2 3 ");
    for number in 3..12 {
        let folder = format!("/proc/self/fd/{number}");
        attack.bundle.change(|config| config["process"]["cwd"] = json!(folder))?;
        assert!(run().is_err(), "{folder}");
    }
    attack.failed()
}

/// Descriptors that are handed on by wish are no way out for the working directory.
#[test]
fn cve_2024_21626_the_working_directory_is_inside() -> Result<()> {
    let attack = Attack::new(&["sleep", "100"])?;
    attack.bundle.start()?;
    for folder in (3..16).map(|number| format!("/proc/self/fd/{number}")).chain([
        "/proc/self/fd/7/../..".to_owned(),
        "/proc/thread-self/fd/8".to_owned(),
        "/proc/1/fd/3".to_owned(),
    ]) {
        let joined = ["exec", "--cwd", &folder, attack.bundle.id(), "ls", "-l", "."];
        let joined = attack.bundle.oci(&joined)?;
        assert_ne!(joined.code, 0, "{folder}: {joined:?}");
    }
    attack.link("bin/work", "/proc/self/fd/7")?;
    let joined = ["exec", "--cwd", "/bin/work", attack.bundle.id(), "ls", "."];
    assert_ne!(attack.bundle.oci(&joined)?.code, 0);
    attack.bundle.ok(&["delete", "--force", attack.bundle.id()])?;
    for folder in (3..12).map(|number| format!("/proc/self/fd/{number}")) {
        attack.bundle.change(|config| config["process"]["cwd"] = json!(folder))?;
        let run = attack.bundle.run()?;
        assert_ne!(run.code, 0, "{folder}: {run:?}");
    }
    attack.failed()
}

#[test]
fn cve_2022_29162_nothing_is_inheritable() -> Result<()> {
    let attack = Attack::new(&["sleep", "100"])?;
    attack.bundle.start()?;
    let id = attack.bundle.id();
    let cat = ["cat", "/proc/self/status"];
    for flags in [&[][..], &["--cap", "CAP_SYS_ADMIN"], &["--cap", "CAP_NET_RAW", "--user", "1000"]]
    {
        let status = attack.bundle.ok(&[&["exec"], flags, &[id], &cat[..]].concat())?;
        assert!(status.contains("CapInh:\t0000000000000000"), "{flags:?}: {status}");
    }
    attack.bundle.ok(&["delete", "--force", id])?;
    attack.bundle.args(&cat)?;
    let status = attack.bundle.run()?.ok()?;
    assert!(status.contains("CapInh:\t0000000000000000"), "{status}");
    attack.failed()
}

#[test]
fn cve_2016_3697_a_number_is_no_name() -> Result<()> {
    let attack = Attack::new(&["sleep", "100"])?;
    fs::write(attack.bundle.path("rootfs/etc/passwd"), "1000:x:0:0::/:/bin/sh\n")?;
    fs::write(attack.bundle.path("rootfs/etc/group"), "1000:x:0:\n")?;
    attack.bundle.start()?;
    let exec = ["exec", "--user", "1000:1000", attack.bundle.id(), "id"];
    assert!(attack.bundle.ok(&exec)?.starts_with("uid=1000"));
    attack.bundle.ok(&["delete", "--force", attack.bundle.id()])?;
    attack.failed()
}

#[test]
fn classics_of_leaving_a_chroot() -> Result<()> {
    for more in [&["CAP_SYS_CHROOT"][..], &["CAP_SYS_CHROOT", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE"]] {
        let attack = Attack::intruder("escape", more)?;
        attack.bundle.change(|config| config["root"]["readonly"] = json!(false))?;
        assert_eq!(attack.bundle.run()?.ok()?, "", "{more:?}");
        attack.failed()?;
    }
    Ok(())
}
