//! A container's life from create to delete, and what is told of it on the way.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use dhow_tests::Bundle;
use dhow_tests::bundle::eventually;
use serde_json::json;

/// What the container runs until somebody ends it.
const FOREVER: &[&str] = &["sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 1; done"];

/// The command must fail with code 1 and say that.
fn refused(bundle: &Bundle, arguments: &[&str], said: &str) -> Result<()> {
    let output = bundle.oci(arguments)?;
    let words = arguments.join(" ");
    ensure!(output.code == 1 && output.stderr.contains(said), "{words}: {output:?}");
    Ok(())
}

fn until_up(bundle: &Bundle) -> Result<()> {
    eventually("up", || Ok(bundle.said()?.contains("up\n")))
}

/// Shows: runtime/scope-1, runtime/state-1, runtime/state-3, runtime/state-4, runtime/lifecycle-2
/// Shows: runtime/lifecycle-8, runtime/operations-1
#[test]
fn a_container_goes_through_its_statuses() -> Result<()> {
    let bundle = Bundle::new(FOREVER)?;
    bundle.change(|config| config["annotations"] = json!({ "org.example": "a b" }))?;
    let id = bundle.id();
    bundle.create()?;
    let state = bundle.state()?;
    assert_eq!(state["ociVersion"], "1.3.0");
    assert_eq!((&state["id"], &state["status"]), (&json!(id), &json!("created")));
    assert_eq!(state["bundle"], json!(bundle.shown()));
    assert_eq!(state["rootfs"], json!(bundle.path("rootfs")));
    assert_eq!(state["annotations"], json!({ "org.example": "a b" }));
    assert_eq!(state["owner"], "root");
    assert!(state["created"].as_str().is_some_and(|time| time.ends_with('Z')), "{state}");
    assert_eq!(bundle.said()?, "", "nothing of it runs yet");
    bundle.ok(&["start", id])?;
    until_up(&bundle)?;
    assert_eq!(bundle.state()?["status"], "running");
    assert_eq!(bundle.state()?["pid"], state["pid"], "one process from create on");
    bundle.ok(&["pause", id])?;
    assert_eq!(bundle.state()?["status"], "paused");
    bundle.ok(&["resume", id])?;
    assert_eq!(bundle.state()?["status"], "running");
    bundle.ok(&["kill", id])?;
    bundle.wait_for("stopped")?;
    assert_eq!(bundle.pid()?, 0);
    bundle.ok(&["delete", id])?;
    refused(&bundle, &["state", id], "container does not exist")?;
    bundle.nothing_left()
}

/// Shows: runtime/state-2, runtime/query-1, runtime/query-2, runtime/start-1, runtime/start-2
/// Shows: runtime/kill-1, runtime/kill-2, runtime/delete-1, runtime/delete-2
#[test]
fn what_a_status_does_not_allow_is_refused() -> Result<()> {
    let bundle = Bundle::new(FOREVER)?;
    let id = bundle.id();
    for command in ["state", "start", "kill", "delete", "pause", "resume", "ps"] {
        refused(&bundle, &[command, id], "container does not exist")?;
        refused(&bundle, &[command], "requires ")?;
    }
    bundle.ok(&["delete", "--force", id])?;
    bundle.create()?;
    refused(&bundle, &["create", "-b", &bundle.shown(), id], "ID already exists")?;
    refused(&bundle, &["resume", id], "container not paused")?;
    bundle.ok(&["start", id])?;
    refused(&bundle, &["start", id], "cannot start an already running container")?;
    let running = format!("cannot delete container {id} that is not stopped: running");
    refused(&bundle, &["delete", id], &running)?;
    refused(&bundle, &["kill", id, "NOPE"], "unknown signal")?;
    bundle.ok(&["kill", id, "SIGKILL"])?;
    bundle.wait_for("stopped")?;
    for command in ["kill", "pause"] {
        refused(&bundle, &[command, id], "container not running")?;
    }
    refused(&bundle, &["start", id], "cannot start a container that has stopped")?;
    bundle.ok(&["kill", "--all", id, "9"])?;
    bundle.leave_nothing()
}

