//! `/images/...`: the handlers, by what they are about.

mod fetch;
mod look;
mod remove;

pub(crate) use fetch::{create, load};
pub(crate) use look::{history, inspect, list};
pub(crate) use remove::{prune, remove, tag};
