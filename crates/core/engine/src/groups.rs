//! Further groups of a container, by name or number.
//!
//! Names are looked up in the image's own `/etc/group`, never on the host. The file is found in the
//! topmost layer that has it and opened beneath that layer's folder, whatever links lie there.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use dhow_error::{Error, Kind, Result};
use dhow_sys::rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
use dhow_sys::rustix::io::Errno;

/// A group file beyond this is not read.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// The numbers of `wished`. `layers` are folders of the root filesystem, topmost first.
///
/// Errors: invalid for a name that the image does not have.
pub(crate) fn resolve(wished: &[String], layers: &[PathBuf]) -> Result<Vec<u32>> {
    let mut file: Option<String> = None;
    let mut numbers = Vec::with_capacity(wished.len());
    for name in wished {
        if let Ok(number) = name.parse() {
            numbers.push(number);
            continue;
        }
        let text = match &mut file {
            Some(text) => text,
            none => none.insert(read(layers)?),
        };
        let number = find(text, name).ok_or_else(|| {
            let name: String = name.chars().take(100).collect();
            Error::invalid(format!(
                "unable to find group {name}: no matching entries in group file"
            ))
        })?;
        numbers.push(number);
    }
    Ok(numbers)
}

/// The number of the group `name` in the text of a group file (`group(5)`).
fn find(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (known, _password, number) = (fields.next()?, fields.next()?, fields.next()?);
        if known == name { number.parse().ok() } else { None }
    })
}

fn read(layers: &[PathBuf]) -> Result<String> {
    for layer in layers {
        match open_beneath(layer) {
            Ok(file) => {
                let mut bytes = Vec::new();
                file.take(FILE_MAX_BYTES).read_to_end(&mut bytes).map_err(unreadable)?;
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => return Err(unreadable(errno.into())),
        }
    }
    Ok(String::new())
}

fn open_beneath(layer: &Path) -> Result<File, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = open(layer, flags, Mode::empty())?;
    // Not blocking: a whiteout is a device, a hostile image may have a pipe there.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(openat2(folder, "etc/group", flags, Mode::empty(), resolve)?);
    match file.metadata() {
        Ok(data) if data.is_file() => Ok(file),
        _ => Err(Errno::NOENT),
    }
}

fn unreadable(error: std::io::Error) -> Error {
    Error::caused(Kind::Internal, "cannot read the image's /etc/group", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_resolve_in_the_topmost_file() {
        let (upper, lower) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(lower.path().join("etc")).unwrap();
        std::fs::write(lower.path().join("etc/group"), "root:x:0:\nwheel:x:10:me\nbad\n").unwrap();
        let layers = [upper.path().to_owned(), lower.path().to_owned()];
        let wished = ["wheel".to_owned(), "77".to_owned()];
        assert_eq!(resolve(&wished, &layers).unwrap(), [10, 77]);
        let error = resolve(&["nosuch".to_owned()], &layers).unwrap_err();
        assert!(error.to_string().contains("unable to find group nosuch"));
    }

    #[test]
    fn a_link_to_the_host_is_not_followed_out() {
        let layer = tempfile::tempdir().unwrap();
        std::fs::create_dir(layer.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc/group", layer.path().join("etc/group")).unwrap();
        assert!(resolve(&["root".to_owned()], &[layer.path().to_owned()]).is_err());
    }
}
