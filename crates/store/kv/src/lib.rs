//! Objects: what people asked for, kept crash-safe.
