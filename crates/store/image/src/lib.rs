//! Images: fetched, unpacked, kept.
