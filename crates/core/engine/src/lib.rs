//! Containers and their lives.
