//! `run`: what a command gets, what comes back of it.

use anyhow::Result;
use dhow_tests::{Daemon, images};

#[test]
fn output_and_exit_code_are_the_commands() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let script = "echo out; echo err >&2; exit 7";
    let output = daemon.dhow(&["run", "--rm", "busybox", "sh", "-c", script])?;
    assert_eq!(
        (output.code, output.stdout.as_str(), output.stderr.as_str()),
        (7, "out\n", "err\n")
    );
    let killed = daemon.dhow(&["run", "--rm", "busybox", "sh", "-c", "kill -9 $$"])?;
    // pid 1 of a namespace cannot kill itself: it goes on, and the shell ends with 0.
    assert_eq!(killed.code, 0);
    let child =
        daemon.dhow(&["run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"])?;
    assert_eq!(child.code, 137);
    daemon.leave_nothing()
}

#[test]
fn commands_that_cannot_start_have_their_own_codes() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let missing = daemon.dhow(&["run", "--rm", "busybox", "nosuch"])?;
    assert_eq!(missing.code, 127, "{}", missing.stderr);
    assert!(missing.stderr.contains("nosuch"), "{}", missing.stderr);
    assert!(missing.stderr.contains("not found"), "{}", missing.stderr);
    let path = daemon.dhow(&["run", "--rm", "busybox", "/no/such"])?;
    assert_eq!(path.code, 127, "{}", path.stderr);
    assert!(path.stderr.contains("/no/such"), "{}", path.stderr);
    let folder = daemon.dhow(&["run", "--rm", "busybox", "/etc/passwd"])?;
    assert_eq!(folder.code, 126, "{}", folder.stderr);
    assert!(folder.stderr.to_lowercase().contains("permission denied"), "{}", folder.stderr);
    assert_eq!(daemon.ok(&["ps", "-aq"])?, "", "--rm removes what could not start");
    daemon.leave_nothing()
}

#[test]
fn flags_shape_the_process() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let file = images::file(daemon.folder(), "env", b"# a comment\nC=from file\n")?;
    let show = "echo $A $C; pwd; id -u; id -g; hostname";
    let said = daemon.ok(&[
        "run",
        "--rm",
        "-e",
        "A=b",
        "--env-file",
        &file,
        "-w",
        "/tmp",
        "-u",
        "plain",
        "--hostname",
        "here",
        "busybox",
        "sh",
        "-c",
        show,
    ])?;
    assert_eq!(said, "b from file\n/tmp\n1000\n1000\nhere");
    let numeric =
        daemon.ok(&["run", "--rm", "-u", "7:8", "busybox", "sh", "-c", "id -u; id -g"])?;
    assert_eq!(numeric, "7\n8");
    let groups = daemon.ok(&["run", "--rm", "-u", "plain", "busybox", "id", "-G"])?;
    assert_eq!(groups, "1000 2000");
    let added = ["run", "--rm", "--group-add", "2000", "busybox", "id", "-G"];
    assert_eq!(daemon.ok(&added)?, "0 2000", "root keeps its own group");
    let entry = daemon.ok(&["run", "--rm", "--entrypoint", "echo", "busybox", "-n", "x"])?;
    assert_eq!(entry, "x");
    let made = daemon.ok(&["run", "--rm", "-w", "/made/here", "busybox", "pwd"])?;
    assert_eq!(made, "/made/here");
    daemon.leave_nothing()
}

#[test]
fn input_reaches_the_command_and_ends() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let input: Vec<u8> = (0..300_000_u32).flat_map(|it| format!("{it}\n").into_bytes()).collect();
    let output = daemon.dhow_fed(&["run", "--rm", "-i", "busybox", "cat"], &input)?;
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(output.stdout.as_bytes() == input, "{} of {} bytes", output.stdout.len(), input.len());
    let ignored = daemon.dhow_fed(&["run", "--rm", "busybox", "cat"], b"not wanted")?;
    assert_eq!((ignored.code, ignored.stdout.as_str()), (0, ""));
    daemon.leave_nothing()
}

#[test]
fn much_output_arrives_whole() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let output = daemon.dhow(&["run", "--rm", "busybox", "seq", "1", "400000"])?;
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert_eq!(output.stdout.lines().count(), 400_000);
    assert!(output.stdout.ends_with("\n400000\n"));
    daemon.leave_nothing()
}

#[test]
fn ids_are_written_and_names_are_unique() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let cidfile = daemon.folder().join("cid");
    let cid = cidfile.to_string_lossy();
    let run = ["run", "-d", "--name", "one", "--cidfile", &cid, "busybox", "sleep", "100"];
    let id = daemon.ok(&run)?;
    assert_eq!(std::fs::read_to_string(&cidfile)?, id);
    assert_eq!(id.len(), 64);
    let again = daemon.dhow(&["run", "-d", "--name", "one", "busybox", "true"])?;
    assert_eq!(again.code, 125);
    assert!(again.stderr.contains("already in use"), "{}", again.stderr);
    let same_file = daemon.dhow(&run)?;
    assert_eq!(same_file.code, 125, "the file is there");
    daemon.leave_nothing()
}

#[test]
fn init_reaps_and_passes_signals_on() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let output =
        daemon.dhow(&["run", "--rm", "--init", "busybox", "sh", "-c", "echo $$; exit 3"])?;
    assert_eq!(output.code, 3, "{}", output.stderr);
    assert_ne!(output.stdout.trim(), "1", "the command is not pid 1");
    daemon.ok(&["run", "-d", "--init", "--name", "sleeper", "busybox", "sleep", "1000"])?;
    daemon.ok(&["stop", "-t", "20", "sleeper"])?;
    let code = daemon.ok(&["inspect", "-f", "{{.State.ExitCode}}", "sleeper"])?;
    assert_eq!(code, "143", "SIGTERM reached it; no waiting, no SIGKILL");
    let missing = daemon.dhow(&["run", "--rm", "--init", "busybox", "nosuch"])?;
    assert_eq!(missing.code, 127, "{}", missing.stderr);
    daemon.leave_nothing()
}
