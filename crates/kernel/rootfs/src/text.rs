//! Texts of a specification in the shape that system calls want, checked.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use crate::failure::PlanError;

/// A NUL-terminated copy.
pub(crate) fn c_string(what: &'static str, text: &[u8]) -> Result<CString, PlanError> {
    CString::new(text)
        .map_err(|_| PlanError::Nul { what, value: String::from_utf8_lossy(text).into_owned() })
}

/// A host's path, absolute.
pub(crate) fn host_path(what: &'static str, path: &Path) -> Result<CString, PlanError> {
    if !path.is_absolute() {
        return Err(PlanError::Relative { what, path: path.display().to_string() });
    }
    c_string(what, path.as_os_str().as_bytes())
}

/// A container's path without `.`, `..` and doubled slashes. `..` goes by the letter, as Docker and runc
/// have it; symlinks are met only when it is opened, beneath the root.
pub(crate) fn inner_path(what: &'static str, path: &Path) -> Result<String, PlanError> {
    let mut parts: Vec<&str> = Vec::new();
    let invalid = || PlanError::Relative { what, path: path.display().to_string() };
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str().ok_or_else(invalid)?),
            Component::ParentDir => {
                parts.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    let clean = ["/", &parts.join("/")].concat();
    if clean.contains('\0') {
        return Err(PlanError::Nul { what, value: clean });
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_paths_are_cleaned() {
        for (given, clean) in
            [("/a//b/./c", "/a/b/c"), ("/a/../../b", "/b"), ("/", "/"), ("x", "/x"), ("/..", "/")]
        {
            assert_eq!(inner_path("path", Path::new(given)).unwrap(), clean);
        }
    }

    #[test]
    fn host_paths_are_absolute() {
        assert!(host_path("mount source", Path::new("a/b")).is_err());
        assert!(host_path("mount source", Path::new("/a/b")).is_ok());
    }
}
