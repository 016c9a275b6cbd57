//! The record of a container: `state.json`.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use dhow_error::{Error, Kind, Result};
use dhow_spec::oci_runtime::Hooks;
use serde::{Deserialize, Serialize};

/// The version of the record's form.
const VERSION: u32 = 1;

/// What is written down about a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    pub(crate) id: String,
    /// The specification's version that the configuration names.
    pub(crate) oci_version: String,
    /// The bundle's folder.
    pub(crate) bundle: PathBuf,
    /// The root file system's folder.
    pub(crate) rootfs: PathBuf,
    /// When it was created (RFC 3339).
    pub(crate) created: String,
    /// Its control group below every hierarchy.
    pub(crate) cgroup: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    /// Its hooks, for after its start and after its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hooks: Option<Hooks>,
    /// Its first process, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) init: Option<Init>,
}

/// A process that cannot be mistaken for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Init {
    /// Its pid in the runtime's pid namespace.
    pub(crate) pid: i32,
    /// When it was started, in clock ticks since boot (proc_pid_stat(5), field 22).
    pub(crate) start_time: u64,
}

impl Record {
    /// An empty record of that container.
    pub(crate) fn new(id: &str, created: String) -> Self {
        Self {
            version: VERSION,
            id: id.to_owned(),
            oci_version: String::new(),
            bundle: PathBuf::new(),
            rootfs: PathBuf::new(),
            created,
            cgroup: String::new(),
            annotations: BTreeMap::new(),
            hooks: None,
            init: None,
        }
    }
}

/// Reads a record.
pub(super) fn read(path: &Path) -> Result<Record> {
    let broken = |reason: String| {
        Error::internal(format!("the record {} is broken: {reason}", path.display()))
            .with_hint("delete --force removes the container")
    };
    let text = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Error::not_found("container does not exist"));
        }
        other => other.map_err(|error| broken(error.to_string()))?,
    };
    let record: Record =
        serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
    if record.version != VERSION {
        return Err(broken(format!("version {} is not ours, {VERSION}", record.version)));
    }
    Ok(record)
}

/// Replaces a file of a folder at once: whoever is killed meanwhile leaves the old one or the new one. The
/// state root does not outlive the machine's run, so nothing waits for a disk.
pub(super) fn replace(folder: &Path, name: &str, text: &[u8]) -> Result<()> {
    let (path, next) = (folder.join(name), folder.join(format!(".{name}.next")));
    fs::write(&next, text).and_then(|()| fs::rename(&next, &path)).map_err(|error| {
        Error::caused(Kind::Internal, format!("cannot write {}", path.display()), error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let mut record = Record::new("it", "2026-01-02T03:04:05Z".to_owned());
        record.init = Some(Init { pid: 7, start_time: 8 });
        record.annotations.insert("a".to_owned(), "b".to_owned());
        replace(folder.path(), "state.json", &serde_json::to_vec(&record).unwrap()).unwrap();
        assert_eq!(read(&path).unwrap(), record);
        for broken in ["", "{", "{\"version\": 2}", "null"] {
            fs::write(&path, broken).unwrap();
            assert_eq!(read(&path).unwrap_err().kind(), Kind::Internal, "{broken}");
        }
    }
}
