//! Terminals: handed out over a socket, or shown on ours.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use anyhow::{Context, Result};
use dhow_sys::fdpass;
use dhow_sys::process::Reason;
use dhow_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use dhow_tests::{Bundle, terminal};
use serde_json::json;

fn with_terminal(script: &str) -> Result<Bundle> {
    let bundle = Bundle::new(&["sh", "-c", script])?;
    bundle.change(|config| config["process"]["terminal"] = json!(true))?;
    Ok(bundle)
}

/// All that is said at a terminal until nobody has its other end open.
fn all_of(mut master: File) -> String {
    let mut said = Vec::new();
    let mut buffer = [0; 512];
    // At the end there is an error, EIO.
    while let Ok(length @ 1..) = master.read(&mut buffer) {
        said.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn the_master_is_handed_out_over_the_console_socket() -> Result<()> {
    let bundle = with_terminal("stty size; read line; echo got $line")?;
    bundle.change(|config| {
        config["process"]["consoleSize"] = json!({ "height": 31, "width": 97 });
    })?;
    let (socket, pidfds) = (bundle.path("console"), bundle.path("pidfd"));
    let (console, process) = (UnixListener::bind(&socket)?, UnixListener::bind(&pidfds)?);
    let (socket, pidfds) = (socket.to_string_lossy(), pidfds.to_string_lossy());
    let sockets = ["--console-socket", &socket, "--pidfd-socket", &pidfds];
    let shown = bundle.shown();
    let create = [&["create"][..], &sockets, &["-b", &shown, bundle.id()]].concat();
    bundle.ok(&create)?;
    let mut buffer = [0; 64];
    let received = fdpass::receive(console.accept()?.0, &mut buffer).map_err(Reason)?;
    assert_eq!(&buffer[..received.bytes], b"/dev/ptmx");
    let master = received.descriptors.into_iter().next().context("no terminal")?;
    let received = fdpass::receive(process.accept()?.0, &mut buffer).map_err(Reason)?;
    let pidfd = received.descriptors.into_iter().next().context("no pid descriptor")?;
    let mut master = File::from(master);
    master.write_all(b"hello\n")?;
    bundle.ok(&["start", bundle.id()])?;
    let said = all_of(master);
    assert!(said.contains("31 97") && said.contains("got hello"), "{said}");
    bundle.wait_for("stopped")?;
    // A pid descriptor tells the end of its process.
    let mut ended = [PollFd::new(&pidfd, PollFlags::IN)];
    poll(&mut ended, Some(&Timespec::default()))?;
    assert!(ended[0].revents().contains(PollFlags::IN));
    bundle.leave_nothing()
}

#[test]
fn a_terminal_needs_somebody_to_show_it() -> Result<()> {
    let bundle = with_terminal("true")?;
    let shown = bundle.shown();
    let create = bundle.oci(&["create", "-b", &shown, bundle.id()])?;
    assert!(create.stderr.contains("without setting console socket"), "{create:?}");
    bundle.change(|config| config["process"]["terminal"] = json!(false))?;
    let socket = ["--console-socket", "/x", "-b", &shown, bundle.id()];
    for command in ["create", "run"] {
        let output = bundle.oci(&[&[command][..], &socket].concat())?;
        assert!(output.stderr.contains("cannot use console socket"), "{output:?}");
    }
    bundle.change(|config| config["process"]["terminal"] = json!(true))?;
    // Nobody listens there: the container is not kept.
    let create = bundle.oci(&[&["create"][..], &socket].concat())?;
    assert!(create.stderr.contains("cannot send a descriptor to /x"), "{create:?}");
    bundle.nothing_left()
}

#[test]
fn a_terminal_in_the_foreground_is_ours() -> Result<()> {
    let bundle = with_terminal("stty size; read line; echo got $line; exit 4")?;
    let (person, program) = terminal::open(29, 83)?;
    let mut command = bundle.command(&["run", "-b", &bundle.shown(), bundle.id()])?;
    let copy = || program.try_clone();
    let mut run = command.stdin(copy()?).stdout(copy()?).stderr(copy()?).spawn()?;
    drop((command, program));
    let mut person = File::from(person);
    person.write_all(b"hello\r")?;
    let said = all_of(person.try_clone()?);
    assert_eq!(run.wait()?.code(), Some(4), "{said}");
    assert!(said.contains("29 83") && said.contains("got hello"), "{said}");
    bundle.nothing_left()
}
