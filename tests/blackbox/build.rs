//! `build`.

use std::fs;

use anyhow::Result;
use dhow_tests::{Daemon, images};

#[test]
fn dockerfiles_make_images() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let context = daemon.folder().join("context");
    fs::create_dir_all(context.join("sub"))?;
    fs::write(context.join("file"), "content\n")?;
    fs::write(context.join("sub/other"), "other\n")?;
    fs::write(context.join("secret"), "hidden\n")?;
    fs::write(context.join(".dockerignore"), "secret\n")?;
    let dockerfile = "# A comment\nARG BASE=busybox\nFROM ${BASE} AS first\nCOPY file /copied\n\
        FROM first\nENV A=1 B=\"two words\"\nWORKDIR /work\nCOPY --chown=1000:1000 . .\n\
        COPY --from=first /copied /twice\nLABEL made=\"by a test\"\nEXPOSE 80/tcp\nUSER plain\n\
        CMD [\"sh\", \"-c\", \"pwd; id -u; echo $B; cat /twice sub/other; ls -A; stat -c %u file\"]\n";
    fs::write(context.join("Dockerfile"), dockerfile)?;
    let context = context.to_string_lossy();
    let said = daemon.ok(&["build", "-t", "built:v1", &context])?;
    assert!(said.contains("Step 1/") && said.contains("Successfully tagged built:v1"), "{said}");
    let run = daemon.ok(&["run", "--rm", "built:v1"])?;
    let lines: Vec<_> = run.lines().collect();
    assert_eq!(
        lines.get(..5),
        Some(&["/work", "1000", "two words", "content", "other"][..]),
        "{run}"
    );
    assert!(!run.contains("secret") && run.ends_with("1000"), "{run}");
    let label = daemon.ok(&["inspect", "-f", "{{.Config.Labels.made}}", "built:v1"])?;
    assert_eq!(label, "by a test");
    let id = daemon.ok(&["build", "-q", &context])?;
    assert!(id.starts_with("sha256:"), "{id}");
    daemon.leave_nothing()
}

#[test]
fn bad_dockerfiles_are_told_by_line() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let context = daemon.folder().join("context");
    fs::create_dir(&context)?;
    let cases = [
        ("FROM busybox\nNOPE x\n", "2"),
        ("FROM busybox\nRUN true\n", "RUN"),
        ("FROM busybox\nCOPY missing /x\n", "missing"),
        ("COPY x /x\n", "FROM"),
        ("", "no instructions"),
        ("FROM busybox\nCOPY ../../../../etc/passwd /x\n", "etc/passwd"),
    ];
    for (dockerfile, expected) in cases {
        fs::write(context.join("Dockerfile"), dockerfile)?;
        let output = daemon.dhow(&["build", &context.to_string_lossy()])?;
        assert_eq!(output.code, 1, "{dockerfile}: {output:?}");
        assert!(output.stderr.contains(expected), "{dockerfile}: {}", output.stderr);
    }
    let missing = daemon.dhow(&["build", "/no/such/folder"])?;
    assert!(missing.stderr.contains("/no/such/folder"), "{}", missing.stderr);
    daemon.leave_nothing()
}
