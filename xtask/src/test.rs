//! `cargo xtask test`: everything that CI checks, in the order in which it fails fastest.

use anyhow::Result;

use crate::run::{Profile, build, cargo, must};
use crate::{demo, guest, packages, tidy};

/// Checks everything.
pub(crate) fn run() -> Result<()> {
    packages::install(packages::FOR_TESTS)?;
    packages::install_nextest()?;
    must(&mut cargo(&["fmt", "--all", "--check"]))?;
    tidy::run()?;
    must(&mut cargo(&[
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "--deny=warnings",
    ]))?;
    let binary = build("dhow", Profile::Debug)?;
    tidy::binary(&binary)?;
    must(cargo(&["nextest", "run", "--workspace"]).env("DHOW_BIN", &binary))?;
    guest::run(Profile::Debug)?;
    demo::run(Profile::Debug)
}

/// Runs the tests whose name contains `filter`.
pub(crate) fn filtered(filter: &str) -> Result<()> {
    let binary = build("dhow", Profile::Debug)?;
    must(cargo(&["nextest", "run", "--workspace", filter]).env("DHOW_BIN", binary))
}

/// Runs the repeating tests with their full counts.
pub(crate) fn soak() -> Result<()> {
    packages::install(packages::FOR_TESTS)?;
    let binary = build("dhow", Profile::Release)?;
    must(
        cargo(&["nextest", "run", "--package", "dhow-tests", "--profile", "soak", "soak"])
            .env("DHOW_BIN", binary)
            .env("DHOW_SOAK", "1"),
    )
}
