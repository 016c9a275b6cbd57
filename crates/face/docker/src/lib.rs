//! The Docker Engine API, served.
//!
//! A face: it translates requests into operations of the engine and their results into Docker's JSON. It
//! holds no state, so that any number of them can stand side by side, and a new one knows everything.
//!
//! ```text
//!   server     connections: accepted, bounded, ended
//!   request    one request taken apart; every body is bounded
//!   router     method and path ──► handler
//!   containers, exec, images, build, networks, events, system, disk     the handlers
//!   translate  Docker's types ◄──► dhow's, without I/O
//!   answer     JSON, nothing or a stream;  errors: failures as answers;  hijack: no longer HTTP
//! ```
//!
//! Work that must not stop halfway (create, start, stop, remove) goes on when its client goes away; what
//! only serves that client (pull, build, logs, events, wait) ends with it.

mod answer;
mod build;
mod containers;
mod detach;
mod disk;
mod errors;
mod events;
mod exec;
mod hijack;
mod images;
mod networks;
mod progress;
mod query;
mod request;
mod router;
mod server;
mod system;
mod time;
mod translate;
mod unread;
mod version;

pub use server::{connection, serve};
pub use system::About;

use dhow_builder::Builder;
use dhow_engine::Engine;
use dhow_error::{Error, Result};
use dhow_image::Images;
use dhow_network::Network;

/// What the face speaks for.
#[derive(Clone)]
pub struct Services {
    /// Containers.
    pub engine: Engine,
    /// Images.
    pub images: Images,
    /// The bridge and its addresses.
    pub network: Network,
    /// Dockerfiles.
    pub builder: Builder,
    /// The daemon itself.
    pub about: About,
}

/// Does something to its end, whether or not the client waits for it. The engine does so by itself.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal(format!("the request's task died: {error}"))),
    }
}
