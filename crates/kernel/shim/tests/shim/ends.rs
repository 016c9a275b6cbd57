//! How containers and execs end, and what is left then.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use dhow_shim::client::{self, Found};
use dhow_shim::frame;
use dhow_shim::protocol::{AttachStreams, Reply, Request};
use serde_json::json;

use crate::container::{ALL, Container, read_framed, read_until};

pub(crate) fn codes() {
    let container = Container::new(&["sh", "-c", "exit 42"]);
    let started = container.run();
    let exit = container.wait();
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (42, None, false));
    assert!(exit.finished_at_ns >= started.started_at_ns);
    container.assert_gone(&started);
    assert_eq!(client::find(&container.request.state_dir).unwrap(), Found::Ended(exit));

    let container = Container::new(&["sleep", "1000"]);
    let started = container.run();
    let waiting = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| container.wait());
        container.signal(9);
        waiter.join().unwrap()
    });
    assert_eq!((waiting.code, waiting.signal), (137, Some(9)));
    container.assert_gone(&started);
}

pub(crate) fn init() {
    let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 1000 & wait; done";
    let mut container = Container::new(&["sh", "-c", script]);
    container.request.init = true;
    let (started, mut clients) = container.start(&mut container.launcher(), &[ALL]);
    read_until(&mut clients[0], "ready\n");
    container.signal(15);
    assert_eq!(container.wait().code, 7);
    container.assert_gone(&started);
}

pub(crate) fn out_of_memory() {
    let limit = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    let container = Container::new(&["dd", "if=/dev/zero", "of=/dev/null", "bs=256M", "count=1"])
        .with_spec(|spec| spec["linux"]["resources"] = limit);
    let started = container.run();
    let exit = container.wait();
    assert_eq!((exit.code, exit.oom_killed), (137, true));
    container.assert_gone(&started);
}

pub(crate) fn failed_start() {
    let mut launcher = Container::new(&["sh"]).launcher();
    for (command, code) in [("nosuch", 127), ("/proc", 126), ("/nosuch/path", 127)] {
        let container = Container::new(&[command]);
        let (answer, mut clients) = container.try_start(&mut launcher, &[ALL]);
        let failed = answer.unwrap_err();
        assert_eq!(failed.exit_code, code, "{failed:?}");
        assert!(failed.message.contains(command), "{failed:?}");
        assert_eq!(read_framed(&mut clients[0]).0, "");
        assert_eq!(container.cgroups(), Vec::<std::path::PathBuf>::new());
        assert_eq!(std::fs::read_dir(&container.request.state_dir).unwrap().count(), 0);
        assert_eq!(client::find(&container.request.state_dir).unwrap(), Found::Unknown);
    }
}

pub(crate) fn again() {
    let container = Container::new(&["sh", "-c", "echo again"]);
    let mut launcher = container.launcher();
    for _ in 0..5 {
        // The shim before may still be removing the control group: the next one waits for it.
        container.start(&mut launcher, &[]);
        assert_eq!(container.wait().code, 0);
    }
    let (started, _) = container.start(&mut launcher, &[]);
    assert_eq!(container.wait().code, 0);
    assert_eq!(container.logged().len(), 6);
    container.assert_gone(&started);
}

pub(crate) fn folder_removed() {
    let container = Container::new(&["sleep", "1000"]);
    let started = container.run();
    std::fs::remove_dir_all(&container.request.state_dir).unwrap();
    dhow_sys::process::kill(started.pid, 9).unwrap();
    container.assert_gone(&started);
}

pub(crate) fn leftovers() {
    // In the host's pid namespace nobody dies with the first process.
    let script = "sleep 1000 & echo $!; exit 3";
    let container = Container::new(&["sh", "-c", script]).with_spec(|spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    let (started, mut clients) = container.start(&mut container.launcher(), &[ALL]);
    let (stdout, _) = read_framed(&mut clients[0]);
    assert_eq!(container.wait().code, 3);
    container.assert_gone(&started);
    let pid: i32 = stdout.trim().parse().unwrap();
    crate::container::wait_for_process(pid);
}

pub(crate) fn grandchild() {
    let container = Container::new(&["sleep", "1000"]);
    let started = container.run();
    let output = AttachStreams { stdin: false, ..ALL };
    let begin = Instant::now();
    let script = "sleep 1000 & echo here; exit 5";
    let (reply, mut stream) = container.exec("one", &["sh", "-c", script], Some(output));
    assert!(matches!(reply, Reply::Started(_)), "{reply:?}");
    let waited = container.call(&Request::Wait { exec: Some("one".into()) });
    assert!(matches!(waited, Reply::Exited(exit) if exit.code == 5));
    assert_eq!(read_framed(&mut stream).0, "here\n");
    assert!(begin.elapsed() < Duration::from_secs(10));
    container.signal(9);
    container.wait();
    container.assert_gone(&started);
}

pub(crate) fn hostile_client() {
    let container = Container::new(&["sh", "-c", "echo up; sleep 1000"]);
    let (started, mut clients) = container.start(&mut container.launcher(), &[ALL]);
    read_until(&mut clients[0], "up\n");
    let folder = &container.request.state_dir;
    for bytes in [&b"\xff\xff\xff\xff"[..], b"\0\0\0\0", b"\x02\0\0\0{]", b"\x07\0\0\0\"Nosuch"] {
        let mut stream = client::connect(folder).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        if !answer.is_empty() {
            let reply = frame::read::<Reply>(&mut answer.as_slice()).unwrap();
            assert!(matches!(reply, Some(Reply::Failed(_))), "{reply:?}");
        }
    }
    // One that says nothing, and one that stops in the middle, hold up nobody.
    let _silent = client::connect(folder).unwrap();
    let mut half = client::connect(folder).unwrap();
    half.write_all(b"\x10\0\0\0{").unwrap();
    let none = Some("nosuch".to_owned());
    for request in [
        Request::Wait { exec: none.clone() },
        Request::Signal { exec: none.clone(), signal: 9 },
        Request::Signal { exec: None, signal: 999 },
        Request::Resize { exec: None, rows: 1, cols: 1 },
        Request::Attach { exec: none, streams: ALL },
    ] {
        let reply = container.call(&request);
        assert!(matches!(reply, Reply::Failed(_)), "{request:?}: {reply:?}");
    }
    container.signal(9);
    assert_eq!(container.wait().code, 137);
    container.assert_gone(&started);
}
