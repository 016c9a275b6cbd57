//! Whose a container is: the user that its folder belongs to.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::container::Folder;

/// The name of the owner of `folder`, or `#` and its number if it has none; empty if the folder is gone.
pub(crate) fn of(folder: &Folder) -> String {
    let Ok(uid) = fs::symlink_metadata(folder.path()).map(|status| status.uid()) else {
        return String::new();
    };
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    name(&users, uid).map_or_else(|| format!("#{uid}"), str::to_owned)
}

/// The name that has `uid` among `users` (passwd(5)).
pub(crate) fn name(users: &str, uid: u32) -> Option<&str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_number() {
        let users = "root:x:0:0::/root:/bin/sh\nbroken\nweb:x:1000:1000::/:/bin/sh\n";
        assert_eq!(name(users, 0), Some("root"));
        assert_eq!(name(users, 1000), Some("web"));
        assert_eq!(name(users, 7), None);
    }
}
