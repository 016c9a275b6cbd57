//! Reading a container's configuration, `config.json` of the OCI runtime specification, so that what is
//! wrong in it is told by its place: `config.json: process.rlimits[0].type: unknown variant ...`.
//!
//! The text comes from outside: its size is bounded here, its nesting by the JSON reader (128 levels).
//! Properties that are not known are passed over (config.md, "Extensibility"); a capability that is not
//! known is left out with a warning (config.md, "Linux Process").

use std::str::FromStr;

use dhow_error::{Classify, Kind};
use oci_spec::runtime::{Capability, LinuxSchedulerFlag, Spec};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// No configuration has more bytes.
pub const LARGEST_CONFIGURATION: usize = 16 << 20;

/// A configuration that has been read.
#[derive(Debug)]
pub struct Configuration {
    /// What it says.
    pub spec: Spec,
    /// What of it was left out.
    pub warnings: Vec<String>,
}

/// Why a text is no configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    /// It is larger than [`LARGEST_CONFIGURATION`].
    #[error("config.json: it is larger than {} MiB", LARGEST_CONFIGURATION >> 20)]
    TooLarge,
    /// It is not JSON.
    #[error("config.json: {0}")]
    Malformed(String),
    /// A value is not what the specification says.
    #[error("config.json: {path}: {what}")]
    Value {
        /// Where it is, such as `process.rlimits[0].type`.
        path: String,
        /// What is wrong with it.
        what: String,
    },
}

impl Classify for ConfigurationError {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }

    fn hint(&self) -> Option<String> {
        None
    }
}

impl Configuration {
    /// Reads a configuration.
    ///
    /// Errors: [`ConfigurationError`], with the place of what is wrong.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigurationError> {
        let mut warnings = Vec::new();
        let spec: Spec = match read(json) {
            Err(ConfigurationError::Value { path, .. })
                if [CAPABILITIES, SCHEDULER_FLAGS].iter().any(|it| path.starts_with(it)) =>
            {
                let mut value: Value = read(json)?;
                leave_out_unknown(&mut value, &mut warnings);
                name_scheduler_flags(&mut value);
                serde_path_to_error::deserialize(value).map_err(at_place)?
            }
            other => other?,
        };
        check_version(spec.version())?;
        if spec.root().as_ref().is_some_and(|root| root.path().as_os_str().is_empty()) {
            return Err(wrong("root.path", "it is missing"));
        }
        let annotations = spec.annotations().iter().flatten();
        if annotations.into_iter().any(|(key, _)| key.is_empty()) {
            return Err(wrong("annotations", "a key is empty"));
        }
        Ok(Self { spec, warnings })
    }
}

/// Where the capabilities are.
const CAPABILITIES: &str = "process.capabilities";

/// Where the scheduler's flags are.
const SCHEDULER_FLAGS: &str = "process.scheduler.flags";
/// Names of those flags that the types know by another one.
const OTHERWISE_NAMED: [(&str, LinuxSchedulerFlag); 2] = [
    ("SCHED_FLAG_RESET_ON_FORK", LinuxSchedulerFlag::SchedResetOnFork),
    ("SCHED_FLAG_DL_OVERRUN", LinuxSchedulerFlag::SchedFlagDLOverrun),
];

