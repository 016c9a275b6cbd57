//! What a container's hooks and the listener of its calls are told of it (runtime specification,
//! runtime.md "State", config-linux.md "The Container Process State").

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

/// The version of the runtime specification that the states follow.
pub const SPECIFICATION: &str = "1.3.0";

/// A container as others know it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Its id.
    pub id: String,
    /// Its bundle's folder.
    pub bundle: PathBuf,
    /// The configuration's annotations.
    pub annotations: BTreeMap<String, String>,
}

/// How far a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being made.
    Creating,
    /// It waits for its start.
    Created,
    /// Its command runs.
    Running,
    /// Its process has ended.
    Stopped,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    bundle: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a> {
    oci_version: &'a str,
    fds: [&'a str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: State<'a>,
}

impl Told {
    /// The container's state as JSON; `pid` is that of its first process, as the reader sees it.
    pub(crate) fn state(&self, status: Status, pid: Option<i32>) -> String {
        let bundle = self.bundle.to_string_lossy();
        // Texts and numbers have no way not to be JSON.
        serde_json::to_string(&self.fields(status, pid, &bundle)).unwrap_or_default()
    }

    /// The state of a process with the descriptor of its calls: `process` of a container whose first one is
    /// `first`.
    pub(crate) fn process_state(
        &self,
        status: Status,
        (process, first): (i32, i32),
        metadata: &str,
    ) -> String {
        let bundle = self.bundle.to_string_lossy();
        let state = ProcessState {
            oci_version: SPECIFICATION,
            fds: ["seccompFd"],
            pid: process,
            metadata,
            state: self.fields(status, Some(first), &bundle),
        };
        serde_json::to_string(&state).unwrap_or_default()
    }

    fn fields<'a>(&'a self, status: Status, pid: Option<i32>, bundle: &'a str) -> State<'a> {
        let Self { id, annotations, .. } = self;
        State { oci_version: SPECIFICATION, id, status, pid, bundle, annotations }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_as_the_specification_writes_them() {
        let mut told = Told { id: "it".into(), bundle: "/b".into(), ..Told::default() };
        assert_eq!(
            told.state(Status::Stopped, None),
            r#"{"ociVersion":"1.3.0","id":"it","status":"stopped","bundle":"/b"}"#
        );
        told.annotations.insert("key".into(), "\"value\"".into());
        assert_eq!(
            told.process_state(Status::Running, (7, 5), "mine"),
            concat!(
                r#"{"ociVersion":"1.3.0","fds":["seccompFd"],"pid":7,"metadata":"mine","state":"#,
                r#"{"ociVersion":"1.3.0","id":"it","status":"running","pid":5,"bundle":"/b","#,
                r#""annotations":{"key":"\"value\""}}}"#
            )
        );
    }
}
