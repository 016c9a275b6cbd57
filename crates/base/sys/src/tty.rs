//! Terminals: pseudo-terminals, window sizes, raw mode.
