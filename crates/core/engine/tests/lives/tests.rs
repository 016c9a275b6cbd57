//! What a container's user would notice.

use std::sync::atomic::Ordering;
use std::time::Duration;

use dhow_engine::spec::{ConsoleSize, LogConfig, Mount, RestartPolicy, Ulimit};
use dhow_engine::{
    AttachStream, ContainerSpec, Engine, ExecSpec, ListOptions, LogOptions, RemoveOptions, Status,
    StopOptions, Streams, WaitCondition,
};
use dhow_error::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Test;
use crate::machine::{Machine, script};

/// Every test.
pub(crate) const ALL: [Test; 14] = [
    ("output_and_exit_code_arrive", output_and_exit_code_arrive),
    ("a_missing_command_is_127", a_missing_command_is_127),
    ("execs_run_beside", execs_run_beside),
    ("stop_kill_restart_pause", stop_kill_restart_pause),
    ("containers_outlive_the_daemon", containers_outlive_the_daemon),
    ("what_ended_meanwhile_is_settled", what_ended_meanwhile_is_settled),
    ("leftovers_are_swept", leftovers_are_swept),
    ("missing_folders_are_made", missing_folders_are_made),
    ("logs_follow_through_rotation", logs_follow_through_rotation),
    ("removes_itself", removes_itself),
    ("a_terminal_has_a_size", a_terminal_has_a_size),
    ("failures_restart", failures_restart),
    ("options_reach_the_process", options_reach_the_process),
    ("a_dead_launcher_is_replaced", a_dead_launcher_is_replaced),
];

const BOTH: Streams = Streams { stdin: false, stdout: true, stderr: true };
const FORCE: RemoveOptions = RemoveOptions { force: true, volumes: true };

/// The payload of multiplexed output, by stream.
async fn read_output(mut stream: AttachStream) -> (String, String) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut rest = bytes.as_slice();
    while let [kind, 0, 0, 0, a, b, c, d, tail @ ..] = rest {
        let (data, tail) = tail.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        if *kind == 1 { &mut out } else { &mut err }.extend_from_slice(data);
        rest = tail;
    }
    assert!(rest.is_empty(), "a header is cut off");
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// Runs a container to its end; gives id, output and exit code.
async fn run(engine: &Engine, spec: ContainerSpec) -> (String, String, i32) {
    let id = engine.create(None, spec).await.unwrap().id;
    let attached = engine.attach(&id, BOTH).await.unwrap();
    let exit = engine.wait(&id, WaitCondition::NextExit).await.unwrap();
    engine.start(&id).await.unwrap();
    let (output, errors) = read_output(attached.stream).await;
    assert_eq!(errors, "");
    (id, output, exit.await.code)
}

async fn log_text(engine: &Engine, id: &str, options: LogOptions) -> String {
    let mut log =
        engine.logs(id, LogOptions { stdout: true, stderr: true, ..options }).await.unwrap();
    let mut text = Vec::new();
    while let Some(entry) = log.next().await {
        text.extend_from_slice(&entry.unwrap().bytes);
    }
    String::from_utf8(text).unwrap()
}

async fn exec(engine: &Engine, id: &str, words: &[&str]) -> (String, i32) {
    let spec = ExecSpec {
        cmd: words.iter().map(ToString::to_string).collect(),
        attach: BOTH,
        ..ExecSpec::default()
    };
    let exec = engine.exec_create(id, spec).await.unwrap();
    let attached = engine.exec_start(&exec, true, None).await.unwrap().unwrap();
    let (output, _) = read_output(attached.stream).await;
    let view = engine.exec_inspect(&exec).await.unwrap();
    assert!(!view.running, "the end of the output comes after the exit");
    (output, view.exit_code.unwrap())
}

