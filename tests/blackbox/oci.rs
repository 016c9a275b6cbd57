//! `dhow oci`: bundles without a daemon.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use dhow_tests::{Output, daemon, images};
use serde_json::{Value, json};

/// A bundle of busybox in a folder of its own.
struct Bundle(tempfile::TempDir);

impl Bundle {
    /// Makes one whose process runs `arguments`.
    fn new(arguments: &[&str]) -> Result<Self> {
        let bundle = Self(tempfile::Builder::new().prefix("dhow-").tempdir()?);
        images::unpack_busybox(&bundle.path("rootfs"))?;
        bundle.oci(&["spec", "--bundle", &bundle.path("").to_string_lossy()])?.ok()?;
        bundle.change(|config| {
            config["process"]["terminal"] = json!(false);
            config["process"]["args"] = json!(arguments);
        })?;
        Ok(bundle)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn change(&self, change: impl Fn(&mut Value)) -> Result<()> {
        let path = self.path("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
        change(&mut config);
        Ok(fs::write(&path, serde_json::to_vec(&config)?)?)
    }

    fn oci(&self, arguments: &[&str]) -> Result<Output> {
        let mut oci = daemon::command(&daemon::binary()?);
        oci.args(["oci", "--root"]).arg(self.path("state")).args(arguments);
        daemon::finish(oci.stdin(std::process::Stdio::null()))
    }

    fn run(&self, id: &str) -> Result<Output> {
        self.oci(&["run", "--bundle", &self.path("").to_string_lossy(), id])
    }
}

/// An id that no other test has.
fn id(name: &str) -> String {
    format!("{name}{}", std::process::id())
}

#[test]
fn bundles_run_in_the_foreground() -> Result<()> {
    let bundle = Bundle::new(&["sh", "-c", "echo out; echo err >&2; hostname; echo $$; exit 6"])?;
    let id = id("foreground");
    let output = bundle.run(&id)?;
    assert_eq!((output.code, output.stderr.as_str()), (6, "err\n"), "{output:?}");
    let lines: Vec<_> = output.stdout.lines().collect();
    assert_eq!((lines.first(), lines.last()), (Some(&"out"), Some(&"1")), "{output:?}");
    assert_eq!(fs::read_dir(bundle.path("state"))?.count(), 0, "its id is free again");
    let cgroup = Path::new("/sys/fs/cgroup/memory").join(format!("dhow-oci-{id}"));
    assert!(!cgroup.exists());
    Ok(())
}

#[test]
fn cve_2019_5736_the_runtime_is_sealed() -> Result<()> {
    let bundle = Bundle::new(&["sh", "-c", "echo x >> /proc/1/exe; true"])?;
    // An image's entrypoint that is the runtime itself: what it opens is a read-only view.
    bundle.change(|config| config["process"]["args"] = json!(["/proc/self/exe", "--version"]))?;
    let before = fs::read(daemon::binary()?)?;
    let output = bundle.run(&id("sealed"))?;
    assert_eq!(fs::read(daemon::binary()?)?, before, "{output:?}");
    Ok(())
}

#[test]
fn mistakes_are_told() -> Result<()> {
    let bundle = Bundle::new(&["nosuch"])?;
    let missing = bundle.run(&id("mistakes"))?;
    assert_ne!(missing.code, 0);
    assert!(missing.stderr.contains("\"nosuch\""), "{}", missing.stderr);
    assert_eq!(fs::read_dir(bundle.path("state"))?.count(), 0);
    fs::write(bundle.path("config.json"), "{\"ociVersion\": 7}")?;
    let malformed = bundle.run(&id("mistakes"))?;
    assert!(malformed.stderr.contains("line 1 column"), "{}", malformed.stderr);
    for (arguments, said) in [
        (&["create", "x"][..], "not built yet"),
        (&["run", "../x"], "invalid container id"),
        (&["nope"], "nope"),
    ] {
        let output = bundle.oci(arguments)?;
        assert_eq!(output.code, 1, "{output:?}");
        assert!(output.stderr.contains(said), "{}", output.stderr);
    }
    assert!(bundle.oci(&["--version"])?.ok()?.contains("spec: "));
    Ok(())
}