#[test]
fn a_paused_container_dies_of_sigkill() -> Result<()> {
    let bundle = Bundle::new(FOREVER)?;
    bundle.start()?;
    bundle.ok(&["pause", bundle.id()])?;
    bundle.ok(&["kill", bundle.id(), "KILL"])?;
    bundle.wait_for("stopped")?;
    bundle.leave_nothing()
}

#[test]
fn a_created_container_is_deleted_without_force() -> Result<()> {
    let bundle = Bundle::new(FOREVER)?;
    bundle.create()?;
    bundle.ok(&["delete", bundle.id()])?;
    bundle.nothing_left()
}

/// Shows: runtime/lifecycle-1, runtime/errors-1
#[test]
fn a_command_that_is_not_there_fails_the_create() -> Result<()> {
    let bundle = Bundle::new(&["nosuch"])?;
    let said = r#"exec: \"nosuch\": executable file not found in $PATH"#;
    refused(&bundle, &["create", "-b", &bundle.shown(), bundle.id()], said)?;
    bundle.nothing_left()
}

#[test]
fn a_command_that_cannot_be_executed_fails_the_start() -> Result<()> {
    let bundle = Bundle::new(&["/script"])?;
    let script = bundle.path("rootfs/script");
    fs::write(&script, "#!/no/such/interpreter\n")?;
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    bundle.create()?;
    refused(&bundle, &["start", bundle.id()], "exec /script: no such file or directory")?;
    bundle.wait_for("stopped")?;
    bundle.leave_nothing()
}

#[test]
fn what_waits_at_the_gate_is_no_way_out() -> Result<()> {
    let bundle = Bundle::new(FOREVER)?;
    bundle.create()?;
    let pid = bundle.pid()?;
    let mut open = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        open.push(fs::read_link(entry?.path())?.to_string_lossy().into_owned());
    }
    open.sort();
    let gate = bundle.path("state").join(bundle.id()).join("exec.fifo");
    let files = [gate, bundle.path("stderr"), bundle.path("stdout")];
    let mut expected = vec!["/dev/null".to_owned()];
    expected.extend(files.map(|path| path.to_string_lossy().into_owned()));
    expected.sort();
    assert_eq!(open, expected, "its streams and the gate");
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd"))?, Path::new("/"));
    bundle.leave_nothing()
}

#[test]
fn a_detached_container_stays() -> Result<()> {
    let bundle = Bundle::new(FOREVER)?;
    let file = bundle.path("pid").to_string_lossy().into_owned();
    let arguments = ["run", "-d", "--pid-file", &file, "-b", &bundle.shown(), bundle.id()];
    bundle.detached(&arguments)?.ok()?;
    until_up(&bundle)?;
    assert_eq!(fs::read_to_string(&file)?, bundle.pid()?.to_string());
    assert!(bundle.state()?["status"] == "running");
    bundle.leave_nothing()
}

/// Shows: runtime/kill-3
#[test]
fn signals_reach_the_container_in_the_foreground() -> Result<()> {
    use dhow_sys::rustix::process::{Pid, Signal, kill_process};
    let bundle = Bundle::new(FOREVER)?;
    let mut command = bundle.command(&["run", "--keep", "-b", &bundle.shown(), bundle.id()])?;
    let mut run = command.stdout(fs::File::create(bundle.path("stdout"))?).spawn()?;
    until_up(&bundle)?;
    let pid = Pid::from_raw(run.id().cast_signed()).context("no pid")?;
    kill_process(pid, Signal::TERM)?;
    assert_eq!(run.wait()?.code(), Some(7));
    assert_eq!(bundle.state()?["status"], "stopped", "it is kept");
    bundle.leave_nothing()
}

#[test]
fn the_code_of_a_signal_is_that_of_a_shell() -> Result<()> {
    let bundle = Bundle::new(&["sh", "-c", "kill -KILL $$; sleep 9"])?;
    bundle.change(|config| {
        // The first process of a pid namespace cannot kill itself.
        if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
            namespaces.retain(|namespace| namespace["type"] != "pid");
        }
    })?;
    assert_eq!(bundle.run()?.code, 137);
    bundle.nothing_left()
}

