//! Image references with Docker's normalisation.

/// placeholder
#[derive(Debug)]
pub struct Reference;
/// placeholder
#[derive(Debug)]
pub struct ReferenceError;
