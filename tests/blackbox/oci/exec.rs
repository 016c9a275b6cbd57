//! `exec`: another process in a running container, with all of its flags.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use anyhow::{Context, Result};
use dhow_tests::Output;
use dhow_tests::bundle::{Bundle, eventually};
use dhow_tests::daemon::finish;
use serde_json::json;

/// A container that stays.
fn running() -> Result<Bundle> {
    running_with(|_| {})
}

fn running_with(change: impl FnOnce(&mut serde_json::Value)) -> Result<Bundle> {
    let bundle = Bundle::new(&["sleep", "1000"])?;
    bundle.change(change)?;
    bundle.start()?;
    Ok(bundle)
}

/// `exec` with flags before the id.
fn exec(bundle: &Bundle, flags: &[&str], arguments: &[&str]) -> Result<Output> {
    bundle.oci(&[&["exec"], flags, &[bundle.id()], arguments].concat())
}

fn says(bundle: &Bundle, flags: &[&str], arguments: &[&str]) -> Result<String> {
    exec(bundle, flags, arguments)?.ok().with_context(|| format!("{flags:?} {arguments:?}"))
}

/// A file of the bundle's with a process as JSON.
fn process_file(bundle: &Bundle, process: &serde_json::Value) -> Result<String> {
    let path = bundle.path("process.json");
    fs::write(&path, serde_json::to_vec(process)?)?;
    Ok(path.to_string_lossy().into_owned())
}

#[test]
fn exit_codes_are_the_commands_own_or_255() -> Result<()> {
    let bundle = running()?;
    let code = |flags: &[&str], arguments: &[&str]| {
        Ok::<_, anyhow::Error>({
            let output = exec(&bundle, flags, arguments)?;
            (output.code, output.stderr)
        })
    };
    assert_eq!(code(&[], &["true"])?.0, 0);
    assert_eq!(code(&[], &["sh", "-c", "exit 42"])?.0, 42);
    assert_eq!(code(&[], &["sh", "-c", "kill -9 $$"])?.0, 137);
    let (missing, said) = code(&[], &["no-such-binary"])?;
    assert_eq!(missing, 255);
    assert!(said.contains("\\\"no-such-binary\\\": executable file not found in $PATH"), "{said}");
    assert_eq!(code(&["--pid-file", "/nonexistent/folder/pid"], &["true"])?.0, 255);
    assert_eq!(code(&["--cwd", "relative"], &["true"])?.0, 255);
    assert_eq!(code(&[], &[])?.0, 255, "nothing to run");
    assert_eq!(code(&["--nope"], &["true"])?.0, 1, "a wrong command line");
    assert_eq!(bundle.oci(&["exec", "no_such_container", "true"])?.code, 255);
    bundle.leave_nothing()
}