#[test]
fn failures_are_logged_in_the_form_asked_for() -> Result<()> {
    let bundle = Bundle::new(FOREVER)?;
    let log = bundle.path("log").to_string_lossy().into_owned();
    let said = "container does not exist";
    for (format, begins) in [("json", "{\"level\":\"error\",\"msg\":"), ("text", "time=\"20")] {
        let output = bundle.oci(&["--log", &log, "--log-format", format, "state", "nosuch"])?;
        assert_eq!((output.code, output.stderr.as_str()), (1, "container does not exist\n"));
        let text = fs::read_to_string(&log)?;
        let line = text.lines().last().context("an empty log")?;
        assert!(line.starts_with(begins) && line.contains(said), "{line}");
    }
    let output = bundle.oci(&["state", "nosuch"])?;
    assert!(output.stderr.contains("level=error msg=\"container does not exist\""), "{output:?}");
    refused(&bundle, &["--log-format", "xml", "list"], "invalid log-format: xml")?;
    refused(&bundle, &["--systemd-cgroup", "list"], "systemd cgroup driver is not there")?;
    for command in ["checkpoint", "restore"] {
        refused(&bundle, &[command, "x"], "is not there yet")?;
    }
    bundle.nothing_left()
}

#[test]
fn all_containers_are_listed() -> Result<()> {
    let bundle = Bundle::new(FOREVER)?;
    assert_eq!(bundle.ok(&["list", "-q"])?, "");
    bundle.create()?;
    assert_eq!(bundle.ok(&["list", "-q"])?, bundle.id());
    let listed: serde_json::Value = serde_json::from_str(&bundle.ok(&["list", "--format=json"])?)?;
    assert_eq!(listed, json!([bundle.state()?]));
    let table = bundle.ok(&["list"])?;
    let words: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!(words[1][..3], [bundle.id(), &bundle.pid()?.to_string(), "created"]);
    refused(&bundle, &["list", "--format", "xml"], "invalid format option")?;
    bundle.leave_nothing()
}

#[test]
fn the_processes_of_a_container_are_told() -> Result<()> {
    let bundle = Bundle::new(&["sh", "-c", "sleep 1000 & echo up; wait"])?;
    bundle.start()?;
    until_up(&bundle)?;
    let pids: Vec<i64> = serde_json::from_str(&bundle.ok(&["ps", "-f", "json", bundle.id()])?)?;
    assert_eq!((pids.len(), pids[0]), (2, bundle.pid()?));
    let table = bundle.ok(&["ps", bundle.id()])?;
    assert!(table.starts_with("UID ") && table.contains("sleep 1000"), "{table}");
    bundle.leave_nothing()
}

#[test]
fn descriptors_are_handed_on_and_no_others() -> Result<()> {
    let bundle = Bundle::new(&["sh", "-c", "cat <&3; exec ls /proc/self/fd"])?;
    fs::write(bundle.path("given"), "given\n")?;
    let run = ["run", "--preserve-fds", "1", "-b", &bundle.shown(), bundle.id()];
    let mut shell = dhow_tests::daemon::command(Path::new("/bin/sh"));
    let command = bundle.command(&run)?;
    shell.args(["-c", "exec \"$@\" 3<given 4<given", "sh"]).current_dir(bundle.path(""));
    shell.arg(command.get_program()).args(command.get_args());
    let output = dhow_tests::daemon::finish(shell.stdin(std::process::Stdio::null()))?;
    // The fifth is that with which it lists them.
    assert_eq!((output.code, output.stdout.as_str()), (0, "given\n0\n1\n2\n3\n4\n"), "{output:?}");
    refused(&bundle, &run, "unable to stat preserved-fd 0 (of 1)")?;
    bundle.nothing_left()
}

#[test]
fn a_config_that_is_a_symlink_to_nowhere_is_told() -> Result<()> {
    let bundle = Bundle::new(FOREVER)?;
    fs::remove_file(bundle.path("config.json"))?;
    symlink("/no/such", bundle.path("config.json"))?;
    refused(&bundle, &["create", "-b", &bundle.shown(), bundle.id()], "config.json")?;
    bundle.nothing_left()
}
