//! Black-box tests, a file per feature. Each starts a daemon of its own and looks at what a user sees.

mod attack;
mod bad_input;
mod build;
mod daemons;
mod docker_cli;
mod exec;
mod images;
mod isolation;
mod life;
mod limits;
mod logs;
mod network;
mod oci;
mod push;
mod registry;
mod run;
mod save;
mod survival;
mod terminal;
