//! The JSON form, read into a [`Profile`]. Go writes null for an empty list, so every list may be null.

use std::str::FromStr;

use dhow_spec::oci_runtime::{
    Arch, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompFilterFlag,
    LinuxSeccompOperator,
};
use serde::Deserialize;

use super::{Conditions, NATIVE, Profile, Rule};
use crate::Result;
use crate::error::SeccompError;

const MAX_BYTES: usize = 1 << 20;
const MAX_RULES: usize = 4096;
const MAX_NAMES: usize = 65_536;
const MAX_ARGUMENTS: usize = 64;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    default_action: Option<LinuxSeccompAction>,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchEntry>>,
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    syscalls: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchEntry {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    name: Option<String>,
    names: Option<Vec<String>>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    args: Option<Vec<Argument>>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: usize,
    value: u64,
    value_two: Option<u64>,
    op: LinuxSeccompOperator,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Filter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

pub(super) fn parse(json: &[u8]) -> Result<Profile> {
    at_most("its size in bytes", json.len(), MAX_BYTES)?;
    let document: Document = serde_json::from_slice(json).map_err(SeccompError::Json)?;
    let entries = document.syscalls.unwrap_or_default();
    at_most("its number of rules", entries.len(), MAX_RULES)?;
    let names = entries.iter().map(|entry| entry.names.as_ref().map_or(1, Vec::len)).sum();
    at_most("its number of names", names, MAX_NAMES)?;
    let notifies = |entry: &Entry| entry.action == LinuxSeccompAction::ScmpActNotify;
    let has_path = document.listener_path.is_some_and(|path| !path.is_empty());
    for (is_asked_for, what) in
        [(has_path, "listenerPath"), (entries.iter().any(notifies), "SCMP_ACT_NOTIFY")]
    {
        if is_asked_for {
            let why = "containers of the daemon have no listener to answer";
            return Err(SeccompError::Unsupported { what: what.into(), why });
        }
    }
    let default_action = match document.default_action {
        Some(action) => action,
        // As Docker has it: nothing at all means no filter.
        None if entries.is_empty() => LinuxSeccompAction::ScmpActAllow,
        None => return contradiction("it has rules but no defaultAction"),
    };
    Ok(Profile {
        default_action,
        default_errno: document.default_errno_ret,
        architectures: architectures(document.architectures, document.arch_map)?,
        flags: document.flags.map(parse_flags).transpose()?,
        rules: entries.into_iter().map(rule).collect::<Result<_>>()?,
    })
}

fn contradiction<T>(text: impl Into<String>) -> Result<T> {
    Err(SeccompError::Contradiction(text.into()))
}

fn at_most(what: &'static str, size: usize, limit: usize) -> Result<()> {
    if size <= limit { Ok(()) } else { Err(SeccompError::TooLarge { what, size, limit }) }
}

/// The interfaces to cover here. Names of other machines' architectures need not be known.
fn architectures(list: Option<Vec<String>>, map: Option<Vec<ArchEntry>>) -> Result<Vec<Arch>> {
    let list = list.unwrap_or_default();
    let map = map.unwrap_or_default();
    if !list.is_empty() && !map.is_empty() {
        return contradiction("it has both architectures and archMap");
    }
    let known =
        |names: Vec<String>| names.into_iter().filter_map(|name| Arch::from_str(&name).ok());
    if !list.is_empty() {
        return Ok(known(list).collect());
    }
    let native = map.into_iter().find(|entry| Arch::from_str(&entry.architecture) == Ok(NATIVE));
    let Some(native) = native else { return Ok(Vec::new()) };
    Ok([NATIVE].into_iter().chain(known(native.sub_architectures.unwrap_or_default())).collect())
}

fn parse_flags(names: Vec<String>) -> Result<Vec<LinuxSeccompFilterFlag>> {
    names
        .into_iter()
        .map(|name| {
            LinuxSeccompFilterFlag::from_str(&name).map_err(|_| SeccompError::Unsupported {
                what: format!("flag {name:?}"),
                why: "it is not one of the OCI's",
            })
        })
        .collect()
}

fn rule(entry: Entry) -> Result<Rule> {
    let names = entry.names.unwrap_or_default();
    let names = match entry.name.filter(|name| !name.is_empty()) {
        Some(name) if names.is_empty() => vec![name],
        Some(name) => return contradiction(format!("a rule has both name {name:?} and names")),
        None => names,
    };
    let args = entry.args.unwrap_or_default();
    at_most("a rule's number of arguments", args.len(), MAX_ARGUMENTS)?;
    Ok(Rule {
        names,
        action: entry.action,
        errno: entry.errno_ret,
        args: args.into_iter().map(argument).collect::<Result<_>>()?,
        includes: conditions(entry.includes)?,
        excludes: conditions(entry.excludes)?,
    })
}

fn argument(argument: Argument) -> Result<LinuxSeccompArg> {
    if argument.index > 5 {
        let text = format!("argument {} of a system call, which has 0 to 5", argument.index);
        return contradiction(text);
    }
    LinuxSeccompArgBuilder::default()
        .index(argument.index)
        .value(argument.value)
        .value_two(argument.value_two.unwrap_or(0))
        .op(argument.op)
        .build()
        .or_else(|error| contradiction(error.to_string()))
}

fn conditions(filter: Option<Filter>) -> Result<Conditions> {
    let filter = filter.unwrap_or_default();
    let capabilities = filter.caps.unwrap_or_default();
    let plain = |name: String| name.strip_prefix("CAP_").map(str::to_owned).unwrap_or(name);
    let min_kernel = filter.min_kernel.filter(|version| !version.is_empty());
    Ok(Conditions {
        capabilities: capabilities.into_iter().map(plain).collect(),
        architectures: filter.arches.unwrap_or_default(),
        min_kernel: min_kernel.map(|version| version.parse()).transpose()?,
    })
}
