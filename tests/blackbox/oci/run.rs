//! `run`: bundles in the foreground.

use std::fs;
use std::path::Path;

use anyhow::Result;
use dhow_tests::Bundle;

#[test]
fn bundles_run_in_the_foreground() -> Result<()> {
    let bundle = Bundle::new(&["sh", "-c", "echo out; echo err >&2; hostname; echo $$; exit 6"])?;
    let output = bundle.run()?;
    assert_eq!((output.code, output.stderr.as_str()), (6, "err\n"), "{output:?}");
    let lines: Vec<_> = output.stdout.lines().collect();
    assert_eq!((lines.first(), lines.last()), (Some(&"out"), Some(&"1")), "{output:?}");
    assert_eq!(fs::read_dir(bundle.path("state"))?.count(), 0, "its id is free again");
    assert!(!Path::new("/sys/fs/cgroup/memory").join(bundle.id()).exists());
    bundle.nothing_left()
}

#[test]
fn mistakes_are_told() -> Result<()> {
    let bundle = Bundle::new(&["nosuch"])?;
    let missing = bundle.run()?;
    assert_ne!(missing.code, 0);
    assert!(missing.stderr.contains("nosuch"), "{}", missing.stderr);
    assert_eq!(fs::read_dir(bundle.path("state"))?.count(), 0);
    for (arguments, code, said) in
        [(&["run", "../x"][..], 1, "invalid container ID"), (&["nope"], 3, "nope")]
    {
        let output = bundle.oci(arguments)?;
        assert_eq!(output.code, code, "{output:?}");
        assert!(output.stderr.contains(said), "{}", output.stderr);
    }
    assert!(bundle.ok(&["--version"])?.contains("spec: "));
    bundle.nothing_left()
}