fn output_and_exit_code_arrive() {
    let machine = Machine::new();
    let daemon = machine.daemon();
    daemon.runtime.block_on(async {
        let engine = &daemon.engine;
        let created =
            engine.create(Some("one"), script("echo out; echo err >&2; exit 3")).await.unwrap();
        let id = created.id;
        let attached = engine.attach("one", BOTH).await.unwrap();
        assert_eq!(engine.list(&ListOptions::default()).await.unwrap().len(), 0);
        let exit = engine.wait(&id, WaitCondition::NextExit).await.unwrap();
        engine.start("one").await.unwrap();
        let output = read_output(attached.stream).await;
        assert_eq!(output, ("out\n".into(), "err\n".into()));
        assert_eq!(exit.await.code, 3);

        let view = engine.inspect(&id[..12]).await.unwrap();
        assert_eq!((view.state.status, view.state.exit_code, view.pid), (Status::Exited, 3, 0));
        assert!(view.state.finished_at_ns > view.state.started_at_ns);
        let log = log_text(engine, &id, LogOptions::default()).await;
        assert!(log.contains("out\n") && log.contains("err\n"));
        assert!(!engine.start_trace(&id).unwrap().steps.is_empty());
        let error = engine.create(Some("one"), script("true")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);

        engine.remove("one", RemoveOptions::default()).await.unwrap();
        assert_eq!(engine.inspect(&id).await.unwrap_err().kind(), Kind::NotFound);
        for folder in ["root/containers", "run/containers"] {
            assert!(!machine.root().join(folder).join(&id).exists());
        }
        let networks = &machine.networks;
        assert_eq!(
            networks.attached.load(Ordering::SeqCst),
            networks.detached.load(Ordering::SeqCst)
        );
    });
}

fn a_missing_command_is_127() {
    let machine = Machine::new();
    let daemon = machine.daemon();
    daemon.runtime.block_on(async {
        let engine = &daemon.engine;
        for (command, kind, code) in [
            ("nosuch", Kind::CommandNotFound, 127),
            ("/bin/nosuch", Kind::CommandNotFound, 127),
            ("/etc/passwd", Kind::CommandNotExecutable, 126),
        ] {
            let spec = ContainerSpec { cmd: Some(vec![command.into()]), ..script("") };
            let id = engine.create(None, spec).await.unwrap().id;
            let error = engine.start(&id).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{command}: {error:?}");
            assert!(error.chain().contains(command), "{error:?}");
            let state = engine.inspect(&id).await.unwrap().state;
            assert_eq!((state.status, state.exit_code), (Status::Created, code));
            assert!(!machine.root().join("run/containers").join(&id).exists());
            engine.remove(&id, RemoveOptions::default()).await.unwrap();
        }
        let spec =
            ContainerSpec { cmd: Some(vec!["nosuch".into()]), auto_remove: true, ..script("") };
        let id = engine.create(None, spec).await.unwrap().id;
        engine.start(&id).await.unwrap_err();
        assert!(engine.inspect(&id).await.is_err(), "it removes itself");
        let networks = &machine.networks;
        assert_eq!(
            networks.attached.load(Ordering::SeqCst),
            networks.detached.load(Ordering::SeqCst)
        );
    });
}

fn execs_run_beside() {
    let machine = Machine::new();
    let daemon = machine.daemon();
    daemon.runtime.block_on(async {
        let engine = &daemon.engine;
        let id = engine.create(None, script("sleep 1000")).await.unwrap().id;
        engine.start(&id).await.unwrap();
        let slow = exec(engine, &id, &["sh", "-c", "sleep 0.1; echo slow; exit 4"]);
        let fast = exec(engine, &id, &["echo", "fast"]);
        let (slow, fast) = tokio::join!(slow, fast);
        assert_eq!((slow, fast), (("slow\n".into(), 4), ("fast\n".into(), 0)));

        let spec = ExecSpec {
            cmd: vec!["cat".into()],
            attach: Streams { stdin: true, ..BOTH },
            user: "www".into(),
            ..ExecSpec::default()
        };
        let cat = engine.exec_create(&id, spec).await.unwrap();
        let mut stream = engine.exec_start(&cat, true, None).await.unwrap().unwrap().stream;
        stream.write_all(b"through").await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(read_output(stream).await.0, "through");
        assert_eq!(engine.exec_wait(&cat).await.unwrap().code, 0);

        let spec = ExecSpec { cmd: vec!["nosuch".into()], ..ExecSpec::default() };
        let missing = engine.exec_create(&id, spec).await.unwrap();
        let error = engine.exec_start(&missing, true, None).await.unwrap_err();
        assert_eq!(error.kind(), Kind::CommandNotFound);
        assert_eq!(engine.exec_inspect(&missing).await.unwrap().exit_code, Some(127));

        engine.remove(&id, FORCE).await.unwrap();
        assert_eq!(engine.exec_inspect(&cat).await.unwrap_err().kind(), Kind::NotFound);
    });
}

