//! Extended attributes: which may be in a layer, and reading and writing them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use dhow_sys::rustix::fs::{XattrFlags, fgetxattr, fsetxattr, lgetxattr, llistxattr, lsetxattr};
use dhow_sys::rustix::io::Errno;

/// Attributes by name.
pub(crate) type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

const OPAQUE: &str = "trusted.overlay.opaque";
/// The limit of Linux for a value, and for the list of all names.
const SIZE_MAX: usize = 64 << 10;

/// Whether `name` is one by which overlayfs keeps its books, and which nobody else may write.
pub(crate) fn is_overlays(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// Makes a folder hide what the layers below have in its place.
pub(crate) fn set_opaque(folder: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fsetxattr(folder, OPAQUE, b"y", XattrFlags::empty())?)
}

/// Whether a folder, open for reading, hides what is below it.
pub(crate) fn is_opaque(folder: BorrowedFd<'_>) -> io::Result<bool> {
    let mut value = [0_u8; 2];
    match fgetxattr(folder, OPAQUE, &mut value[..]) {
        Ok(length) => Ok(value.get(..length) == Some(b"y")),
        // Longer than any value that counts.
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Gives `name` in `folder` an attribute, without following a link.
///
/// A filesystem that has no attributes of its kind is fine, except for file capabilities: a program that
/// silently lost them would fail in ways that nobody understands.
pub(crate) fn set(
    folder: BorrowedFd<'_>,
    name: &[u8],
    attribute: &[u8],
    value: &[u8],
) -> io::Result<()> {
    match lsetxattr(through(folder, name), attribute, value, XattrFlags::empty()) {
        Err(Errno::NOTSUP) if attribute != b"security.capability" => Ok(()),
        result => Ok(result?),
    }
}

/// The attributes of `name` in `folder`, sorted, without those of overlayfs; no link is followed.
pub(crate) fn get_all(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<Attributes> {
    let path = through(folder, name);
    let mut names = vec![0_u8; 1024];
    let length = loop {
        match llistxattr(path.as_slice(), names.as_mut_slice()) {
            Ok(length) => break length,
            Err(Errno::RANGE) if names.len() < SIZE_MAX => names.resize(SIZE_MAX, 0),
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
    };
    names.truncate(length);
    let mut found = Vec::new();
    let wanted = |name: &&[u8]| !name.is_empty() && !is_overlays(name);
    for attribute in names.split(|&byte| byte == 0).filter(wanted) {
        let mut value = vec![0_u8; SIZE_MAX];
        match lgetxattr(path.as_slice(), attribute, value.as_mut_slice()) {
            Ok(length) => value.truncate(length),
            // Taken away since the list was made.
            Err(Errno::NODATA) => continue,
            Err(error) => return Err(error.into()),
        }
        found.push((attribute.to_vec(), value));
    }
    found.sort();
    Ok(found)
}

/// A path by which calls that know no folder descriptor reach `name`; the last part is not followed.
fn through(folder: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}
