//! `push`, `login` and `logout`, against Debian's docker-registry on the loopback.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use dhow_tests::{Daemon, Registry, daemon, images};

/// What skopeo finds at an address.
fn inspect(address: &str) -> Result<serde_json::Value> {
    let mut skopeo = daemon::command(Path::new("skopeo"));
    let skopeo = skopeo.args(["inspect", "--tls-verify=false", &format!("docker://{address}")]);
    Ok(serde_json::from_str(&daemon::finish(skopeo)?.ok()?)?)
}

/// The digest that a push printed.
fn digest(said: &str) -> Result<String> {
    let word = said.split_whitespace().find(|word| word.starts_with("sha256:"));
    Ok(word.with_context(|| format!("no digest: {said}"))?.to_owned())
}

#[test]
fn what_was_made_here_is_pushed_and_runs_elsewhere() -> Result<()> {
    let daemon = Daemon::start()?;
    let registry = Registry::start(daemon.folder())?;
    images::busybox(&daemon)?;
    let name = format!("{}/team/app", registry.address);
    daemon.ok(&["tag", "busybox", &name])?;
    let said = daemon.ok(&["push", &name])?;
    let first = format!("Using default tag: latest\nThe push refers to repository [{name}]\n");
    ensure!(said.starts_with(&first) && said.contains(": Pushed\n"), "{said}");
    let digest = digest(&said)?;
    ensure!(said.lines().last().is_some_and(|it| it.starts_with("latest: digest: ")), "{said}");
    let found = inspect(&name)?;
    assert_eq!(found["Digest"], digest.as_str());
    let listed = daemon.ok(&["images", "--digests", "--format", "{{.Digest}}", &name])?;
    assert_eq!(listed, digest);
    // Once more, and from another store: the same bytes.
    let again = daemon.ok(&["push", &name])?;
    ensure!(again.contains(": Layer already exists\n") && again.contains(&digest), "{again}");
    let other = Daemon::start()?;
    assert_eq!(other.ok(&["run", "--rm", &name, "echo", "there"])?, "there");
    let moved = format!("{}/moved/app:v2", registry.address);
    other.ok(&["tag", &name, &moved])?;
    let said = other.ok(&["push", &moved])?;
    ensure!(said.contains(": Mounted from team/app\n") && said.contains(&digest), "{said}");
    other.leave_nothing()?;
    daemon.leave_nothing()
}

#[test]
fn what_was_pulled_keeps_its_digest() -> Result<()> {
    let daemon = Daemon::start()?;
    let registry = Registry::start(daemon.folder())?;
    registry.push(daemon.folder(), "some/image:v1")?;
    let before = inspect(&format!("{}/some/image:v1", registry.address))?;
    let name = format!("{}/some/image", registry.address);
    daemon.ok(&["pull", &format!("{name}:v1")])?;
    for tag in ["v2", "v3"] {
        daemon.ok(&["tag", &format!("{name}:v1"), &format!("{name}:{tag}")])?;
    }
    assert_eq!(daemon.ok(&["push", "-q", "--all-tags", &name])?, name);
    for tag in ["v2", "v3"] {
        assert_eq!(inspect(&format!("{name}:{tag}"))?["Digest"], before["Digest"], "{tag}");
    }
    let both = daemon.dhow(&["push", "-a", &format!("{name}:v1")])?;
    assert_eq!((both.code, both.stderr.contains("--all-tags")), (1, true), "{}", both.stderr);
    let unknown = daemon.dhow(&["push", &format!("{}/no/such", registry.address)])?;
    ensure!(unknown.code == 1, "{}", unknown.stderr);
    ensure!(unknown.stderr.contains("does not exist locally"), "{}", unknown.stderr);
    daemon.leave_nothing()
}

