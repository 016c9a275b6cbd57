//! The stock docker CLI, which must not notice the difference.

use anyhow::Result;
use dhow_tests::{Daemon, images};

#[test]
fn the_stock_docker_cli_works() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let ok = |arguments: &[&str]| daemon.docker(arguments)?.ok();
    assert_eq!(ok(&["run", "--rm", "busybox", "echo", "hello"])?, "hello");
    let coded =
        daemon.docker(&["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"])?;
    assert_eq!((coded.code, coded.stdout.as_str(), coded.stderr.as_str()), (3, "out\n", "err\n"));
    let id = ok(&[
        "run",
        "-d",
        "--name",
        "it",
        "-p",
        "127.0.0.1::80",
        "-e",
        "A=b",
        "busybox",
        "sh",
        "-c",
        "echo started; sleep 1000",
    ])?;
    assert_eq!(id.len(), 64);
    let listed = ok(&["ps"])?;
    assert!(
        listed.contains("it") && listed.contains("Up ") && listed.contains("->80/tcp"),
        "{listed}"
    );
    assert_eq!(
        ok(&["ps", "--filter", "name=it", "--format", "{{.Names}}:{{.State}}"])?,
        "it:running"
    );
    assert_eq!(ok(&["exec", "it", "sh", "-c", "echo $A"])?, "b");
    assert_eq!(daemon.docker(&["exec", "it", "false"])?.code, 1);
    assert_eq!(ok(&["logs", "it"])?, "started");
    assert_eq!(
        ok(&["inspect", "-f", "{{.State.Running}} {{.Config.Image}}", "it"])?,
        "true busybox"
    );
    assert!(ok(&["port", "it"])?.starts_with("80/tcp -> 127.0.0.1:"));
    assert_eq!(ok(&["stop", "-t", "0", "it"])?, "it");
    assert_eq!(ok(&["wait", "it"])?, "137");
    assert_eq!(ok(&["rm", "it"])?, "it");
    let images = ok(&["images"])?;
    assert!(images.contains("busybox") && images.contains("latest"), "{images}");
    let missing = daemon.docker(&["run", "--rm", "busybox", "nosuch"])?;
    assert_eq!(missing.code, 127, "{}", missing.stderr);
    let denied = daemon.docker(&["run", "--rm", "busybox", "/etc/passwd"])?;
    assert_eq!(denied.code, 126, "{}", denied.stderr);
    let unknown = daemon.docker(&["run", "--rm", "--pull", "never", "nosuch", "true"])?;
    assert_eq!(unknown.code, 125, "{}", unknown.stderr);
    for verb in [&["version"][..], &["info"], &["network", "ls"]] {
        ok(verb)?;
    }
    assert!(ok(&["rmi", "busybox"])?.contains("Deleted: sha256:"));
    daemon.leave_nothing()
}

#[test]
fn the_stock_docker_cli_is_told_what_does_not_exist() -> Result<()> {
    let daemon = Daemon::start()?;
    // It asks for a container, an image, a network, a volume … of that name, until one is no 404.
    let output = daemon.docker(&["inspect", "nosuch"])?;
    assert_eq!(output.code, 1);
    assert!(output.stderr.to_lowercase().contains("no such object: nosuch"), "{}", output.stderr);
    daemon.leave_nothing()
}
