//! Sockets that carry descriptors (SCM_RIGHTS).
