//! The Docker Engine API, served.
