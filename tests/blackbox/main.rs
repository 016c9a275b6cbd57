//! Black-box tests, a file per feature.
