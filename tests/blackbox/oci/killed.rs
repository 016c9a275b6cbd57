//! Commands that are killed at any moment leave what `delete --force` clears.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dhow_tests::Bundle;

/// How many moments of a create are tried.
const MOMENTS: u32 = 32;

#[test]
fn a_create_that_is_killed_at_any_moment_is_cleared() -> Result<()> {
    let bundle = Bundle::new(&["sleep", "1000"])?;
    let begin = Instant::now();
    bundle.create()?;
    let whole = begin.elapsed();
    bundle.ok(&["delete", "--force", bundle.id()])?;
    for moment in 0..MOMENTS {
        let arguments = ["create", "-b", &bundle.shown(), bundle.id()];
        let mut command = bundle.command(&arguments)?;
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut create = command.spawn()?;
        // Not waiting for anything: this is the moment.
        std::thread::sleep(whole.min(Duration::from_millis(100)) * moment / MOMENTS);
        create.kill()?;
        create.wait()?;
        let told = || format!("killed after {moment} of {MOMENTS} parts of {whole:?}");
        bundle.ok(&["delete", "--force", bundle.id()]).with_context(told)?;
        bundle.nothing_left().with_context(told)?;
    }
    Ok(())
}