fn stop_kill_restart_pause() {
    let machine = Machine::new();
    let daemon = machine.daemon();
    daemon.runtime.block_on(async {
        let engine = &daemon.engine;
        let script = script("trap 'exit 9' TERM; echo up; while true; do sleep 0.05; done");
        let id = engine.create(None, script).await.unwrap().id;
        assert_eq!(engine.kill(&id, None).await.unwrap_err().kind(), Kind::Conflict);
        engine.start(&id).await.unwrap();
        assert_eq!(engine.start(&id).await.unwrap_err().kind(), Kind::NotModified);
        assert_eq!(
            engine.remove(&id, RemoveOptions::default()).await.unwrap_err().kind(),
            Kind::Conflict
        );
        engine.pause(&id).await.unwrap();
        assert_eq!(engine.inspect(&id).await.unwrap().state.status, Status::Paused);
        engine.unpause(&id).await.unwrap();
        assert!(engine.stats(&id).await.unwrap().pids >= 1);
        assert_eq!(engine.running_count(), 1);

        // The trap is set once the script has spoken.
        let follow = LogOptions { stdout: true, follow: true, ..LogOptions::default() };
        let mut log = engine.logs(&id, follow).await.unwrap();
        assert_eq!(log.next().await.unwrap().unwrap().bytes, b"up\n");
        engine.stop(&id, StopOptions::default()).await.unwrap();
        assert_eq!(engine.inspect(&id).await.unwrap().state.exit_code, 9);
        assert!(log.next().await.is_none(), "following ends with the container");
        let again = engine.stop(&id, StopOptions::default()).await.unwrap_err();
        assert_eq!(again.kind(), Kind::NotModified);

        let at_once = StopOptions { timeout_secs: Some(0), signal: Some("USR1".into()) };
        engine.restart(&id, at_once.clone()).await.unwrap();
        engine.restart(&id, at_once).await.unwrap();
        engine.kill(&id, None).await.unwrap();
        let exit = engine.wait(&id, WaitCondition::NotRunning).await.unwrap().await;
        assert_eq!(exit.code, 137);
        engine.rename(&id, "renamed").await.unwrap();
        engine.remove("renamed", RemoveOptions::default()).await.unwrap();
    });
}

fn containers_outlive_the_daemon() {
    let machine = Machine::new();
    let daemon = machine.daemon();
    let id = daemon.runtime.block_on(async {
        let script =
            script("echo before; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo after; exit 5");
        let id = daemon.engine.create(Some("survivor"), script).await.unwrap().id;
        daemon.engine.start(&id).await.unwrap();
        id
    });
    daemon.kill();

    let daemon = machine.daemon();
    daemon.runtime.block_on(async {
        let engine = &daemon.engine;
        assert_eq!(machine.networks.survivors.load(Ordering::SeqCst), 1);
        let view = engine.inspect("survivor").await.unwrap();
        assert_eq!((view.state.status, view.id), (Status::Running, id.clone()));
        assert!(view.pid > 0);
        let exit = engine.wait(&id, WaitCondition::NotRunning).await.unwrap();
        assert_eq!(exec(engine, &id, &["sh", "-c", "echo > /tmp/go"]).await.1, 0);
        assert_eq!(exit.await.code, 5);
        let follow = LogOptions { follow: true, ..LogOptions::default() };
        assert_eq!(log_text(engine, &id, follow).await, "before\nafter\n");
        // And it can run again.
        engine.start(&id).await.unwrap();
        engine.remove(&id, FORCE).await.unwrap();
    });
}

fn what_ended_meanwhile_is_settled() {
    let machine = Machine::new();
    let daemon = machine.daemon();
    let (kept, gone, paused) = daemon.runtime.block_on(async {
        let engine = &daemon.engine;
        let kept = engine.create(None, script("sleep 0.2; exit 6")).await.unwrap().id;
        let spec = ContainerSpec { auto_remove: true, ..script("sleep 0.2") };
        let gone = engine.create(None, spec).await.unwrap().id;
        let paused = engine.create(None, script("sleep 1000")).await.unwrap().id;
        for id in [&kept, &gone, &paused] {
            engine.start(id).await.unwrap();
        }
        engine.pause(&paused).await.unwrap();
        (kept, gone, paused)
    });
    daemon.kill();
    let run = machine.root().join("run/containers");
    for id in [&kept, &gone] {
        wait_until(|| run.join(id).join("exit.json").exists());
    }

    let daemon = machine.daemon();
    daemon.runtime.block_on(async {
        let engine = &daemon.engine;
        let state = engine.inspect(&kept).await.unwrap().state;
        assert_eq!((state.status, state.exit_code), (Status::Exited, 6));
        assert_eq!(engine.inspect(&gone).await.unwrap_err().kind(), Kind::NotFound);
        assert_eq!(engine.inspect(&paused).await.unwrap().state.status, Status::Paused);
        engine.unpause(&paused).await.unwrap();
        for id in [&kept, &paused] {
            engine.remove(id, FORCE).await.unwrap();
        }
        assert_eq!(std::fs::read_dir(&run).unwrap().count(), 0);
    });
}

