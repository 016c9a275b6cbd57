//! Lives of daemon, launcher and shim; execs; what one container leaves for the next.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};

use dhow_shim::client::{self, Found};
use dhow_shim::frame;
use dhow_shim::protocol::{AttachStreams, ConsoleSize, Reply, Request};
use serde_json::json;

use crate::container::{
    ALL, Container, exec_request, read_all, read_framed, read_until, send, wait_for_process,
};

const OUTPUT: AttachStreams = AttachStreams { stdin: false, stdout: true, stderr: true };

pub(crate) fn execs() {
    let container = Container::new(&["sleep", "1000"]);
    let started = container.run();
    let mut running: Vec<_> = (0..4)
        .map(|number| {
            let script = format!("cat; echo err{number} >&2; exit {number}");
            let id = format!("exec{number}");
            let (reply, stream) = container.exec(&id, &["sh", "-c", &script], Some(ALL));
            assert!(matches!(reply, Reply::Started(_)), "{reply:?}");
            (id, stream)
        })
        .collect();
    let Reply::Status(status) = container.call(&Request::Status) else { panic!("no status") };
    assert_eq!(status.execs.len(), 4);
    for (number, (id, stream)) in running.iter_mut().enumerate().rev() {
        send(stream, &format!("in{number}"), true);
        assert_eq!(read_framed(stream), (format!("in{number}"), format!("err{number}\n")));
        let Reply::Exited(exit) = container.call(&Request::Wait { exec: Some(id.clone()) }) else {
            panic!("no exit")
        };
        assert_eq!(exit.code, number as i32);
    }
    let (reply, _) = container.exec("missing", &["nosuch"], Some(ALL));
    assert!(matches!(&reply, Reply::Failed(failed) if failed.exit_code == 127), "{reply:?}");
    let (reply, _) = container.exec("exec0", &["sh"], None);
    assert!(matches!(&reply, Reply::Failed(failed) if failed.exit_code == 125), "{reply:?}");
    let (reply, _) = container.exec("detached", &["sleep", "1000"], None);
    assert!(matches!(reply, Reply::Started(_)));
    // Everything in the container dies with its first process, and who waits for it hears so.
    let mut waiter = client::connect(&container.request.state_dir).unwrap();
    frame::write(&mut waiter, &Request::Wait { exec: Some("detached".into()) }).unwrap();
    container.signal(9);
    let reply = frame::read(&mut waiter).unwrap();
    assert!(matches!(&reply, Some(Reply::Exited(exit)) if exit.code == 137), "{reply:?}");
    container.wait();
    container.assert_gone(&started);
}

pub(crate) fn exec_terminal() {
    let container = Container::new(&["sleep", "1000"]);
    let started = container.run();
    let mut request =
        exec_request("tty", &["sh", "-c", "stty size; read x; stty size; exit 9"], Some(ALL));
    request.tty = true;
    request.console_size = Some(ConsoleSize { rows: 20, cols: 40 });
    request.process.set_terminal(Some(true));
    let request = Request::Exec(Box::new(request));
    let (reply, mut stream) = client::call(&container.request.state_dir, &request).unwrap();
    assert!(matches!(reply, Reply::Started(_)), "{reply:?}");
    read_until(&mut stream, "20 40\r\n");
    let resize = Request::Resize { exec: Some("tty".into()), rows: 21, cols: 41 };
    assert_eq!(container.call(&resize), Reply::Ok);
    send(&mut stream, "x\n", false);
    assert!(read_all(&mut stream).ends_with("21 41\r\n"));
    let waited = container.call(&Request::Wait { exec: Some("tty".into()) });
    assert!(matches!(waited, Reply::Exited(exit) if exit.code == 9));
    container.signal(9);
    container.wait();
    container.assert_gone(&started);
}

pub(crate) fn seccomp() {
    let filter = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
    });
    let program = dhow_seccomp::compile(&serde_json::from_value(filter).unwrap()).unwrap();
    let mut container = Container::new(&["sh", "-c", "mkdir /tmp/a 2>&1; read x"]).with_stdin(true);
    container.seccomp = program.to_bytes();
    let (started, mut clients) = container.start(&mut container.launcher(), &[ALL]);
    read_until(&mut clients[0], "Operation not permitted");
    let (_, mut stream) = container.exec("one", &["mkdir", "/tmp/b"], Some(OUTPUT));
    assert!(read_framed(&mut stream).1.contains("Operation not permitted"));
    drop(clients);
    container.wait();
    container.assert_gone(&started);
}

/// What `--daemon` makes of this program: starts a container, says so, and waits to be killed.
pub(crate) fn be_daemon(folder: &Path) -> ! {
    let script = "echo first; while read line; do echo $line; done; exit 6";
    let container = Container::in_folder(folder, &["sh", "-c", script]).with_stdin(false);
    let mut launcher = container.launcher();
    let (_, clients) = container.start(&mut launcher, &[ALL]);
    println!("{} {}", launcher.pid(), container.request.cgroup);
    loop {
        std::thread::park();
        assert_eq!(clients.len(), 1);
    }
}

