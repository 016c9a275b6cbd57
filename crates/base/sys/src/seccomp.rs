//! Loading seccomp filters.
