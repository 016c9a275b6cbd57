//! What a container can reach of the runtime: never the binary on the host (CVE-2019-5736).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::Result;
use dhow_tests::bundle::Bundle;
use dhow_tests::daemon;
use serde_json::{Value, json};

/// Whether the program of a process is the binary under test.
fn is_ours(pid: i64) -> Result<bool> {
    let identity = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    let theirs = identity(Path::new(&format!("/proc/{pid}/exe")))?;
    Ok(theirs == identity(&daemon::binary()?)?)
}

/// Settings with which the springboard is not enough.
fn sealed(config: &mut Value) {
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["execveat"], "action": "SCMP_ACT_ERRNO"}],
    });
}

#[test]
fn cve_2019_5736_who_waits_at_the_gate_is_not_the_binary() -> Result<()> {
    for change in [|_: &mut Value| {}, sealed] {
        let bundle = Bundle::new(&["sleep", "1000"])?;
        bundle.change(change)?;
        bundle.create()?;
        assert!(!is_ours(bundle.pid()?)?);
        bundle.ok(&["start", bundle.id()])?;
        bundle.wait_for("running")?;
        assert!(!is_ours(bundle.pid()?)?);
        bundle.leave_nothing()?;
    }
    Ok(())
}

#[test]
fn cve_2019_5736_the_runtime_cannot_be_executed_by_a_script() -> Result<()> {
    let before = fs::read(daemon::binary()?)?;
    for change in [|_: &mut Value| {}, sealed] {
        let bundle = Bundle::new(&["sleep", "1000"])?;
        bundle.change(change)?;
        let script = bundle.path("rootfs/bin/script");
        fs::write(&script, "#!/proc/self/exe\n")?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        bundle.start()?;
        for command in ["script", "/proc/self/exe"] {
            // It may fail or not: what it executes is a sealed view.
            bundle.exec(&[command, "--version"])?;
        }
        let look = "for exe in /proc/[0-9]*/exe; do readlink $exe; (echo x >>$exe) 2>/dev/null; done; true";
        let said = bundle.exec(&["sh", "-c", look])?.ok()?;
        assert!(!said.contains("dhow"), "{said}");
        bundle.leave_nothing()?;
    }
    assert!(fs::read(daemon::binary()?)? == before, "the binary has been written to");
    Ok(())
}

#[test]
fn a_command_that_cannot_be_executed_is_told() -> Result<()> {
    for change in [|_: &mut Value| {}, sealed] {
        let bundle = Bundle::new(&["/bin/strange"])?;
        bundle.change(change)?;
        let strange = bundle.path("rootfs/bin/strange");
        fs::write(&strange, "#!/no/such/interpreter\n")?;
        fs::set_permissions(&strange, fs::Permissions::from_mode(0o755))?;
        let output = bundle.run()?;
        assert_eq!(output.code, 1, "{output:?}");
        assert!(
            output.stderr.contains("exec /bin/strange: no such file or directory"),
            "{output:?}"
        );
        bundle.create()?;
        let output = bundle.oci(&["start", bundle.id()])?;
        assert_ne!(output.code, 0);
        assert!(
            output.stderr.contains("exec /bin/strange: no such file or directory"),
            "{output:?}"
        );
        bundle.ok(&["delete", "--force", bundle.id()])?;
        bundle.args(&["sleep", "1000"])?;
        bundle.start()?;
        let output = bundle.exec(&["/bin/strange"])?;
        assert_eq!(output.code, 255, "{output:?}");
        assert!(
            output.stderr.contains("exec /bin/strange: no such file or directory"),
            "{output:?}"
        );
        bundle.leave_nothing()?;
    }
    Ok(())
}

#[test]
fn an_exec_without_a_pid_namespace_works() -> Result<()> {
    let bundle = Bundle::new(&["sleep", "1000"])?;
    bundle.change(|config| {
        if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
            namespaces.retain(|entry| entry["type"] != "pid");
        }
    })?;
    bundle.start()?;
    assert!(!is_ours(bundle.pid()?)?);
    assert_eq!(bundle.exec(&["echo", "in"])?.ok()?, "in");
    bundle.leave_nothing()
}