pub(crate) fn survival() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Command::new("/proc/self/exe")
        .arg("--daemon")
        .arg(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (launcher, cgroup) = line.trim().split_once(' ').unwrap();
    let launcher: i32 = launcher.parse().unwrap();
    // Both, in one order and, since the launcher ends with its daemon, by itself.
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    wait_for_process(launcher);

    let state_dir = folder.path().join("state");
    let Found::Running(state) = client::find(&state_dir).unwrap() else { panic!("not found") };
    assert_eq!(state.cgroup, cgroup);
    let Reply::Status(status) = client::call(&state_dir, &Request::Status).unwrap().0 else {
        panic!("no status")
    };
    assert_eq!((status.pid, status.exit), (state.pid, None));
    let request = Request::Attach { exec: None, streams: ALL };
    let (_, mut stream) = client::call(&state_dir, &request).unwrap();
    send(&mut stream, "second\n", false);
    read_until(&mut stream, "second\n");
    drop(stream);
    // Nobody listens: it goes to the log alone, and the exit into its file.
    let (_, mut stream) = client::call(
        &state_dir,
        &Request::Attach {
            exec: None,
            streams: AttachStreams { stdin: true, ..Default::default() },
        },
    )
    .unwrap();
    send(&mut stream, "third\n", false);
    drop(stream);
    assert_eq!(client::call(&state_dir, &Request::CloseStdin { exec: None }).unwrap().0, Reply::Ok);
    wait_for_process(state.shim_pid);
    let Found::Ended(exit) = client::find(&state_dir).unwrap() else { panic!("no exit") };
    assert_eq!(exit.code, 6);
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    for word in ["first", "second", "third"] {
        assert!(log.contains(&format!("{{\"log\":\"{word}\\n\"")), "{word} is not in {log}");
    }
}

pub(crate) fn killed_shim() {
    for user in [0, 1000] {
        let container = Container::new(&["sleep", "1000"])
            .with_spec(|spec| spec["process"]["user"] = json!({"uid": user, "gid": user}));
        let mut launcher = container.launcher();
        let (started, _) = container.start(&mut launcher, &[]);
        dhow_sys::process::kill(started.shim_pid, 9).unwrap();
        wait_for_process(started.pid);
        let folder = &container.request.state_dir;
        let Found::Lost(state) = client::find(folder).unwrap() else { panic!("not lost") };
        assert_eq!((state.shim_pid, state.pid), (started.shim_pid, started.pid));
        // The next one in the folder is not troubled by what is left.
        let (started, _) = container.start(&mut launcher, &[]);
        container.signal(9);
        assert_eq!(container.wait().code, 137);
        container.assert_gone(&started);
    }
}

pub(crate) fn launcher_replaced() {
    let container = Container::new(&["sh", "-c", "exit 3"]);
    let mut launcher = container.launcher();
    let first = launcher.pid();
    dhow_sys::process::kill(first, 9).unwrap();
    // Its end is there once its socket is closed, which is before it can be waited for.
    let _ = dhow_sys::rustix::event::poll(
        &mut [dhow_sys::rustix::event::PollFd::new(
            &launcher.pidfd(),
            dhow_sys::rustix::event::PollFlags::IN,
        )],
        None,
    );
    let (started, _) = container.start(&mut launcher, &[]);
    assert_ne!(launcher.pid(), first);
    assert_eq!(container.wait().code, 3);
    container.assert_gone(&started);
}

pub(crate) fn isolation() {
    let first = Container::new(&["sleep", "1000"]);
    let second = Container::new(&["sleep", "1000"]);
    let mut launcher = first.launcher();
    let (first_started, mut clients) = first.start(&mut launcher, &[ALL]);
    let (second_started, _) = second.start(&mut launcher, &[]);
    let secret = b"of-this-container";
    assert!(!memory_holds(launcher.pid(), secret), "the launcher has read a request");
    // The end of the first is seen at once, though the second shim lives: it has none of its sockets.
    first.signal(9);
    assert_eq!(read_all(&mut clients[0]), "");
    first.assert_gone(&first_started);
    let open = std::fs::read_dir(format!("/proc/{}/fd", second_started.shim_pid)).unwrap();
    let names: Vec<String> = open
        .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap().display().to_string())
        .collect();
    // Null three times, the folder, the log, pidfd, epoll, the socket, two pipes, the root.
    assert!(names.len() <= 11, "{names:?}");
    let environment = std::fs::read(format!("/proc/{}/environ", second_started.shim_pid)).unwrap();
    assert!(environment.is_empty());
    second.signal(9);
    second.wait();
    second.assert_gone(&second_started);
}

pub(crate) fn memory() {
    let container = Container::new(&["sleep", "1000"]);
    let mut launcher = container.launcher();
    let (started, _) = container.start(&mut launcher, &[]);
    assert!(matches!(container.call(&Request::Status), Reply::Status(_)));
    let private = private_kib(started.shim_pid);
    println!("shim: {private} KiB private, {} KiB PSS", rollup(started.shim_pid, "Pss:"));
    println!("launcher: {} KiB private", private_kib(launcher.pid()));
    assert!(private < 512, "{private} KiB");
    let _ = container.exec("one", &["sh", "-c", "exit"], Some(OUTPUT));
    container.signal(9);
    container.wait();
    container.assert_gone(&started);
}

/// Memory that a process has to itself, in KiB. Clean pages are the binary's: the page cache has them
/// once for all.
pub(crate) fn private_kib(pid: i32) -> u64 {
    rollup(pid, "Private_Dirty:")
}

fn rollup(pid: i32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn memory_holds(pid: i32, needle: &[u8]) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    maps.lines().filter(|line| line.contains("rw")).any(|line| {
        let (start, end) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut bytes = vec![0; (end - start) as usize];
        memory.seek(SeekFrom::Start(start)).unwrap();
        memory.read_exact(&mut bytes).is_ok()
            && bytes.windows(needle.len()).any(|window| window == needle)
    })
}
