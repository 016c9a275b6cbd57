//! Layers to root filesystems.