#[test]
fn stock_docker_pushes_through_the_daemon() -> Result<()> {
    let daemon = Daemon::start()?;
    let registry = Registry::start(daemon.folder())?;
    images::busybox(&daemon)?;
    let name = format!("{}/by/docker:1", registry.address);
    daemon.docker(&["tag", "busybox", &name])?.ok()?;
    let said = daemon.docker(&["push", &name])?.ok()?;
    assert_eq!(inspect(&name)?["Digest"], digest(&said)?.as_str());
    daemon.leave_nothing()
}

#[test]
fn a_locked_registry_opens_to_those_who_log_in() -> Result<()> {
    let daemon = Daemon::start()?;
    let registry = Registry::start_locked(daemon.folder())?;
    images::busybox(&daemon)?;
    let config = daemon.folder().join("docker-config");
    let dhow = |arguments: &[&str]| {
        daemon::finish(daemon.command(arguments).env("DOCKER_CONFIG", &config))
    };
    let name = format!("{}/private:1", registry.address);
    daemon.ok(&["tag", "busybox", &name])?;
    let refused = dhow(&["push", &name])?;
    ensure!(refused.code == 1 && refused.stderr.contains("dhow login"), "{}", refused.stderr);
    let wrong = dhow(&["login", "-u", "user", "-p", "wrong", &registry.address])?;
    ensure!(wrong.code == 1 && !config.exists(), "{}", wrong.stderr);
    let said = dhow(&["login", "-u", "user", "-p", "secret", &registry.address])?.ok()?;
    assert_eq!(said, "Login Succeeded");
    let mode = std::fs::metadata(config.join("config.json"))?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    dhow(&["push", &name])?.ok()?;
    // docker reads what dhow wrote, and the other way round.
    daemon.docker(&["pull", &name])?.ok()?;
    daemon.ok(&["rmi", "-f", &name, "busybox"])?;
    dhow(&["pull", &name])?.ok()?;
    let said = dhow(&["logout", &registry.address])?.ok()?;
    assert_eq!(said, format!("Removing login credentials for {}", registry.address));
    ensure!(dhow(&["pull", &name])?.code == 1);
    let said = dhow(&["logout", &registry.address])?.ok()?;
    assert_eq!(said, format!("Not logged in to {}", registry.address));
    daemon.leave_nothing()
}

#[test]
fn helpers_keep_secrets_out_of_the_file() -> Result<()> {
    let daemon = Daemon::start()?;
    let registry = Registry::start_locked(daemon.folder())?;
    images::busybox(&daemon)?;
    let folder = daemon.folder().join("helpers");
    std::fs::create_dir_all(folder.join("config"))?;
    // It keeps what it gets in a file beside it.
    let script = "#!/bin/busybox sh\nkept=\"${0%/*}/kept\"\ncase $1 in\n\
        store) cat >\"$kept\";;\nerase) rm -f \"$kept\";;\n\
        get) [ -e \"$kept\" ] && cat \"$kept\" || { echo 'credentials not found in native keychain'; exit 1; };;\nesac\n";
    let helper = images::file(&folder, "docker-credential-test", script.as_bytes())?;
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755))?;
    let config = images::file(&folder.join("config"), "config.json", br#"{"credsStore":"test"}"#)?;
    let path = format!("{}:{}", folder.display(), std::env::var("PATH")?);
    let dhow = |arguments: &[&str]| {
        let mut command = daemon.command(arguments);
        daemon::finish(command.env("DOCKER_CONFIG", folder.join("config")).env("PATH", &path))
    };
    let name = format!("{}/private:1", registry.address);
    daemon.ok(&["tag", "busybox", &name])?;
    dhow(&["login", "-u", "user", "-p", "secret", &registry.address])?.ok()?;
    ensure!(!std::fs::read_to_string(&config)?.contains("auth\""));
    ensure!(std::fs::read_to_string(folder.join("kept"))?.contains("secret"));
    dhow(&["push", &name])?.ok()?;
    dhow(&["logout", &registry.address])?.ok()?;
    ensure!(!folder.join("kept").exists());
    ensure!(dhow(&["push", &name])?.code == 1);
    daemon.leave_nothing()
}
