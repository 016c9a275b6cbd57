//! `--security-opt`, `--ulimit`.

use std::path::Path;

use dhow_docker_wire::container::Ulimit;

use super::{bad, lists};
use crate::failure::Failure;

/// The options as the API takes them: the text of a seccomp profile in place of its file's path.
pub(super) fn options(flags: &[String]) -> Result<Vec<String>, Failure> {
    flags.iter().map(|flag| option(flag)).collect()
}

fn option(flag: &str) -> Result<String, Failure> {
    let profile = flag.strip_prefix("seccomp=").or_else(|| flag.strip_prefix("seccomp:"));
    match profile {
        Some("unconfined" | "builtin") | None => Ok(flag.to_owned()),
        Some(file) => {
            let text = lists::read(Path::new(file))?;
            let profile: serde_json::Value = serde_json::from_str(&text)
                .map_err(|error| bad(format!("the seccomp profile {file} is not JSON: {error}")))?;
            Ok(format!("seccomp={profile}"))
        }
    }
}

/// `NAME=SOFT[:HARD]`.
pub(super) fn ulimit(flag: &str) -> Result<Ulimit, Failure> {
    let invalid = || bad(format!("invalid ulimit argument: {flag}"));
    let (name, limits) = flag.split_once('=').ok_or_else(invalid)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| match text {
        "unlimited" => Ok(-1),
        text => text.parse().map_err(|_| invalid()),
    };
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard != -1 && (soft > hard || soft == -1) {
        return Err(bad(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )));
    }
    Ok(Ulimit { name: name.to_owned(), hard, soft })
}
