//! The launcher and the shim: one process per container that owns it.
