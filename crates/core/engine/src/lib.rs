//! Containers and their lives.
//!
//! ```text
//!   face ──► Engine ──┬─► resolve, validate, names     pure: from what was asked to what will be
//!                     ├─► oci, profile                 pure: the OCI specification and its filter
//!                     ├─► create ─► launch ─► exit     one container's life, one gate for each
//!                     │     └────── remove ◄────┘
//!                     ├─► attach, exec, logs           its streams, straight from shim and files
//!                     └─► recover                      what an earlier daemon left
//!          dhow-kv    dhow-image   dhow-snapshot   Networks (a trait)   dhow-shim
//! ```
//!
//! # What survives what
//!
//! The daemon may be killed between any two instructions. Nothing acknowledged is lost, and what is half
//! done is finished or undone by the next daemon ([`Engine::open`]):
//!
//! | operation | order | killed in between |
//! | --- | --- | --- |
//! | create | volumes, then folders and one transaction at once, then the answer | folders without a container are swept, a container without folders gets them |
//! | start | network, `network.json`, then launch and durable write at once, then the answer | the shim is found by its folder and runs on as a started container; a launch that does not show within moments is cleared |
//! | exit | `exit.json` (by the shim), durable write, folder removed, waiters hear | the next daemon settles it from `exit.json`; doing so twice gives the same |
//! | exit with auto-remove | network back, waiters hear, then folders and one transaction at once | the next daemon removes it |
//! | remove | one transaction, then folders | folders, shims and cgroups without a container are swept |
//! | rename | one transaction | old or new name |
//! | pause | mark in the folder, freeze | the mark makes it paused; unpausing what is not frozen is harmless |
//! | exec | not durable | the process runs on; its id is forgotten |
//!
//! Work that changes something runs in its own task, so that a client that goes away cannot leave it half
//! done. A power loss differs from a kill only in that folders in `/run` are gone: what ran has ended then,
//! with code 255.
//!
//! # Invariants
//!
//! - One owner: a container's status changes only with its gate held; see `container.rs`.
//! - The engine makes no processes and mounts nothing in its own namespace: shims do.
//! - Output never passes through the engine: clients are connected to the shim, logs are read from files.

mod attach;
mod attached;
mod busy;
mod capabilities;
mod clock;
mod container;
mod copy;
mod create;
mod engine;
mod events;
mod exec;
mod exit;
mod groups;
mod launch;
mod list;
mod logs;
mod names;
mod networks;
mod oci;
mod options;
mod prepare;
mod profile;
mod record;
mod recover;
mod registry;
mod remove;
mod resolve;
mod restart;
mod shim;
mod signal;
pub mod spec;
mod state;
mod stop;
mod validate;
mod view;
mod volumes;

pub use attached::{AttachStream, Attached};
pub use clock::{now_ns, parse_rfc3339, rfc3339};
pub use engine::{Config, Deps, Engine};
pub use events::{Event, Events, Heard, RING, Subscription};
pub use logs::{LogEntry, LogStream, Stream};
pub use networks::{
    AttachRequest, Attachment, BoxFuture, Endpoint, Networks, PublishedPort, Resolver, Survivor,
};
pub use options::{
    Attributes, Counts, Created, ExecSpec, ExecView, Filters, ListOptions, LogOptions,
    RemoveOptions, StartTrace, StopOptions, Streams,
};
pub use spec::ContainerSpec;
pub use state::{ExitStatus, State, Status, WaitCondition};
pub use view::{MountView, Paths, Summary, View, human_duration, status_text};
