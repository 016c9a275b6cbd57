//! The Docker Engine API's types, as they stand on the wire.
