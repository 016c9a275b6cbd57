//! Bad input gets one clear line, a hint where there is one, and loses nothing.

use anyhow::Result;
use dhow_tests::{Daemon, daemon, images};

#[test]
fn mistakes_get_one_line() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let cases: [(&[&str], i32, &str); 13] = [
        (&["run", "--no-such-flag", "busybox"], 125, "--no-such-flag"),
        (&["run"], 125, "IMAGE"),
        (&["nosuchverb"], 125, "nosuchverb"),
        (&["run", "-m", "lots", "busybox"], 125, "lots"),
        (&["run", "-p", "x:y:z:1", "busybox"], 125, "x:y:z:1"),
        (&["run", "-v", "relative/path:/x", "busybox", "true"], 125, "relative/path"),
        (
            &["create", "--mac-address", "02:42", "busybox", "true"],
            1,
            "02:42 is not a valid mac address",
        ),
        (
            &["create", "--tmpfs", "/x:cheese", "busybox", "true"],
            1,
            "invalid tmpfs option \"cheese\"",
        ),
        (&["run", "--tmpfs", "/x:size=lots", "busybox", "true"], 125, "\"size=lots\""),
        (&["run", "--name", "bad name", "busybox", "true"], 125, "bad name"),
        (&["run", "Upper/Case", "true"], 125, "lowercase"),
        (&["stop", "nobody"], 1, "nobody"),
        (&["inspect", "nobody"], 1, "nobody"),
    ];
    for (arguments, code, named) in cases {
        let output = daemon.dhow(arguments)?;
        assert_eq!(output.code, code, "{arguments:?}: {}", output.stderr);
        assert!(output.stderr.contains(named), "{arguments:?}: {}", output.stderr);
        for sign in ["panicked", "backtrace", "RUST_"] {
            assert!(!output.stderr.contains(sign), "{arguments:?}: {}", output.stderr);
        }
    }
    let typo = daemon.dhow(&["run", "--hostnam", "x", "busybox"])?;
    assert!(typo.stderr.contains("--hostname"), "clap knows what was meant: {}", typo.stderr);
    assert_eq!(daemon.ok(&["ps", "-aq"])?, "");
    daemon.leave_nothing()
}

#[test]
fn no_daemon_is_told() -> Result<()> {
    let host = "unix:///nonexistent/dhow.sock";
    let mut dhow = dhow_tests::daemon::command(&dhow_tests::daemon::binary()?);
    let output = dhow_tests::daemon::finish(dhow.args(["--host", host, "ps"]))?;
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains(host) && output.stderr.contains("hint: "), "{}", output.stderr);
    Ok(())
}

#[test]
fn a_full_disk_behind_the_output_is_told() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let full = std::fs::File::options().write(true).open("/dev/full")?;
    let mut images = daemon::command(&daemon::binary()?);
    let output = images.args(["images"]).env("DHOW_HOST", daemon.host()).stdout(full).output()?;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr)?;
    assert!(said.starts_with("dhow: cannot write what there is to print: "), "{said}");
    daemon.leave_nothing()
}

#[test]
fn a_label_needs_a_name() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let output = daemon.dhow(&["create", "--label", "=x", "busybox", "true"])?;
    assert_eq!(
        (output.code, output.stderr.as_str()),
        (125, "dhow: invalid label \"=x\": it has no name\n")
    );
    daemon.leave_nothing()
}

/// What is refused at its first bytes, or before them, while the client has megabytes to send.
#[test]
fn an_early_refusal_is_heard_by_who_still_sends() -> Result<()> {
    let daemon = Daemon::start()?;
    let nonsense = vec![b'x'; 10 << 20];
    let cases: [(&[&str], &str); 4] = [
        (&["load"], "cannot read the archive"),
        (&["import", "-"], "cannot unpack"),
        (&["import", "-c", "NONSENSE x", "-"], "NONSENSE"),
        (&["build", "-t", "Upper/Case", "-"], "lowercase"),
    ];
    for (arguments, reason) in cases {
        for _ in 0..5 {
            let output = daemon.dhow_fed(arguments, &nonsense)?;
            assert_ne!(output.code, 0, "{arguments:?}");
            assert!(output.stderr.contains(reason), "{arguments:?}: {}", output.stderr);
            assert_eq!(
                output.stderr.lines().next().map(|line| line.starts_with("dhow: ")),
                Some(true)
            );
        }
    }
    daemon.leave_nothing()
}

/// Wherever the store's file is damaged: the daemon starts with what is left, or says so in a line.
#[test]
fn a_damaged_store_is_told() -> Result<()> {
    let mut daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    for number in 0..8 {
        daemon.ok(&["create", "--name", &format!("it{number}"), "busybox", "true"])?;
    }
    daemon.terminate()?;
    let file = daemon.folder().join("root/dhow.redb");
    let whole = std::fs::read(&file)?;
    let mut refused = 0;
    // Its pages are 4 KiB; the first ones hold the roots of the trees.
    for place in (0..16).map(|part| part * 4096).chain((1..16).map(|part| part * whole.len() / 16))
    {
        let mut damaged = whole.clone();
        damaged.iter_mut().skip(place + 8).take(256).for_each(|byte| *byte ^= 0x5a);
        std::fs::write(&file, damaged)?;
        let before = daemon.log().len();
        if daemon.launch().is_ok() {
            daemon.dhow(&["images"])?;
            daemon.kill()?;
        } else {
            refused += 1;
            let log = daemon.log();
            let said = log.get(before..).unwrap_or_default();
            assert!(said.starts_with("dhow: ") && said.contains("dhow.redb"), "{place}: {said}");
        }
    }
    assert!(refused > 0, "the damage was nowhere");
    let log = daemon.log();
    assert!(!log.contains("panicked") && !log.contains("a defect of dhow"), "{log}");
    std::fs::write(&file, whole)?;
    daemon.launch()?;
    for number in 0..8 {
        daemon.ok(&["rm", &format!("it{number}")])?;
    }
    daemon.leave_nothing()
}
