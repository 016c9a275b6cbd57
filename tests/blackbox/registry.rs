//! `pull`, against Debian's docker-registry on the loopback.

use std::path::Path;

use anyhow::{Context, Result};
use dhow_tests::{Daemon, Registry};

#[test]
fn images_are_pulled_by_tag_and_digest() -> Result<()> {
    let daemon = Daemon::start()?;
    let registry = Registry::start(daemon.folder())?;
    registry.push(daemon.folder(), "some/image:v1")?;
    let name = format!("{}/some/image:v1", registry.address);
    let said = daemon.ok(&["pull", &name])?;
    assert!(
        said.contains("Digest: sha256:") && said.contains("Status: Downloaded newer image"),
        "{said}"
    );
    assert!(said.ends_with(&name), "{said}");
    assert!(!said.contains('\u{1b}'), "plain lines in a pipe");
    assert_eq!(daemon.ok(&["run", "--rm", &name])?, "from the registry");
    let again = daemon.ok(&["pull", &name])?;
    assert!(again.contains("Image is up to date"), "{again}");
    let digest =
        said.lines().find_map(|line| line.strip_prefix("Digest: ")).context("no digest")?;
    daemon.ok(&["rmi", &name])?;
    let by_digest = format!("{}/some/image@{digest}", registry.address);
    daemon.ok(&["pull", "-q", &by_digest])?;
    assert_eq!(daemon.ok(&["run", "--rm", &by_digest])?, "from the registry");
    daemon.leave_nothing()
}

#[test]
fn run_pulls_what_is_missing() -> Result<()> {
    let daemon = Daemon::start()?;
    let registry = Registry::start(daemon.folder())?;
    registry.push(daemon.folder(), "image:latest")?;
    let name = format!("{}/image", registry.address);
    let never = daemon.dhow(&["run", "--rm", "--pull", "never", &name])?;
    assert_eq!(never.code, 125, "{}", never.stderr);
    let output = daemon.dhow(&["run", "--rm", &name])?;
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (0, "from the registry\n"),
        "{}",
        output.stderr
    );
    assert!(output.stderr.contains("Unable to find image"), "{}", output.stderr);
    daemon.leave_nothing()
}

#[test]
fn unknown_images_name_the_registry() -> Result<()> {
    let daemon = Daemon::start()?;
    let registry = Registry::start(daemon.folder())?;
    let name = format!("{}/no/such:v9", registry.address);
    let output = daemon.dhow(&["pull", &name])?;
    assert_eq!(output.code, 1);
    assert!(
        output.stderr.contains(&registry.address) && output.stderr.contains("no/such"),
        "{}",
        output.stderr
    );
    let output = daemon.dhow(&["run", "--rm", &name])?;
    assert_eq!(output.code, 125, "{}", output.stderr);
    let nobody = daemon.dhow(&["pull", "127.0.0.1:1/x"])?;
    assert!(nobody.stderr.contains("127.0.0.1:1"), "{}", nobody.stderr);
    assert_eq!(nobody.stderr.lines().filter(|line| line.starts_with("dhow: ")).count(), 1);
    daemon.leave_nothing()
}

#[test]
fn corrupt_layers_from_a_registry_are_refused() -> Result<()> {
    let daemon = Daemon::start()?;
    let registry = Registry::start(daemon.folder())?;
    registry.push(daemon.folder(), "image:v1")?;
    // The largest blob in the registry's storage is the layer.
    let mut folders = vec![daemon.folder().join("registry")];
    let mut largest = (0, Path::new("/").to_owned());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let length = entry.metadata()?.len();
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if length > largest.0 {
                largest = (length, entry.path());
            }
        }
    }
    let mut bytes = std::fs::read(&largest.1)?;
    let middle = bytes.len() / 2;
    *bytes.get_mut(middle).context("an empty layer")? ^= 1;
    std::fs::write(&largest.1, bytes)?;
    let output = daemon.dhow(&["pull", &format!("{}/image:v1", registry.address)])?;
    assert_eq!(output.code, 1);
    assert!(output.stderr.matches("sha256:").count() >= 2, "{}", output.stderr);
    assert_eq!(daemon.ok(&["images", "-aq"])?, "");
    daemon.leave_nothing()
}

#[test]
fn mirrors_are_asked_first_and_failures_are_all_told() -> Result<()> {
    let hosts = tempfile::tempdir()?;
    let folder = hosts.path().to_str().context("not text")?;
    let binary = dhow_tests::daemon::binary()?;
    let daemon = Daemon::start_with(&binary, &["--hosts-dir", folder])?;
    let registry = Registry::start(daemon.folder())?;
    registry.push(daemon.folder(), "team/image:v1")?;
    // A registry that is not there, but for its mirrors.
    let own = hosts.path().join("127.0.0.1:1");
    std::fs::create_dir(&own)?;
    let dead = "[host.\"http://127.0.0.1:2\"]\n";
    let live =
        format!("[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n", registry.address);
    std::fs::write(own.join("hosts.toml"), format!("{dead}{live}"))?;
    let name = "127.0.0.1:1/team/image:v1";
    assert_eq!(daemon.ok(&["run", "--rm", name])?, "from the registry");
    let unknown = daemon.dhow(&["pull", "127.0.0.1:1/no/such"])?;
    assert_eq!(unknown.code, 1);
    for address in ["127.0.0.1:1/", "127.0.0.1:2/", registry.address.as_str()] {
        assert!(unknown.stderr.contains(address), "{address}: {}", unknown.stderr);
    }
    // What is not understood is not passed over.
    std::fs::write(own.join("hosts.toml"), format!("{live}ca = \"x\"\n"))?;
    let refused = daemon.dhow(&["pull", name])?;
    assert!(refused.stderr.contains("hosts.toml"), "{}", refused.stderr);
    daemon.leave_nothing()
}
