//! `dhow oci`: bundles without a daemon, a file per feature.

mod engines;
mod exec;
mod limits;
mod run;
