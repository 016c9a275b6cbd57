//! `/containers/...`: the handlers, by what they are about.

mod create;
mod lifecycle;
mod list;
mod logs;
mod processes;
mod prune;
mod stats;
mod streams;

pub(crate) use create::create;
pub(crate) use lifecycle::{
    kill, pause, remove, rename, restart, start, stop, trace, unpause, wait,
};
pub(crate) use list::{inspect, list, summaries};
pub(crate) use logs::logs;
pub(crate) use processes::top;
pub(crate) use prune::prune;
pub(crate) use stats::stats;
pub(crate) use streams::{attach, resize};
