//! What people type: flags, tables, progress.
