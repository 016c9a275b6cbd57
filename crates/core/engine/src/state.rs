//! The states of a container and what is known in each.
//!
//! ```text
//!              start                  pause
//!   created ──────────► running ◄──────────────► paused
//!      │                 │   ▲       unpause       │
//!      │                 │   │ start               │ kill
//!      │           ended │   │                     │
//!      │                 ▼   │                     │
//!      │ remove         exited ◄───────────────────┘
//!      │                 │   ▲
//!      │                 │   └── restarting (a restart policy waits out its back-off)
//!      ▼                 ▼
//!   removing ─────────────────► (gone)
//!      │ could not take something away
//!      ▼
//!    dead   (only `remove` again)
//! ```
//!
//! [`Status::may`] is the whole table; every change goes through it. A failed start leaves `created` and
//! `exited` as they were but for the exit code (125, 126 or 127) and the message, as Docker does.

use dhow_error::{Error, Kind};
use serde::{Deserialize, Serialize};

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Never started.
    #[default]
    Created,
    /// Its first process runs.
    Running,
    /// It runs, frozen.
    Paused,
    /// It ended and a restart policy will start it again.
    Restarting,
    /// It ended.
    Exited,
    /// It is being taken away.
    Removing,
    /// It could not be taken away wholly.
    Dead,
}

/// What a change of state is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Run it.
    Start,
    /// Freeze it.
    Pause,
    /// Thaw it.
    Unpause,
    /// Take it away.
    Remove,
}

impl Status {
    /// The word that users see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Removing => "removing",
            Self::Dead => "dead",
        }
    }

    /// Whether it has processes.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }

    /// Whether `action` is possible now, with Docker's words if not.
    pub(crate) fn may(self, action: Action, id: &str) -> Result<(), Error> {
        use Action::{Pause, Remove, Start, Unpause};
        let conflict = |text: String| Err(Error::conflict(text));
        match (action, self) {
            (Start, Self::Running) => {
                Err(Error::new(Kind::NotModified, format!("container {id} is already running")))
            }
            (Start, Self::Paused) => {
                conflict("cannot start a paused container, try unpause instead".into())
            }
            (Start, Self::Removing | Self::Dead) => {
                conflict("container is marked for removal and cannot be started".into())
            }
            (Pause, Self::Paused) => conflict(format!("container {id} is already paused")),
            (Pause, Self::Restarting) => {
                conflict(format!("container {id} is restarting, wait until it runs"))
            }
            (Pause, status) if status != Self::Running => {
                conflict(format!("container {id} is not running"))
            }
            (Unpause, status) if status != Self::Paused => {
                conflict(format!("container {id} is not paused"))
            }
            (Remove, Self::Removing) => {
                conflict(format!("removal of container {id} is already in progress"))
            }
            (Remove, Self::Running) => conflict(format!("container is running: {id}")),
            (Remove, Self::Paused) => conflict(format!("container is paused: {id}")),
            (Remove, Self::Restarting) => conflict(format!("container is restarting: {id}")),
            _ => Ok(()),
        }
    }
}

/// What is known of a container's runs. This is the durable part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Where it is in its life. The durable copy only ever says `created`, `running`, `exited` or
    /// `removing`: the others are found again or need not be.
    pub status: Status,
    /// When it last started, in nanoseconds since the UNIX epoch; 0 if never.
    pub started_at_ns: u64,
    /// When it last ended; 0 if never.
    pub finished_at_ns: u64,
    /// The exit code of the last run: 128 and the signal if one ended it.
    pub exit_code: i32,
    /// The kernel killed it for want of memory.
    pub oom_killed: bool,
    /// Why the last start or run failed.
    pub error: String,
    /// How often the restart policy started it again.
    pub restart_count: u32,
    /// A user stopped it, so that `unless-stopped` leaves it so.
    pub stopped_by_user: bool,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitStatus {
    /// The exit code: 128 and the signal if one ended it.
    pub code: i32,
    /// What went wrong, if it was not the container's own doing.
    pub error: Option<String>,
}

/// What `wait` waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// It does not run (perhaps already).
    #[default]
    NotRunning,
    /// It ends the next time.
    NextExit,
    /// It is gone.
    Removed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_allows_what_the_drawing_shows() {
        use Action::{Pause, Remove, Start, Unpause};
        use Status::{Created, Dead, Exited, Paused, Removing, Restarting, Running};
        let all = [Created, Running, Paused, Restarting, Exited, Removing, Dead];
        let allowed = |action| -> Vec<Status> {
            all.into_iter().filter(|status| status.may(action, "x").is_ok()).collect()
        };
        assert_eq!(allowed(Start), [Created, Restarting, Exited]);
        assert_eq!(allowed(Pause), [Running]);
        assert_eq!(allowed(Unpause), [Paused]);
        assert_eq!(allowed(Remove), [Created, Exited, Dead]);
    }

    #[test]
    fn starting_what_runs_changes_nothing() {
        let error = Status::Running.may(Action::Start, "x").unwrap_err();
        assert_eq!(error.kind(), Kind::NotModified);
    }
}