fn leftovers_are_swept() {
    let machine = Machine::new();
    machine.daemon().kill();
    let stray = "ab".repeat(32);
    for folder in ["root/containers", "run/containers", "root/snapshots/writable"] {
        std::fs::create_dir_all(machine.root().join(folder).join(&stray)).unwrap();
    }
    machine.daemon().kill();
    for folder in ["root/containers", "run/containers", "root/snapshots/writable"] {
        assert!(!machine.root().join(folder).join(&stray).exists(), "{folder}");
    }
}

/// As after a daemon that was killed when the store knew of the container and the disk did not.
fn missing_folders_are_made() {
    let machine = Machine::new();
    let daemon = machine.daemon();
    let spec = ContainerSpec {
        mounts: vec![Mount::from_tmpfs("/data", "").unwrap()],
        ..script("echo begins > /tmp/file; exit 4")
    };
    let create = async { daemon.engine.create(None, spec).await.unwrap().id };
    let id = daemon.runtime.block_on(create);
    daemon.kill();
    for folder in ["root/containers", "root/snapshots/writable"] {
        std::fs::remove_dir_all(machine.root().join(folder).join(&id)).unwrap();
    }

    let daemon = machine.daemon();
    daemon.runtime.block_on(async {
        let engine = &daemon.engine;
        let exit = engine.wait(&id, WaitCondition::NextExit).await.unwrap();
        engine.start(&id).await.unwrap();
        assert_eq!(exit.await.code, 4);
        engine.remove(&id, FORCE).await.unwrap();
    });
}

fn logs_follow_through_rotation() {
    let machine = Machine::new();
    let daemon = machine.daemon();
    daemon.runtime.block_on(async {
        let engine = &daemon.engine;
        let log =
            LogConfig { max_size_bytes: Some(8192), max_files: Some(500), ..LogConfig::default() };
        let spec = ContainerSpec { log, ..script("seq 1 5000") };
        let id = engine.create(None, spec).await.unwrap().id;
        engine.start(&id).await.unwrap();
        let follow = LogOptions { follow: true, ..LogOptions::default() };
        let numbers: Vec<String> = (1..=5000).map(|number: u32| number.to_string()).collect();
        let expected = numbers.join("\n") + "\n";
        // Not by assert_eq, which would print it all.
        assert!(log_text(engine, &id, follow).await == expected, "following lost something");
        let all = log_text(engine, &id, LogOptions::default()).await;
        assert!(all == expected, "reading lost something");
        let tail = LogOptions { tail: Some(2), ..LogOptions::default() };
        assert_eq!(log_text(engine, &id, tail).await, "4999\n5000\n");
        engine.remove(&id, FORCE).await.unwrap();
    });
}

fn removes_itself() {
    let machine = Machine::new();
    let daemon = machine.daemon();
    daemon.runtime.block_on(async {
        let engine = &daemon.engine;
        let spec = ContainerSpec { auto_remove: true, ..script("exit 8") };
        let id = engine.create(None, spec).await.unwrap().id;
        let removed = engine.wait(&id, WaitCondition::Removed).await.unwrap();
        let mut events = engine.events().subscribe(None);
        engine.start(&id).await.unwrap();
        assert_eq!(removed.await.code, 8);
        assert!(!machine.root().join("root/containers").join(&id).exists());
        assert!(!machine.root().join("run/containers").join(&id).exists());
        for expected in ["start", "die", "destroy"] {
            let Some(dhow_engine::Heard::Event(event)) = events.next().await else { panic!() };
            assert_eq!(event.action, expected);
        }
        engine.shutdown().await;
        assert!(engine.create(None, script("true")).await.is_err());
    });
}

fn a_terminal_has_a_size() {
    let machine = Machine::new();
    let daemon = machine.daemon();
    daemon.runtime.block_on(async {
        let engine = &daemon.engine;
        let spec = ContainerSpec {
            tty: true,
            open_stdin: true,
            stdin_once: true,
            console_size: Some(ConsoleSize { rows: 33, cols: 77 }),
            ..script("stty size; cat >/dev/null; stty size")
        };
        let id = engine.create(None, spec).await.unwrap().id;
        let streams = Streams { stdin: true, ..BOTH };
        let attached = engine.attach(&id, streams).await.unwrap();
        assert!(attached.tty);
        engine.start(&id).await.unwrap();
        let mut stream = attached.stream;
        let mut first = [0; 7];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"33 77\r\n");
        engine.resize(&id, ConsoleSize { rows: 10, cols: 20 }).await.unwrap();
        // Control-D on an empty line ends the input of a terminal.
        stream.write_all(b"\x04").await.unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert!(rest.ends_with("10 20\r\n"), "{rest:?}");
        engine.remove(&id, FORCE).await.unwrap();
    });
}

