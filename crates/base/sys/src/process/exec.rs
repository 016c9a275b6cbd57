//! execve with argument and environment lists that were prepared before the fork.
//!
//! [`Strings`] owns its texts and keeps the null-terminated list of pointers to them that the kernel
//! wants, with room for one more entry at either end: a child that may not allocate can still append
//! `HOME`, and put a path in front for a [`Springboard`](super::Springboard).

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use rustix::io::Errno;

use super::last_errno;

/// The longest entry that [`Strings::append`] takes, with its final NUL.
const SPARE: usize = 4096;

/// A list of texts in the shape of `argv` and `envp`.
pub struct Strings {
    texts: Vec<CString>,
    /// Room for what comes before, one pointer a text, then two nulls: room for the spare entry, and the
    /// end.
    pointers: Vec<Cell<*const c_char>>,
    spare: Box<[u8; SPARE]>,
}

impl Strings {
    /// A list of those texts.
    pub fn new(texts: Vec<CString>) -> Self {
        let mut pointers = Vec::with_capacity(texts.len() + 3);
        pointers.push(Cell::new(ptr::null()));
        pointers.extend(texts.iter().map(|text| Cell::new(text.as_ptr())));
        pointers.extend([Cell::new(ptr::null()), Cell::new(ptr::null())]);
        Self { texts, pointers, spare: Box::new([0; SPARE]) }
    }

    /// The list in the kernel's shape, as long as this lives and is not changed.
    pub(super) fn list(&self) -> *const *const c_char {
        // The list has three entries at least. A Cell is in memory what it holds.
        self.pointers.get(1..).unwrap_or_default().as_ptr().cast()
    }

    /// The same list with `first` before all others. `first` must live as long as the list is used.
    pub(super) fn list_after(&self, first: &CStr) -> *const *const c_char {
        if let Some(place) = self.pointers.first() {
            place.set(first.as_ptr());
        }
        self.pointers.as_ptr().cast()
    }

    /// The texts, without an appended one.
    pub fn texts(&self) -> &[CString] {
        &self.texts
    }

    /// Appends `key=value` without allocating; possible once. False if it was used already, if it is too
    /// long or has a NUL in it.
    pub fn append(&mut self, key: &[u8], value: &[u8]) -> bool {
        let length = key.len() + 1 + value.len();
        let place = self.pointers.get(self.texts.len() + 1);
        let used = place.is_none_or(|place| !place.get().is_null());
        if used || length >= SPARE || key.contains(&0) || value.contains(&0) {
            return false;
        }
        let bytes = key.iter().chain(b"=").chain(value).chain(b"\0");
        for (place, byte) in self.spare.iter_mut().zip(bytes) {
            *place = *byte;
        }
        if let Some(place) = self.pointers.get(self.texts.len() + 1) {
            place.set(self.spare.as_ptr().cast());
        }
        true
    }
}

impl std::fmt::Debug for Strings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.texts).finish()
    }
}

/// Replaces this program by that of `path`; comes back only with the reason why not (execve(2)).
pub fn execve(path: &CStr, arguments: &Strings, environment: &Strings) -> Errno {
    // SAFETY: `path` and every text are NUL-terminated; both lists end with a null pointer and own what
    // they point to, so all of it lives across the call. The kernel only reads.
    unsafe {
        libc::syscall(libc::SYS_execve, path.as_ptr(), arguments.list(), environment.list());
    }
    last_errno()
}

/// Replaces this program by that of an open (O_PATH) descriptor; comes back only with the reason why not
/// (execveat(2) with AT_EMPTY_PATH).
pub fn execveat(program: BorrowedFd<'_>, arguments: &Strings, environment: &Strings) -> Errno {
    // SAFETY: as in `execve`; the path is a static empty text, so the descriptor itself is executed.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            arguments.list(),
            environment.list(),
            libc::AT_EMPTY_PATH,
        );
    }
    last_errno()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> Strings {
        Strings::new(texts.iter().map(|text| CString::new(*text).unwrap()).collect())
    }

    #[test]
    fn appends_once() {
        let mut strings = list(&["A=1"]);
        assert!(strings.append(b"HOME", b"/root"));
        assert!(!strings.append(b"HOME", b"/root"));
        assert_eq!(&strings.spare[..11], b"HOME=/root\0");
        assert!(strings.pointers[3].get().is_null() && !strings.pointers[2].get().is_null());
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert!(!list(&[]).append(b"HOME", &[b'x'; SPARE]));
        assert!(!list(&[]).append(b"HOME", b"a\0b"));
    }

    #[test]
    fn exec_of_nothing_says_why() {
        let none = list(&[]);
        assert_eq!(execve(c"/nonexistent/program", &list(&["x"]), &none), Errno::NOENT);
    }
}