/// Reads the first JSON value, which is to be the only one.
fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, ConfigurationError> {
    if json.len() > LARGEST_CONFIGURATION {
        return Err(ConfigurationError::TooLarge);
    }
    // An array would be taken for an object by the order of its members.
    if !json.trim_ascii_start().starts_with(b"{") {
        return Err(ConfigurationError::Malformed("it is not a JSON object".to_owned()));
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(at_place)?;
    reader.end().map_err(|error| ConfigurationError::Malformed(error.to_string()))?;
    Ok(value)
}

fn at_place(error: serde_path_to_error::Error<serde_json::Error>) -> ConfigurationError {
    let (path, what) = (error.path().to_string(), error.inner().to_string());
    // A value that is cut off or no JSON has no place but its line and column.
    if path == "." || error.inner().is_syntax() || error.inner().is_eof() {
        return ConfigurationError::Malformed(what);
    }
    ConfigurationError::Value { path, what }
}

fn wrong(path: &str, what: impl Into<String>) -> ConfigurationError {
    ConfigurationError::Value { path: path.to_owned(), what: what.into() }
}

/// Gives the scheduler's flags the names that the types know.
fn name_scheduler_flags(configuration: &mut Value) {
    let flags = configuration.pointer_mut("/process/scheduler/flags").and_then(Value::as_array_mut);
    for flag in flags.into_iter().flatten() {
        let known = OTHERWISE_NAMED.iter().find(|(name, _)| flag.as_str() == Some(name));
        if let Some(Ok(name)) = known.map(|(_, known)| serde_json::to_value(known)) {
            *flag = name;
        }
    }
}

/// Takes capabilities that nobody knows out of all sets.
fn leave_out_unknown(configuration: &mut Value, warnings: &mut Vec<String>) {
    let sets = configuration.pointer_mut("/process/capabilities").and_then(Value::as_object_mut);
    for set in sets.into_iter().flatten().filter_map(|(_, set)| set.as_array_mut()) {
        set.retain(|entry| {
            // What is no text is told by the reader.
            let Some(name) = entry.as_str() else { return true };
            let plain = name.strip_prefix("CAP_").unwrap_or(name);
            let is_known = Capability::from_str(plain).is_ok();
            let warning = format!("the unknown capability {name:?} is left out");
            if !is_known && !warnings.contains(&warning) {
                warnings.push(warning);
            }
            is_known
        });
    }
}

/// The version follows SemVer 2.0.0, and is one that we follow: 1.x, or 0.x from before the first.
fn check_version(version: &str) -> Result<(), ConfigurationError> {
    const PLACE: &str = "ociVersion";
    if version.is_empty() {
        return Err(wrong(PLACE, "it is missing"));
    }
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let is_number = |part: &str| {
        let has_extra_zero = part.len() > 1 && part.starts_with('0');
        !part.is_empty() && part.bytes().all(|it| it.is_ascii_digit()) && !has_extra_zero
    };
    let parts: Vec<&str> = core.split('.').collect();
    if parts.len() != 3 || !parts.iter().all(|part| is_number(part)) {
        return Err(wrong(PLACE, format!("{version:?} is not a semantic version")));
    }
    match parts.first() {
        Some(&("0" | "1")) => Ok(()),
        _ => Err(wrong(PLACE, format!("{version:?} is not supported: it is to be 1.x"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn minimal() -> Value {
        serde_json::json!({
            "ociVersion": "1.3.0",
            "root": {"path": "rootfs"},
            "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["true"]},
        })
    }

    fn parsed(value: &Value) -> Result<Configuration, String> {
        Configuration::parse(&serde_json::to_vec(value).unwrap()).map_err(|error| error.to_string())
    }

    /// What is said when the value at `pointer` of a configuration is another.
    fn said(pointer: &str, value: Value) -> String {
        let mut configuration = minimal();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        configuration.pointer_mut(parent).unwrap()[name] = value;
        parsed(&configuration).expect_err(pointer)
    }

    #[test]
    fn what_is_wrong_is_told_by_its_place() {
        let cases = [
            ("/process/cwd", serde_json::json!(5), "config.json: process.cwd: invalid type"),
            (
                "/process/rlimits",
                serde_json::json!([{"type": "RLIMIT_X", "soft": 1, "hard": 1}]),
                "config.json: process.rlimits[0].type: unknown variant `RLIMIT_X`",
            ),
            (
                "/linux",
                serde_json::json!({"namespaces": [{"type": "pid"}, {"path": "/x"}]}),
                "config.json: linux.namespaces[1]: missing field `type`",
            ),
            ("/root", serde_json::json!({}), "config.json: root.path: it is missing"),
            (
                "/linux",
                serde_json::json!({"namespaces": [{"type": "pid"}, {"type": "nope"}]}),
                "config.json: linux.namespaces[1].type: unknown variant `nope`",
            ),
            (
                "/linux",
                serde_json::json!({"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "no"}]}}),
                "config.json: linux.seccomp.syscalls[0].action: unknown variant `no`",
            ),
            (
                "/linux",
                serde_json::json!({"resources": {"memory": {"limit": "1g"}}}),
                "config.json: linux.resources.memory.limit: invalid type: string",
            ),
            (
                "/hooks",
                serde_json::json!({"poststop": [{"path": "/x", "timeout": "soon"}]}),
                "config.json: hooks.poststop[0].timeout: invalid type",
            ),
            (
                "/annotations",
                serde_json::json!({"": "x"}),
                "config.json: annotations: a key is empty",
            ),
            (
                "/ociVersion",
                serde_json::json!("1.3"),
                "config.json: ociVersion: \"1.3\" is not a semantic version",
            ),
            (
                "/ociVersion",
                serde_json::json!("2.0.0"),
                "config.json: ociVersion: \"2.0.0\" is not supported",
            ),
            ("/ociVersion", serde_json::json!(""), "config.json: ociVersion: it is missing"),
        ];
        for (pointer, value, want) in cases {
            let said = said(pointer, value);
            assert!(said.starts_with(want), "{said}, not {want}");
        }
    }

    #[test]
    fn what_is_no_json_is_told_by_line_and_column() {
        let said = |text: &[u8]| Configuration::parse(text).unwrap_err().to_string();
        assert_eq!(
            said(b"{\"process\": {"),
            "config.json: EOF while parsing an object at line 1 column 13"
        );
        assert_eq!(said(b"\n[]"), "config.json: it is not a JSON object");
        assert!(said(b"{} x").contains("line 1 column 4"), "{}", said(b"{} x"));
        assert!(said(b"{\"x\": 5,}").contains("line 1 column"));
        let deep = [b"{\"x\":".as_slice(), &b"[".repeat(1_000_000)].concat();
        assert!(said(&deep).contains("EOF"));
        let deep =
            String::from_utf8(deep).unwrap().replace("\"x\"", "\"process\": {\"capabilities\"");
        assert!(said(deep.as_bytes()).contains("line 1 column"));
        assert_eq!(
            said(&vec![b' '; LARGEST_CONFIGURATION + 1]),
            "config.json: it is larger than 16 MiB"
        );
    }

    #[test]
    fn flags_of_schedulers_by_the_specifications_names() {
        let mut configuration = serde_json::to_value(Spec::default()).unwrap();
        configuration["process"]["scheduler"] = serde_json::json!({ "policy": "SCHED_DEADLINE",
            "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_RECLAIM"] });
        let read = Configuration::parse(&serde_json::to_vec(&configuration).unwrap()).unwrap();
        let process = read.spec.process().clone().unwrap();
        let flags = process.scheduler().clone().unwrap().flags().clone().unwrap();
        assert_eq!(
            flags,
            [
                LinuxSchedulerFlag::SchedResetOnFork,
                LinuxSchedulerFlag::SchedFlagDLOverrun,
                LinuxSchedulerFlag::SchedFlagReclaim,
            ]
        );
    }

    #[test]
    fn what_nobody_knows_is_passed_over() {
        let mut configuration = minimal();
        configuration["new"] = serde_json::json!({"a": [1]});
        configuration["process"]["capabilities"] = serde_json::json!({
            "bounding": ["CAP_KILL", "CAP_NEW"], "effective": ["CAP_NEW"], "permitted": null,
        });
        let read = parsed(&configuration).unwrap();
        assert_eq!(read.warnings, ["the unknown capability \"CAP_NEW\" is left out"]);
        let process = read.spec.process().clone().unwrap();
        let bounding = process.capabilities().clone().unwrap().bounding().clone().unwrap();
        assert_eq!(bounding.into_iter().collect::<Vec<_>>(), [Capability::Kill]);
        configuration["process"]["capabilities"]["bounding"] = serde_json::json!(["CAP_NEW", 5]);
        let said = parsed(&configuration).unwrap_err();
        assert!(said.starts_with("config.json: process.capabilities.bounding"), "{said}");
    }

    #[test]
    fn versions_before_the_first_are_read() {
        for version in ["1.0.2-dev", "1.2.1+build.5", "0.6.0", "1.0.0-rc5"] {
            let mut configuration = minimal();
            configuration["ociVersion"] = serde_json::json!(version);
            assert!(parsed(&configuration).is_ok(), "{version}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Configuration::parse(&bytes);
        }
    }
}