fn failures_restart() {
    let machine = Machine::new();
    let daemon = machine.daemon();
    daemon.runtime.block_on(async {
        let engine = &daemon.engine;
        let spec = ContainerSpec {
            restart: RestartPolicy::OnFailure { max_retries: 2 },
            ..script("echo run; exit 1")
        };
        let id = engine.create(None, spec).await.unwrap().id;
        engine.start(&id).await.unwrap();
        engine.wait(&id, WaitCondition::NotRunning).await.unwrap().await;
        let state = engine.inspect(&id).await.unwrap().state;
        assert_eq!((state.restart_count, state.status), (2, Status::Exited));
        let follow = LogOptions { follow: true, ..LogOptions::default() };
        assert_eq!(log_text(engine, &id, follow).await, "run\nrun\nrun\n");

        let spec = ContainerSpec { restart: RestartPolicy::Always, ..script("exit 0") };
        let always = engine.create(None, spec).await.unwrap().id;
        engine.start(&always).await.unwrap();
        let restarted =
            || async { engine.inspect(&always).await.unwrap().state.restart_count >= 2 };
        while !restarted().await {
            engine.wait(&always, WaitCondition::NextExit).await.unwrap().await;
        }
        let _ = engine.stop(&always, StopOptions::default()).await;
        assert_eq!(engine.inspect(&always).await.unwrap().state.status, Status::Exited);
        for id in [&id, &always] {
            engine.remove(id, FORCE).await.unwrap();
        }
    });
}

fn options_reach_the_process() {
    let machine = Machine::new();
    let daemon = machine.daemon();
    daemon.runtime.block_on(async {
        let engine = &daemon.engine;
        let mut spec = script(
            "id -u; id -G; hostname; echo $MODE; ulimit -n; \
             (echo x > /file) 2>/dev/null || echo read-only; ls /tmp",
        );
        spec.user = "www".into();
        spec.group_add = vec!["extra".into()];
        spec.hostname = "named".into();
        spec.env = vec!["MODE=test".into()];
        spec.security.read_only_rootfs = true;
        spec.limits.ulimits = vec![Ulimit { name: "nofile".into(), soft: 123, hard: 456 }];
        spec.limits.memory_bytes = Some(64 << 20);
        spec.init = true;
        spec.mounts.push(dhow_engine::spec::Mount::from_tmpfs("/tmp", "size=1m").unwrap());
        let (id, output, code) = run(engine, spec).await;
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines[..4], ["33", "33 77", "named", "test"], "{output}");
        assert!(output.contains("123\nread-only\n"), "{output}");
        assert_eq!(code, 0);
        engine.remove(&id, FORCE).await.unwrap();

        // A declared volume begins with the image's content and takes what is written.
        let (id, output, _) =
            run(engine, script("cat /data/seed; echo more > /data/more; ls /data")).await;
        assert_eq!(output, "from the image\nmore\nseed\n");
        let view = engine.inspect(&id).await.unwrap();
        assert!(view.mounts[0].source.join("more").exists());
        engine.remove(&id, FORCE).await.unwrap();
        assert!(!view.mounts[0].source.exists());
    });
}

fn a_dead_launcher_is_replaced() {
    let machine = Machine::new();
    let daemon = machine.daemon();
    daemon.runtime.block_on(async {
        let engine = &daemon.engine;
        // Its name is there once it has executed.
        wait_until(|| launcher_of(std::process::id()).is_some());
        let pid = launcher_of(std::process::id()).unwrap();
        dhow_sys::process::kill(pid, 9).unwrap();
        wait_until(|| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        });
        let (id, output, _) = run(engine, script("echo again")).await;
        assert_eq!(output, "again\n");
        engine.remove(&id, FORCE).await.unwrap();
    });
}

/// The child of `parent` that is a launcher.
fn launcher_of(parent: u32) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    let children = children.unwrap_or_default();
    let mut pids = children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok());
    pids.find(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"dhow-launcher")
    })
}

/// Waits for a file of another process.
fn wait_until(condition: impl Fn() -> bool) {
    let begin = std::time::Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(10), "it does not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}
