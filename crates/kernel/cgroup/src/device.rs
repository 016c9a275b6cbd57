//! Device rules.
