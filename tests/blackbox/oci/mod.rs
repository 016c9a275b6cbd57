//! `dhow oci`: bundles without a daemon, a file per feature.

mod cgroups;
mod configuration;
mod engines;
mod escapes;
mod exec;
mod hooks;
mod killed;
mod life;
mod limits;
mod rules;
mod run;
mod seccomp;
mod springboard;
mod terminal;
mod update;
mod users;
