//! What a defect of ours looks like to a user: a line and a hint, no backtrace, and the process ends.
//!
//! A panic of the store's library is no defect: it is how that meets a damaged file that its checks let
//! through.

use std::panic::{self, PanicHookInfo};

/// The exit code of a process that ends by a defect.
const CODE: i32 = 1;

/// From here on a panic anywhere in this process tells itself in these words and ends it.
pub(crate) fn tell_in_a_line() {
    panic::set_hook(Box::new(|panic| {
        eprintln!("{}", words(panic));
        std::process::exit(CODE);
    }));
}

fn words(panic: &PanicHookInfo<'_>) -> String {
    let place =
        panic.location().map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
    let message = panic.payload_as_str().unwrap_or("no message").replace('\n', " ");
    sentence(&place, &message)
}

fn sentence(place: &str, message: &str) -> String {
    if place.contains("/redb-") {
        return format!(
            "dhow: dhow.redb in the root folder is damaged: {message}\n\
             hint: bring it back from a backup, or move it away: then the images are to be loaded again"
        );
    }
    format!(
        "dhow: a defect of dhow at {place}: {message}\n\
         hint: please report this line with what you did; containers run on"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_told_from_defects() {
        let damaged = sentence("/registry/redb-4.1.0/src/page.rs:1", "index out of range");
        assert!(damaged.starts_with("dhow: dhow.redb in the root folder is damaged: index"));
        let defect = sentence("crates/x/src/y.rs:3", "no entry");
        assert!(
            defect.starts_with("dhow: a defect of dhow at crates/x/src/y.rs:3: no entry\nhint: ")
        );
    }
}
