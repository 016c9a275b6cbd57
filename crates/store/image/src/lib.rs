//! Images: fetched, loaded, unpacked, kept, given away.
//!
//! [`Images`] is the one door. An image is a configuration blob and a list of layers. It becomes visible
//! (by reference or by id) only when every layer is verified, unpacked and durable; what an interrupted
//! pull leaves behind is never visible and is swept at the next start.
//!
//! ```text
//!   tar (load) ──┐
//!   tar (import)─┤   blobs ──► dhow-content        verified by digest
//!   registry ────┼─► layers ─► dhow-snapshot       verified by diff id, keyed by chain id
//!   builder ─────┘   record ─► dhow-kv ─► Catalog  one transaction; from here on visible
//! ```
//!
//! Everything that adds to the stores does so under a lease: what a lease pins is not
//! swept, so that removing an image never takes a layer away from a pull that is about to use it.
//!
//! This crate never starts a process, never resolves a name by glibc and never writes outside the
//! folders of its stores.

mod bridge;
mod catalog;
pub mod change;
mod configuration;
mod deflate;
mod error;
mod image;
mod images;
mod import;
mod inflate;
mod leases;
mod load;
mod manifest;
mod outgoing;
mod platform;
mod progress;
mod pull;
mod push;
mod record;
mod registry;
mod save;
mod store;
pub mod tape;
mod turns;
pub mod words;

pub use bridge::{BridgeReader, BridgeWriter, ReaderGone, bridge};
pub use configuration::{ExecutionConfig, History, ImageConfiguration, RootFs};
pub use image::{Image, ImageUser, Layer, Loaded, Removed};
pub use images::{Credentials, Hold, Images, Import, Pull, Pulled, Push, Pushed, Work};
pub use inflate::inflate;
pub use platform::{Platform, PlatformError};
pub use progress::{Progress, ProgressEvent};
pub use save::{ArchiveFormat, Saving};
