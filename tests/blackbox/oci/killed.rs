//! Commands that are killed at any moment leave what `delete --force` clears.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dhow_tests::Bundle;

/// How many moments of a command are tried.
const MOMENTS: u32 = 32;

/// Runs `dhow oci` and kills it after a part of `whole`; says when that was.
fn killed(bundle: &Bundle, arguments: &[&str], moment: u32, whole: Duration) -> Result<String> {
    let mut command = bundle.command(arguments)?;
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = command.spawn()?;
    // Not waiting for anything: this is the moment.
    std::thread::sleep(whole.min(Duration::from_millis(100)) * moment / MOMENTS);
    process.kill()?;
    process.wait()?;
    Ok(format!("killed after {moment} of {MOMENTS} parts of {whole:?}"))
}

#[test]
fn a_create_that_is_killed_at_any_moment_is_cleared() -> Result<()> {
    let bundle = Bundle::new(&["sleep", "1000"])?;
    let begin = Instant::now();
    bundle.create()?;
    let whole = begin.elapsed();
    bundle.ok(&["delete", "--force", bundle.id()])?;
    for moment in 0..MOMENTS {
        let create = ["create", "-b", &bundle.shown(), bundle.id()];
        let told = killed(&bundle, &create, moment, whole)?;
        bundle.ok(&["delete", "--force", bundle.id()]).with_context(|| told.clone())?;
        bundle.nothing_left().context(told)?;
    }
    Ok(())
}

#[test]
fn a_start_or_a_delete_that_is_killed_at_any_moment_is_cleared() -> Result<()> {
    let bundle = Bundle::new(&["sleep", "1000"])?;
    bundle.create()?;
    let begin = Instant::now();
    bundle.ok(&["delete", "--force", bundle.id()])?;
    let whole = begin.elapsed();
    for moment in 0..MOMENTS {
        bundle.create()?;
        let victim = if moment % 2 == 0 { &["start"][..] } else { &["delete", "--force"] };
        let told = killed(&bundle, &[victim, &[bundle.id()]].concat(), moment, whole)?;
        bundle.ok(&["delete", "--force", bundle.id()]).with_context(|| told.clone())?;
        bundle.nothing_left().context(told)?;
    }
    Ok(())
}
