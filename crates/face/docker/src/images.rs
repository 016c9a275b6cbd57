//! `/images/...`: the handlers, by what they are about.

mod credentials;
mod fetch;
mod look;
mod push;
mod remove;
mod save;

pub(crate) use credentials::log_in;
pub(crate) use fetch::{create, load};
pub(crate) use look::{history, inspect, list};
pub(crate) use push::push;
pub(crate) use remove::{prune, remove, tag};
pub(crate) use save::save;