#[test]
fn it_is_where_the_container_is() -> Result<()> {
    let bundle = running()?;
    let pid = bundle.pid()?;
    let script = "hostname; cat /proc/self/cgroup; readlink /proc/self/ns/net; cat /proc/1/cmdline";
    let said = says(&bundle, &[], &["sh", "-c", script])?;
    let net = fs::read_link(format!("/proc/{pid}/ns/net"))?;
    assert!(said.contains(&*net.to_string_lossy()), "{said}");
    assert!(said.contains("sleep"), "{said}");
    let fds = says(&bundle, &[], &["ls", "/proc/self/fd"])?;
    // The fourth is that of ls.
    assert_eq!(fds.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"], "{fds}");
    bundle.leave_nothing()
}

#[test]
fn flags_change_the_process() -> Result<()> {
    let bundle = running()?;
    assert_eq!(says(&bundle, &["--cwd", "/bin"], &["pwd"])?, "/bin");
    let set = ["--env", "A=b", "-e", "C=d e"];
    assert_eq!(says(&bundle, &set, &["sh", "-c", "echo $A $C"])?, "b d e");
    assert_eq!(says(&bundle, &["-u", "4321"], &["sh", "-uc", "echo $HOME"])?, "/");
    let groups = ["--user", "1000:1001", "--additional-gids", "100", "-g", "65534"];
    assert_eq!(says(&bundle, &groups, &["id", "-G"])?, "1001 100 65534");
    let script = "grep -E '^(CapBnd|CapEff|NoNewPrivs)' /proc/self/status | cut -f2";
    let status = |flags: &[&str]| says(&bundle, flags, &["sh", "-c", script]);
    let (plain, more) = (status(&["--no-new-privs=false"])?, status(&["--cap", "CAP_CHOWN"])?);
    let sets = |text: &str| -> Result<Vec<u64>> {
        text.lines().map(|line| Ok(u64::from_str_radix(line, 16)?)).collect()
    };
    let (plain, more) = (sets(&plain)?, sets(&more)?);
    assert_eq!((plain.first().map(|it| it & 1), more.first().map(|it| it & 1)), (Some(0), Some(1)));
    assert_eq!(more.get(1).map(|it| it & 1), Some(1));
    assert_eq!((plain.get(2), more.get(2)), (Some(&0), Some(&1)), "no_new_privs");
    bundle.leave_nothing()
}

#[test]
fn a_file_says_it_all() -> Result<()> {
    let bundle = running()?;
    let process = json!({
        "args": ["sh", "-c", "id -u; pwd; echo $X; grep NoNewPrivs /proc/self/status | cut -f2"],
        "cwd": "/bin", "env": ["PATH=/bin", "X=y"], "user": {"uid": 7, "gid": 8},
        "noNewPrivileges": true,
    });
    let file = process_file(&bundle, &process)?;
    assert_eq!(says(&bundle, &["--process", &file], &[])?, "7\n/bin\ny\n1");
    let file = process_file(&bundle, &json!({"cwd": "/", "user": {"uid": 0, "gid": 0}}))?;
    let output = exec(&bundle, &["-p", &file], &[])?;
    assert_eq!(output.code, 255);
    assert!(output.stderr.contains("args must not be empty"), "{}", output.stderr);
    fs::write(bundle.path("process.json"), "{\"args\": 5}")?;
    let output = exec(&bundle, &["-p", &file], &[])?;
    assert!(output.code == 255 && output.stderr.contains("malformed"), "{}", output.stderr);
    bundle.leave_nothing()
}

#[test]
fn it_may_go_on_alone() -> Result<()> {
    let bundle = running()?;
    let file = bundle.path("pid");
    let shown = file.to_string_lossy().into_owned();
    let words = ["exec", "--detach", "--pid-file", &shown, bundle.id(), "sleep", "999"];
    bundle.detached(&words)?.ok()?;
    let pid: i64 = fs::read_to_string(&file)?.parse()?;
    assert_ne!(pid, bundle.pid()?);
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
    assert_eq!(command, "sleep\u{0}999\u{0}");
    let own = fs::read_link(format!("/proc/{pid}/exe"))?;
    assert_eq!(own, Path::new("/bin/busybox"));
    bundle.leave_nothing()
}

#[test]
fn a_terminal_is_handed_out() -> Result<()> {
    let bundle = running()?;
    let path = bundle.path("console.sock");
    let listener = UnixListener::bind(&path)?;
    let shown = path.to_string_lossy().into_owned();
    let script = "tty; stty size; read line; echo got $line";
    let process = json!({
        "args": ["sh", "-c", script], "cwd": "/", "env": ["PATH=/bin:/usr/bin"], "terminal": true,
        "user": {"uid": 0, "gid": 0}, "consoleSize": {"height": 31, "width": 77},
    });
    let file = process_file(&bundle, &process)?;
    let words = ["exec", "-d", "--console-socket", &shown, "--process", &file, bundle.id()];
    bundle.detached(&words)?.ok()?;
    let (stream, _) = listener.accept()?;
    let master = dhow_tests::terminal::receive(&stream)?;
    let said = dhow_tests::terminal::converse(master, b"x\n", "got x")?;
    assert!(said.contains("/dev/pts/0") && said.contains("31 77"), "{said}");
    let without = exec(&bundle, &["-d", "-t"], &["true"])?;
    assert_eq!(without.code, 255, "nobody would see the terminal");
    bundle.leave_nothing()
}

#[test]
fn a_pid_descriptor_is_handed_out() -> Result<()> {
    let bundle = running()?;
    let path = bundle.path("pidfd.sock");
    let listener = UnixListener::bind(&path)?;
    let (socket, file) = (path.to_string_lossy().into_owned(), bundle.path("pid"));
    let shown = file.to_string_lossy().into_owned();
    let flags = ["exec", "-d", "--pidfd-socket", &socket, "--pid-file", &shown];
    bundle.detached(&[&flags, &[bundle.id(), "sleep", "999"][..]].concat())?.ok()?;
    let (stream, _) = listener.accept()?;
    let process: OwnedFd = dhow_tests::terminal::receive(&stream)?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&process);
    let known = fs::read_to_string(format!("/proc/self/fdinfo/{number}"))?;
    let pid = fs::read_to_string(&file)?;
    assert!(known.contains(&format!("Pid:\t{pid}\n")), "{known}");
    bundle.leave_nothing()
}

