//! Output, input, terminals, slow clients.

use std::io::{Read, Write};

use dhow_shim::protocol::{AttachStreams, Reply, Request};

use crate::container::{ALL, Container, demultiplex, read_all, read_framed, read_until, send};

pub(crate) fn output() {
    let container = Container::new(&["sh", "-c", "echo out; echo err >&2; printf rest"]);
    let only_stderr = AttachStreams { stderr: true, ..AttachStreams::default() };
    let (started, mut clients) = container.start(&mut container.launcher(), &[ALL, only_stderr]);
    assert_eq!(read_framed(&mut clients[0]), ("out\nrest".into(), "err\n".into()));
    assert_eq!(read_framed(&mut clients[1]), (String::new(), "err\n".into()));
    assert_eq!(container.wait().code, 0);
    let mut logged = container.logged();
    logged.sort();
    let line = |stream: &str, text: &str| (stream.to_owned(), text.to_owned());
    let expected = [line("stderr", "err\n"), line("stdout", "out\n"), line("stdout", "rest")];
    assert_eq!(logged, expected);
    let steps: Vec<&str> = started.trace.iter().map(|(step, _)| step.as_str()).collect();
    for step in ["request received", "forked", "replied"] {
        assert!(steps.contains(&step), "{step} is not among {steps:?}");
    }
    assert!(started.trace.is_sorted_by_key(|(_, at_ns)| *at_ns), "{:?}", started.trace);
    container.assert_gone(&started);
}

pub(crate) fn stdin() {
    let container = Container::new(&["cat"]).with_stdin(true);
    let (started, mut clients) = container.start(&mut container.launcher(), &[ALL]);
    let text = "a line of input\n".repeat(20_000);
    // More than every buffer on the way holds: it must be read while it is written.
    let mut reader = clients[0].try_clone().unwrap();
    let output = std::thread::spawn(move || read_framed(&mut reader));
    send(&mut clients[0], &text, true);
    let (stdout, _) = output.join().unwrap();
    assert!(stdout == text, "{} of {} bytes came back", stdout.len(), text.len());
    assert_eq!(container.wait().code, 0);
    container.assert_gone(&started);
}

pub(crate) fn stdin_kept() {
    let container = Container::new(&["cat"]).with_stdin(false);
    let (started, mut clients) = container.start(&mut container.launcher(), &[ALL]);
    send(&mut clients[0], "one\n", true);
    read_until(&mut clients[0], "one\n");
    drop(clients);
    let mut second = container.attach(ALL);
    send(&mut second, "two\n", false);
    read_until(&mut second, "two\n");
    assert_eq!(container.call(&Request::CloseStdin { exec: None }), Reply::Ok);
    assert_eq!(read_all(&mut second), "");
    assert_eq!(container.wait().code, 0);
    container.assert_gone(&started);
}

pub(crate) fn terminal() {
    let script = "stty size; read answer; stty size; echo got $answer";
    let container = Container::new(&["sh", "-c", script]).with_terminal(31, 117).with_stdin(true);
    let (started, mut clients) = container.start(&mut container.launcher(), &[ALL]);
    read_until(&mut clients[0], "31 117\r\n");
    // Detached and attached again, it goes on.
    drop(clients);
    let mut client = container.attach(ALL);
    assert_eq!(container.call(&Request::Resize { exec: None, rows: 50, cols: 90 }), Reply::Ok);
    send(&mut client, "this\n", false);
    let rest = read_all(&mut client);
    assert!(rest.contains("50 90\r\n") && rest.ends_with("got this\r\n"), "{rest:?}");
    assert_eq!(container.wait().code, 0);
    assert!(container.logged().iter().all(|(stream, _)| stream == "stdout"));
    container.assert_gone(&started);
}

pub(crate) fn slow_client() {
    const BYTES: usize = 6 << 20;
    let line = "0123456789abcde".repeat(100);
    let script = format!("yes {line} | head -c {BYTES}; echo done >&2");
    let container = Container::new(&["sh", "-c", &script]);
    let (started, mut clients) = container.start(&mut container.launcher(), &[ALL]);
    // The process is held back: it cannot have come to its end, of which nothing may be read yet.
    let mut first = [0; 8];
    clients[0].read_exact(&mut first).unwrap();
    let Reply::Status(status) = container.call(&Request::Status) else { panic!("no status") };
    assert_eq!(status.exit, None);
    let private = crate::lives::private_kib(started.shim_pid);
    assert!(private < 4 << 10, "{private} KiB for a slow client");
    let mut bytes = first.to_vec();
    clients[0].read_to_end(&mut bytes).unwrap();
    let (stdout, stderr) = demultiplex(&bytes);
    assert_eq!((stdout.len(), stderr.as_slice()), (BYTES, &b"done\n"[..]));
    assert_eq!(container.wait().code, 0);
    let logged: usize = container.logged().iter().map(|(_, text)| text.len()).sum();
    assert_eq!(logged, BYTES + "done\n".len());
    container.assert_gone(&started);
}

pub(crate) fn stuck_client() {
    let script = format!("yes {} | head -c 1000000; exit 4", "x".repeat(3000));
    let container = Container::new(&["sh", "-c", &script]);
    let (started, mut clients) = container.start(&mut container.launcher(), &[ALL]);
    assert_eq!(container.wait().code, 4);
    let logged: usize = container.logged().iter().map(|(_, text)| text.len()).sum();
    assert_eq!(logged, 1_000_000);
    // And it still gets all of it, though its container and cgroup are long gone.
    let mut bytes = Vec::new();
    clients[0].read_to_end(&mut bytes).unwrap();
    assert_eq!(demultiplex(&bytes).0.len(), 1_000_000);
    assert!(clients[0].write(b"x").is_err());
    container.assert_gone(&started);
}
