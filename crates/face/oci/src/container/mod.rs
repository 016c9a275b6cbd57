//! A container between two commands: a folder of the state root, and what the kernel says of its process.
//!
//! ```text
//!   <root>/<id>/            made first: it claims the id
//!     config.json           the bundle's configuration as it was at the create
//!     creating.json         the record while it is made; written before the cgroup is, and again when its
//!                           process is born and has done nothing yet. Only delete --force looks at it
//!     state.json            the same record, renamed when it is made: from here on it exists
//!     exec.fifo             the gate, from create until start (dhow_runtime::open_gate)
//!
//!   creating ──► created ──► running ◄──► paused
//!                   └───────────┴────────────┴──► stopped ──► (deleted: no folder)
//! ```
//!
//! Only what cannot be found out is written down: whether the process lives, waits at its gate or is frozen
//! is asked of the kernel every time. A process is known by its pid and the time of its start, so that a
//! stranger with the same pid is never taken for it.
//!
//! Invariants: a file is replaced whole or not at all. Whatever was killed at whatever moment leaves a folder
//! that `delete --force` clears with all that belongs to it.

mod process;
mod record;

use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use dhow_cgroup::{Cgroup, Layout};
use dhow_error::{Error, Kind, Result};
use dhow_spec::oci_runtime::Spec;

pub(crate) use process::{start_time, waits_at};
pub(crate) use record::{Init, Record};

use crate::bundle;

const STATE: &str = "state.json";
const CREATING: &str = "creating.json";
const GATE: &str = "exec.fifo";
/// The longest id.
const LONGEST_ID: usize = 1024;

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// Its process waits at the gate.
    Created,
    /// Its process runs.
    Running,
    /// Its process is frozen.
    Paused,
    /// Its process has ended, or was never born.
    Stopped,
}

impl Status {
    /// As the specification calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// A container's folder.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Claims the id, in its `root`: makes the folder.
    ///
    /// Errors: conflict if it is in use.
    pub(crate) fn claim(&self, root: &Path) -> Result<()> {
        let failed = |path: &Path, error| {
            Error::caused(Kind::Internal, format!("cannot make {}", path.display()), error)
        };
        fs::create_dir_all(root).map_err(|error| failed(root, error))?;
        match fs::create_dir(&self.0) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(Error::conflict("container with given ID already exists"))
            }
            Err(error) => Err(failed(&self.0, error)),
        }
    }

    /// The folder that `id` has, if it has one.
    ///
    /// Errors: invalid for what is no id.
    pub(crate) fn of(root: &Path, id: &str) -> Result<Self> {
        check_id(id)?;
        Ok(Self(root.join(id)))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Where the gate is.
    pub(crate) fn gate(&self) -> PathBuf {
        self.0.join(GATE)
    }

    /// Keeps the configuration.
    pub(crate) fn keep_config(&self, text: &[u8]) -> Result<()> {
        record::replace(&self.0, bundle::CONFIG, text)
    }

    /// Keeps the record of a container that is being made.
    pub(crate) fn keep(&self, record: &Record) -> Result<()> {
        let text = serde_json::to_vec(record)
            .map_err(|error| Error::caused(Kind::Internal, "cannot write the record", error))?;
        record::replace(&self.0, CREATING, &text)
    }

    /// The container that is being made is made.
    pub(crate) fn finish(&self) -> Result<()> {
        fs::rename(self.0.join(CREATING), self.0.join(STATE)).map_err(|error| {
            let message = format!("cannot keep the record in {}", self.0.display());
            Error::caused(Kind::Internal, message, error)
        })
    }

    /// Removes it with all that is in it; one that is not there is fine.
    pub(crate) fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let message = format!("cannot remove {}", self.0.display());
                Err(Error::caused(Kind::Internal, message, error))
            }
            _ => Ok(()),
        }
    }
}