#[test]
fn descriptors_are_preserved() -> Result<()> {
    let bundle = running()?;
    fs::write(bundle.path("hello"), "hello")?;
    let script = "exec 3</dev/null 4<\"$1\"; shift; exec \"$@\"";
    let oci =
        bundle.command(&["exec", "--preserve-fds=2", bundle.id(), "cat", "/proc/self/fd/4"])?;
    let mut shell = dhow_tests::daemon::command(Path::new("/bin/sh"));
    shell.args(["-c", script, "sh"]).arg(bundle.path("hello")).arg(oci.get_program());
    shell.args(oci.get_args()).stdin(std::process::Stdio::null());
    assert_eq!(finish(&mut shell)?.ok()?, "hello");
    let output = exec(&bundle, &["--preserve-fds=9"], &["true"])?;
    assert_eq!(output.code, 255, "they are not open");
    bundle.leave_nothing()
}

#[test]
fn a_paused_container_is_left_alone() -> Result<()> {
    let bundle = running()?;
    bundle.ok(&["pause", bundle.id()])?;
    let output = bundle.exec(&["true"])?;
    assert_eq!(output.code, 255);
    assert!(output.stderr.contains("cannot exec in a paused container"), "{}", output.stderr);
    let mut waits = bundle.command(&["exec", "--ignore-paused", bundle.id(), "echo", "ok"])?;
    let waits = waits.stdout(std::process::Stdio::piped()).spawn()?;
    bundle.ok(&["resume", bundle.id()])?;
    let output = waits.wait_with_output()?;
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"ok\n"[..]));
    bundle.leave_nothing()
}

#[test]
fn a_stopped_container_takes_nothing() -> Result<()> {
    let bundle = running()?;
    bundle.ok(&["kill", bundle.id(), "KILL"])?;
    bundle.wait_for("stopped")?;
    let output = bundle.exec(&["true"])?;
    assert_eq!(output.code, 255);
    assert!(output.stderr.contains("cannot exec in a stopped container"), "{}", output.stderr);
    bundle.leave_nothing()
}

#[test]
fn a_created_container_can_be_looked_into() -> Result<()> {
    let bundle = Bundle::new(&["sleep", "1000"])?;
    bundle.create()?;
    assert_eq!(bundle.exec(&["echo", "in"])?.ok()?, "in");
    assert_eq!(bundle.state()?["status"], "created");
    bundle.leave_nothing()
}

