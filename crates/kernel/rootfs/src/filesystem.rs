//! A new file system as a detached mount, by fsopen, fsconfig and fsmount.

use std::ffi::{CStr, CString};
use std::os::fd::{BorrowedFd, OwnedFd};

use dhow_sys::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, fsconfig_create, fsconfig_reconfigure,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, fspick,
};
use dhow_sys::rustix::io::{Errno, read};

use crate::failure::Failure;

/// A file system's own option: a key, and a value unless it is a flag.
pub(crate) trait Setting {
    /// Sets it.
    fn set(&self, context: &OwnedFd) -> Result<(), Errno>;
}

impl Setting for &(CString, Option<CString>) {
    fn set(&self, context: &OwnedFd) -> Result<(), Errno> {
        match &self.1 {
            Some(value) => fsconfig_set_string(context, self.0.as_c_str(), value.as_c_str()),
            None => fsconfig_set_flag(context, self.0.as_c_str()),
        }
    }
}

impl Setting for (&CStr, &CStr) {
    fn set(&self, context: &OwnedFd) -> Result<(), Errno> {
        fsconfig_set_string(context, self.0, self.1)
    }
}

/// Makes a file system of that kind as a detached mount. `what` says for a failure what it is for.
pub(crate) fn make(
    kind: &CStr,
    source: Option<&CStr>,
    data: impl IntoIterator<Item = impl Setting>,
    attributes: MountAttrFlags,
    what: impl FnOnce() -> String,
) -> Result<OwnedFd, Failure> {
    let context = match fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(context) => context,
        Err(errno) => {
            let message = format!("cannot open file system {} for {}", shown(kind), what());
            return Err(Failure::new(errno, message));
        }
    };
    let made = configure(&context, source, data)
        .and_then(|()| fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes));
    made.map_err(|errno| {
        let said = complaint(&context);
        Failure::new(errno, format!("cannot mount {} on {}{said}", shown(kind), what()))
    })
}

fn configure(
    context: &OwnedFd,
    source: Option<&CStr>,
    data: impl IntoIterator<Item = impl Setting>,
) -> Result<(), Errno> {
    if let Some(source) = source {
        fsconfig_set_string(context, c"source", source)?;
    }
    data.into_iter().try_for_each(|setting| setting.set(context))?;
    fsconfig_create(context)
}

/// Changes the own options of the file system that is mounted at `place`.
pub(crate) fn reconfigure(
    place: BorrowedFd<'_>,
    data: impl IntoIterator<Item = impl Setting>,
    what: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let flags = FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC;
    let context = match fspick(place, c"", flags) {
        Ok(context) => context,
        Err(errno) => return Err(Failure::new(errno, format!("cannot remount {}", what()))),
    };
    let changed = data.into_iter().try_for_each(|setting| setting.set(&context));
    changed.and_then(|()| fsconfig_reconfigure(&context)).map_err(|errno| {
        let said = complaint(&context);
        Failure::new(errno, format!("cannot remount {}{said}", what()))
    })
}

/// A private procfs of this process's pid namespace: attached nowhere, so that nothing of an image can
/// stand in for it (CVE-2019-16884, CVE-2025-52881).
pub(crate) fn private_procfs() -> Result<OwnedFd, Failure> {
    let none: [(&CStr, &CStr); 0] = [];
    make(c"proc", None, none, MountAttrFlags::empty(), || "a private place".to_owned())
}

/// What the kernel said about a failed file system context, in brackets; empty if nothing.
pub(crate) fn complaint(context: &OwnedFd) -> String {
    let mut text = [0; 512];
    let length = read(context, &mut text).unwrap_or(0);
    let said = String::from_utf8_lossy(text.get(..length).unwrap_or_default());
    // A line is `e overlay: text`, the letter being its level.
    let said = said.trim_end();
    let said = said.get(2..).unwrap_or_default();
    if said.is_empty() { String::new() } else { format!(" ({said})") }
}

/// `number` in decimal digits, without allocating.
pub(crate) fn decimal(number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut rest = number;
    let mut start = digits.len();
    for (place, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        start = place;
        if rest == 0 {
            break;
        }
    }
    digits.get(start..).unwrap_or_default()
}

fn shown(text: &CStr) -> std::borrow::Cow<'_, str> {
    text.to_string_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals() {
        let mut digits = [0; 20];
        assert_eq!(decimal(0, &mut digits), b"0");
        assert_eq!(decimal(4096, &mut digits), b"4096");
        assert_eq!(decimal(u64::MAX, &mut digits), b"18446744073709551615");
    }
}
