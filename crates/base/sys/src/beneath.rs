//! Opening paths beneath a root, by openat2.
