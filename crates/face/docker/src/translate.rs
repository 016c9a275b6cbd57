//! Docker's types into dhow's, and back. Pure: nothing here does I/O or keeps anything.
//!
//! What a client asks for and dhow does not offer is an error where it concerns isolation, limits or
//! data, and a warning where it is a convenience. It is never dropped in silence.

mod config;
mod event;
pub(crate) mod glob;
mod host;
mod image;
mod inspect;
mod limits;
mod mounts;
mod network;
mod summary;

pub(crate) use config::{console_size, container_spec};
pub(crate) use event::event;
pub(crate) use image::{
    check_platform, history as image_history, inspect as image_inspect, platform,
    summary as image_summary,
};
pub(crate) use inspect::inspect as container_inspect;
pub(crate) use summary::summary as container_summary;

use dhow_error::{Error, Kind};

/// Something that Docker offers and dhow does not.
fn not_offered(what: impl std::fmt::Display) -> Error {
    Error::new(Kind::Unsupported, format!("{what} is not offered yet"))
}