/// A container that has a record.
#[derive(Debug)]
pub(crate) struct Container {
    /// Its folder.
    pub(crate) folder: Folder,
    /// Its record.
    pub(crate) record: Record,
}

impl Container {
    /// Looks it up.
    ///
    /// Errors: not found; invalid for what is no id; internal if its record cannot be read.
    pub(crate) fn load(root: &Path, id: &str) -> Result<Self> {
        let folder = Folder::of(root, id)?;
        let record = record::read(&folder.0.join(STATE))?;
        Ok(Self { folder, record })
    }

    /// Looks up one whose making was not finished, because it goes on or was killed.
    ///
    /// Errors: as [`Container::load`].
    pub(crate) fn load_unfinished(root: &Path, id: &str) -> Result<Self> {
        let folder = Folder::of(root, id)?;
        let record = record::read(&folder.0.join(CREATING))?;
        Ok(Self { folder, record })
    }

    /// What it is doing.
    pub(crate) fn status(&self) -> Result<Status> {
        let Some(process) = self.process()? else { return Ok(Status::Stopped) };
        // Held until the end of the question: a pid that is looked at is not given to another.
        let frozen = self.cgroup()?.is_frozen()?;
        let waits = waits_at(&self.folder.gate());
        drop(process);
        Ok(match (frozen, waits) {
            (true, _) => Status::Paused,
            (false, true) => Status::Created,
            (false, false) => Status::Running,
        })
    }

    /// The pid descriptor of its first process, while that lives.
    pub(crate) fn process(&self) -> Result<Option<OwnedFd>> {
        match &self.record.init {
            Some(init) => process::open(init),
            None => Ok(None),
        }
    }

    /// The pid of its first process, 0 if there is none.
    pub(crate) fn pid(&self, status: Status) -> i32 {
        let init = self.record.init.as_ref().filter(|_| status != Status::Stopped);
        init.map_or(0, |init| init.pid)
    }

    /// Its control group.
    pub(crate) fn cgroup(&self) -> Result<Cgroup> {
        Ok(Layout::known()?.open(&self.record.cgroup))
    }

    /// Its configuration, as it was when it was created.
    #[allow(dead_code, reason = "of exec and update")]
    pub(crate) fn config(&self) -> Result<Spec> {
        Ok(bundle::read_configuration(&self.folder.0.join(bundle::CONFIG))?.0.spec)
    }
}

/// The ids of all containers in `root`, in their order.
pub(crate) fn ids(root: &Path) -> Result<Vec<String>> {
    let failed =
        |error| Error::caused(Kind::Internal, format!("cannot read {}", root.display()), error);
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut ids = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let id = name.to_str().filter(|name| check_id(name).is_ok());
        if let (Some(id), true) = (id, entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            ids.push(id.to_owned());
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

/// An id is a file's name and part of a control group's.
fn check_id(id: &str) -> Result<()> {
    if id.is_empty() {
        return Err(Error::invalid("container id cannot be empty"));
    }
    let is_fine = |letter: char| letter.is_ascii_alphanumeric() || "_+-.".contains(letter);
    if id.chars().all(is_fine) && id != "." && id != ".." && id.len() <= LONGEST_ID {
        return Ok(());
    }
    Err(Error::invalid(format!("invalid container ID format: {id:?}"))
        .with_hint("letters, digits, _, +, - and . are allowed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names_of_files() {
        for good in ["a", "A-1_b+c.d", ".x", "..."] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\0"] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_claimed_id_is_taken_until_it_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::of(root.path(), "it").unwrap();
        folder.claim(root.path()).unwrap();
        assert_eq!(folder.claim(root.path()).unwrap_err().kind(), Kind::Conflict);
        assert_eq!(ids(root.path()).unwrap(), ["it"]);
        assert_eq!(Container::load(root.path(), "it").unwrap_err().kind(), Kind::NotFound);
        folder.remove().unwrap();
        folder.remove().unwrap();
        assert!(ids(root.path()).unwrap().is_empty());
    }
}
