//! How things are printed: tables, templates, sizes, ages, progress.

pub(crate) mod age;
pub(crate) mod progress;
pub(crate) mod size;
pub(crate) mod table;
pub(crate) mod template;

/// Prints a line to standard output; a closed pipe ends us silently.
pub(crate) fn line(text: &str) -> Result<(), crate::failure::Failure> {
    let mut stdout = std::io::stdout().lock();
    crate::attach::write(&mut stdout, format!("{text}\n").as_bytes())
}
