//! Terminals: a person's is a pseudo-terminal here, in a session of its own (setsid(1)).

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail};
use dhow_tests::rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};
use dhow_tests::{Daemon, daemon, images};

/// dhow at a terminal of its own, and the person's end of it.
struct Seat {
    process: Child,
    master: File,
    seen: String,
}

impl Seat {
    /// Sits down: dhow runs in a session whose controlling terminal is the pseudo-terminal, so that
    /// changes of its size reach it as SIGWINCH.
    fn take(daemon: &Daemon, arguments: &[&str]) -> Result<Self> {
        let (master, slave) = dhow_tests::terminal::open(30, 100)?;
        let slave: OwnedFd = slave;
        let mut setsid = daemon::command(Path::new("setsid"));
        let process = setsid
            .args(["--ctty", "--wait"])
            .arg(daemon::binary()?)
            .args(arguments)
            .env("DHOW_HOST", daemon.host())
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(Stdio::from(slave))
            .spawn()?;
        Ok(Self { process, master: master.into(), seen: String::new() })
    }

    fn types(&mut self, text: &str) -> Result<()> {
        self.master.write_all(text.as_bytes())?;
        Ok(())
    }

    /// Reads until `text` was seen.
    fn sees(&mut self, text: &str) -> Result<()> {
        let mut buffer = [0; 4096];
        while !self.seen.contains(text) {
            let Ok(length @ 1..) = self.master.read(&mut buffer) else {
                bail!("{text:?} was not seen in {:?}", self.seen);
            };
            self.seen.push_str(&String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()));
        }
        self.seen = self.seen.split_once(text).map(|it| it.1.to_owned()).unwrap_or_default();
        Ok(())
    }

    fn code(mut self) -> Result<i32> {
        // What is still written must not block it.
        let mut master = self.master.try_clone()?;
        std::thread::spawn(move || std::io::copy(&mut master, &mut std::io::sink()));
        self.process.wait()?.code().context("ended by a signal")
    }
}

#[test]
fn a_terminal_inside() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let mut seat = Seat::take(&daemon, &["run", "--rm", "-it", "busybox", "sh"])?;
    seat.sees("# ")?;
    seat.types("tty; stty size\n")?;
    seat.sees("/dev/pts/0")?;
    seat.sees("30 100")?;
    let size = Winsize { ws_row: 50, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&seat.master, size)?;
    assert_eq!(tcgetwinsize(&seat.master)?.ws_row, 50);
    // The new size arrives some time after the signal.
    seat.types("while [ \"$(stty size)\" != '50 120' ]; do :; done; echo resized\n")?;
    seat.sees("\nresized")?;
    // ctrl-C goes to the command inside, not to dhow. The shell has left its line editor, which would
    // take the key for itself, when the command writes.
    seat.types("echo up; sleep 1000\n")?;
    seat.sees("\nup")?;
    seat.types("\u{3}")?;
    seat.sees("# ")?;
    seat.types("exit 4\n")?;
    assert_eq!(seat.code()?, 4);
    daemon.leave_nothing()
}

#[test]
fn keys_detach() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let mut seat = Seat::take(&daemon, &["run", "-it", "--name", "it", "busybox", "sh"])?;
    seat.sees("# ")?;
    seat.types("\u{10}\u{11}")?;
    assert_eq!(seat.code()?, 0);
    assert_eq!(daemon.ok(&["inspect", "-f", "{{.State.Status}}", "it"])?, "running");
    let mut seat = Seat::take(&daemon, &["exec", "-it", "--detach-keys", "ctrl-a,x", "it", "sh"])?;
    seat.sees("# ")?;
    seat.types("echo in an exec\n")?;
    seat.sees("\nin an exec")?;
    seat.types("\u{1}x")?;
    assert_eq!(seat.code()?, 0);
    daemon.leave_nothing()
}

#[test]
fn the_terminal_is_put_back() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let mut seat = Seat::take(&daemon, &["run", "--rm", "-it", "busybox", "true"])?;
    let before = dhow_tests::rustix::termios::tcgetattr(&seat.master)?.local_modes;
    seat.process.wait()?;
    let after = dhow_tests::rustix::termios::tcgetattr(&seat.master)?.local_modes;
    assert!(
        after.contains(dhow_tests::rustix::termios::LocalModes::ICANON),
        "{before:?} {after:?}"
    );
    daemon.leave_nothing()
}
