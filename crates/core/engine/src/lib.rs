//! Containers and their lives.

mod attached;
mod capabilities;
mod clock;
mod engine;
mod events;
mod logs;
mod names;
mod networks;
mod oci;
mod options;
mod resolve;
mod signal;
pub mod spec;
mod state;
mod validate;
mod view;

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
