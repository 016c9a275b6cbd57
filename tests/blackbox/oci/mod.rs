//! `dhow oci`: bundles without a daemon, a file per feature.

mod engines;
mod limits;
mod run;
