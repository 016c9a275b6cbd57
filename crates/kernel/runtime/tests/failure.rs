//! Starts that fail: in known words, and without a trace.

#![allow(clippy::unwrap_used)]

mod stage;

use std::fs;

use serde_json::json;
use stage::Stage;

fn command(arguments: &[&str]) -> Stage {
    Stage::new("").set("/process/args", json!(arguments))
}

#[test]
fn commands_that_cannot_be() {
    for (name, code, message) in [
        ("nosuch", 127, "exec: \"nosuch\": executable file not found in $PATH"),
        ("/x", 127, "exec: \"/x\": stat /x: no such file or directory"),
        ("/etc/group", 126, "exec: \"/etc/group\": permission denied"),
        ("/bin", 126, "exec: \"/bin\": is a directory"),
    ] {
        let error = command(&[name]).try_run().err().unwrap();
        assert_eq!((error.exit_code(), error.message(), error.step()), (code, message, "exec"));
    }
}

#[test]
fn what_the_kernel_does_not_execute() {
    use std::os::unix::fs::PermissionsExt;
    for (content, code, message) in [
        ("#!/no/such/interpreter\n", 127, "exec /file: no such file or directory"),
        ("\x7fELF nonsense", 126, "exec /file: exec format error"),
    ] {
        let stage = command(&["/file"]);
        fs::write(stage.image("file"), content).unwrap();
        fs::set_permissions(stage.image("file"), fs::Permissions::from_mode(0o755)).unwrap();
        let error = stage.try_run().err().unwrap();
        assert_eq!((error.exit_code(), error.message()), (code, message));
        assert!(dhow_error::Classify::hint(&error).is_some());
    }
}

#[test]
fn a_failed_start_leaves_nothing() {
    let mounts = stage::host_mounts();
    let before = stage::children();
    for stage in [
        command(&["nosuch"]),
        Stage::new("true").mount("tmpfs", "tmpfs", "/x", &["nonsense=1"]),
        Stage::new("true").mount("bind", "/no/such", "/x", &["rbind"]),
        Stage::new("true").set("/linux/resources/cpu", json!({ "cpus": "4000" })),
        Stage::new("true").set("/process/cwd", json!("/bin/sh")),
    ] {
        assert!(stage.try_run().is_err());
        assert!(!stage.cgroup_exists(), "{}", stage.cgroup);
        assert!(!stage.image("x").exists());
    }
    assert_eq!(stage::host_mounts(), mounts);
    assert_eq!(stage::children(), before);
}

#[test]
fn too_little_memory_to_start_is_said() {
    let stage =
        Stage::new("true").set("/linux/resources/memory", json!({ "limit": 4096, "swap": 4096 }));
    if let Err(error) = stage.try_run() {
        assert_eq!(error.exit_code(), 125, "{error}");
    }
    assert!(!stage::children().contains("dead"));
}

#[test]
fn what_is_not_offered_is_refused() {
    for (pointer, value) in [
        ("/process/apparmorProfile", json!("docker-default")),
        ("/process/selinuxLabel", json!("a:b:c")),
        ("/linux/namespaces", json!([{ "type": "mount" }, { "type": "user" }])),
        ("/linux/namespaces", json!([{ "type": "pid" }])),
        ("/process/cwd", json!("relative")),
        ("/process/args", json!([])),
    ] {
        let error = Stage::new("true").set(pointer, value).try_run().err().unwrap();
        assert_eq!(error.exit_code(), 125, "{pointer}: {error}");
    }
}
