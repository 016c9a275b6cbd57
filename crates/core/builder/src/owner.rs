//! `--chown`: numbers, or names of the image's `/etc/passwd` and `/etc/group`.
//!
//! The files are parsed here, from the image's tree and bounded; the machine's own users play no part.

use std::io::Read;

use dhow_error::{Error, Result};

use crate::tree::{Tree, resolve};

/// How much of `/etc/passwd` is read.
const FILE_MAX: u64 = 4 << 20;

/// User and group id of `user[:group]`. Without a group, it has the user's number.
pub(crate) fn parse(text: &str, image: &dyn Tree) -> Result<(u64, u64)> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let uid = id(user, image, b"etc/passwd", "user")?;
    let gid = match group {
        Some(group) => id(group, image, b"etc/group", "group")?,
        None => uid,
    };
    Ok((uid, gid))
}

/// An octal mode.
pub(crate) fn mode(text: &str) -> Result<u32> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| Error::invalid(format!("invalid --chmod {text:?}: expected octal digits")))
}

fn id(name: &str, image: &dyn Tree, file: &[u8], what: &str) -> Result<u64> {
    if let Ok(number) = name.parse::<u32>() {
        return Ok(number.into());
    }
    let unknown = || Error::invalid(format!("cannot --chown: the image has no {what} {name:?}"));
    let real = resolve(image, file, true)?;
    let mut content = Vec::new();
    if image.look(&real)?.is_none() || name.is_empty() {
        return Err(unknown());
    }
    image.open(&real)?.take(FILE_MAX).read_to_end(&mut content).map_err(|_| unknown())?;
    // name:password:number:…
    let lines = content.split(|byte| *byte == b'\n');
    let number = lines.filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let is_it = fields.next() == Some(name.as_bytes());
        let number = std::str::from_utf8(fields.nth(1)?).ok()?.parse::<u32>().ok()?;
        is_it.then_some(number)
    });
    number.map(u64::from).next().ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::context;

    #[test]
    fn numbers_and_names() {
        let image = context(&[
            ("etc/passwd", "root:x:0:0::/:\nbad\nweb:x:33:44::/:/bin/sh\n"),
            ("etc/group", "root:x:0:\nstaff:x:50:web\n"),
        ]);
        assert_eq!(parse("1:2", &image).unwrap(), (1, 2));
        assert_eq!(parse("web", &image).unwrap(), (33, 33));
        assert_eq!(parse("web:staff", &image).unwrap(), (33, 50));
        for bad in ["nobody", "web:", ":", "", "-1"] {
            assert!(parse(bad, &image).is_err(), "{bad}");
        }
        assert_eq!(mode("0755").unwrap(), 0o755);
        assert!(mode("u+x").is_err() && mode("77777").is_err());
    }
}