#[test]
fn groups_below_the_containers_are_joined() -> Result<()> {
    let bundle = running()?;
    let refused = |given: &[&str], why: &str| -> Result<()> {
        let flags: Vec<_> = given.iter().flat_map(|it| ["--cgroup", it]).collect();
        let output = exec(&bundle, &flags, &["true"])?;
        assert_eq!(output.code, 255, "{given:?}");
        assert!(output.stderr.contains(why), "{given:?}: {}", output.stderr);
        Ok(())
    };
    refused(&[".."], "bad sub cgroup path")?;
    refused(&["nonexistent"], "no such file or directory")?;
    let own = says(&bundle, &["--cgroup", "/"], &["cat", "/proc/self/cgroup"])?;
    assert!(own.lines().all(|line| line.ends_with(":/")), "{own}");
    if !Path::new("/sys/fs/cgroup/memory").exists() {
        return bundle.leave_nothing();
    }
    refused(&["whaaat:/"], "unknown controller")?;
    refused(&["memory:nonexistent"], "no such file or directory")?;
    refused(&["memory:/", "memory:/"], "named twice")?;
    let inner = format!("/sys/fs/cgroup/memory{}/inner", bundle.cgroup());
    fs::create_dir(&inner)?;
    let said = says(&bundle, &["--cgroup", "memory:inner"], &["cat", "/proc/self/cgroup"])?;
    assert!(said.contains(":memory:/inner\n"), "{said}");
    assert!(said.contains(":pids:/\n"), "{said}");
    bundle.leave_nothing()
}

#[test]
fn a_user_namespace_is_joined() -> Result<()> {
    let bundle = running_with(|config| {
        let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        config["linux"]["uidMappings"] = mapping.clone();
        config["linux"]["gidMappings"] = mapping;
        if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
            namespaces.push(json!({"type": "user"}));
        }
    })?;
    let pid = bundle.pid()?;
    let theirs = fs::read_link(format!("/proc/{pid}/ns/user"))?;
    let said = says(&bundle, &[], &["sh", "-c", "id -u; readlink /proc/self/ns/user"])?;
    assert_eq!(said, format!("0\n{}", theirs.display()));
    let file = bundle.path("pid");
    let shown = file.to_string_lossy().into_owned();
    let words = ["exec", "-d", "--pid-file", &shown, "-u", "5", bundle.id(), "sleep", "999"];
    bundle.detached(&words)?.ok()?;
    let status = fs::read_to_string(format!("/proc/{}/status", fs::read_to_string(&file)?))?;
    assert!(status.contains("Uid:\t100005\t100005\t100005\t100005"), "{status}");
    bundle.leave_nothing()
}

#[test]
fn processors_are_those_asked_for() -> Result<()> {
    let bundle = running()?;
    let allowed = |affinity: serde_json::Value| -> Result<Output> {
        let script = "grep Cpus_allowed_list /proc/self/status | cut -f2";
        let file = process_file(
            &bundle,
            &json!({
                "args": ["sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"],
                "user": {"uid": 0, "gid": 0}, "execCPUAffinity": affinity,
            }),
        )?;
        exec(&bundle, &["--process", &file], &[])
    };
    assert_eq!(allowed(json!({"final": "0"}))?.ok()?, "0");
    assert_eq!(allowed(json!({"initial": "0"}))?.ok()?, "0");
    let output = allowed(json!({"final": "900"}))?;
    assert_eq!(output.code, 255);
    assert!(output.stderr.contains("execCPUAffinity.final"), "{}", output.stderr);
    assert_eq!(allowed(json!({"final": "x"}))?.code, 255);
    bundle.leave_nothing()
}

#[test]
fn its_runtime_may_be_killed() -> Result<()> {
    let bundle = running()?;
    let file = bundle.path("pid");
    let shown = file.to_string_lossy().into_owned();
    let mut waits =
        bundle.command(&["exec", "--pid-file", &shown, bundle.id(), "sleep", "998"])?.spawn()?;
    eventually("the pid", || Ok(file.exists()))?;
    waits.kill()?;
    waits.wait()?;
    let pid = fs::read_to_string(&file)?;
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
    assert_eq!(command, "sleep\u{0}998\u{0}", "it outlives the runtime, as with runc");
    bundle.leave_nothing()
}
