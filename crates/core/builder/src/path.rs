//! Paths within a tree: bytes, relative to its root, without `.` and `..`, parts separated by one `/`. The
//! root itself is the empty path.

/// The path that `text` means below a root; `..` stops there.
pub(crate) fn clean(text: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in text.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// The same for text.
pub(crate) fn clean_text(text: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// `name` below `folder`.
pub(crate) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() || name.is_empty() {
        return [folder, name].concat();
    }
    [folder, b"/", name].concat()
}

/// The folder that `path` is in; none for the root.
pub(crate) fn parent(path: &[u8]) -> Option<&[u8]> {
    if path.is_empty() {
        return None;
    }
    Some(path.iter().rposition(|byte| *byte == b'/').map_or(&[][..], |at| &path[..at]))
}

/// The last part of `path`.
pub(crate) fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// `a`, `a/b`, `a/b/c` of `a/b/c`.
pub(crate) fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.chain((!path.is_empty()).then_some(path.len())).map(|end| &path[..end])
}

/// For people.
pub(crate) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        assert_eq!(clean(b"/a/./b//../c/"), b"a/c");
        assert_eq!(clean(b"../../a"), b"a");
        assert_eq!(clean(b"/"), b"");
        assert_eq!(parent(b"a/b"), Some(&b"a"[..]));
        assert_eq!((parent(b"a"), parent(b"")), (Some(&b""[..]), None));
        assert_eq!(
            (name(b"a/b"), join(b"", b"x"), join(b"a", b"x")),
            (&b"b"[..], b"x".to_vec(), b"a/x".to_vec())
        );
        assert_eq!(prefixes(b"a/b/c").collect::<Vec<_>>(), [&b"a"[..], b"a/b", b"a/b/c"]);
        assert_eq!(prefixes(b"").count(), 0);
    }
}
