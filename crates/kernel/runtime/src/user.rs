//! Users and groups by the container's own /etc/passwd and /etc/group (passwd(5), group(5)). Pure: takes
//! the files' bytes, as the image has them, and believes nothing about them.
//!
//! `name`, `uid`, `name:group`, `uid:gid` mean what they mean to Docker: digits are always a number, also
//! where a name looks like it (CVE-2016-3697); a number need not be listed; a given group replaces the
//! supplementary groups of the user. An id out of range is refused wherever it comes from, because the
//! kernel takes -1 as "as it is", which is root (CVE-2024-40635).

use dhow_error::{Classify, Kind};

/// Who the process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity<'a> {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The home directory, if the user is listed with one.
    pub(crate) home: Option<&'a [u8]>,
}

/// Why a user is nobody.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub(crate) enum UserError {
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    #[error("uids and gids must be in range 0-2147483647")]
    Range,
}

impl Classify for UserError {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// The highest id that Docker and runc take.
const HIGHEST: u32 = 0x7fff_ffff;

struct User<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

struct Group<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

/// Finds the user that `wanted` (`user[:group]`) names; supplementary groups are pushed to `groups`.
pub(crate) fn resolve<'a>(
    wanted: &str,
    passwd: &'a [u8],
    group: &[u8],
    groups: &mut Vec<u32>,
) -> Result<Identity<'a>, UserError> {
    let (user_part, group_part) = wanted.split_once(':').unwrap_or((wanted, ""));
    let (mut identity, name) = resolve_user(user_part, passwd)?;
    if group_part.is_empty() {
        if let Some(name) = name {
            groups.extend(groups_of(name, group));
        }
    } else {
        identity.gid = resolve_group(group_part, group)?;
    }
    Ok(identity)
}

/// The home directory of a listed user id.
pub(crate) fn home_of(uid: u32, passwd: &[u8]) -> Option<&[u8]> {
    users(passwd).find(|user| user.uid == uid).and_then(|user| user.home())
}

fn resolve_user<'a>(
    wanted: &str,
    passwd: &'a [u8],
) -> Result<(Identity<'a>, Option<&'a [u8]>), UserError> {
    let number = if wanted.is_empty() { Some(0) } else { number(wanted.as_bytes()) };
    let listed = users(passwd).find(|user| match number {
        Some(uid) => user.uid == uid,
        None => user.name == wanted.as_bytes(),
    });
    if let Some(user) = listed {
        let (uid, gid) = (in_range(user.uid)?, in_range(user.gid)?);
        return Ok((Identity { uid, gid, home: user.home() }, Some(user.name)));
    }
    match number {
        Some(uid) => Ok((Identity { uid: in_range(uid)?, gid: 0, home: None }, None)),
        None => Err(unlisted(wanted, UserError::NoUser(wanted.to_owned()))),
    }
}

fn resolve_group(wanted: &str, group: &[u8]) -> Result<u32, UserError> {
    let number = number(wanted.as_bytes());
    if let Some(gid) = number {
        return in_range(gid);
    }
    match all_groups(group).find(|group| group.name == wanted.as_bytes()) {
        Some(group) => in_range(group.gid),
        None => Err(unlisted(wanted, UserError::NoGroup(wanted.to_owned()))),
    }
}

/// Digits that are no number of 32 bits are out of range rather than unknown.
fn unlisted(wanted: &str, error: UserError) -> UserError {
    let digits = wanted.bytes().all(|byte| byte.is_ascii_digit());
    if digits { UserError::Range } else { error }
}

fn in_range(id: u32) -> Result<u32, UserError> {
    if id <= HIGHEST { Ok(id) } else { Err(UserError::Range) }
}

fn groups_of<'a>(name: &'a [u8], group: &'a [u8]) -> impl Iterator<Item = u32> + 'a {
    all_groups(group)
        .filter(move |group| group.members.split(|byte| *byte == b',').any(|member| member == name))
        .map(|group| group.gid)
}

impl<'a> User<'a> {
    fn home(&self) -> Option<&'a [u8]> {
        Some(self.home).filter(|home| home.first() == Some(&b'/'))
    }
}

/// All well-formed users.
fn users(passwd: &[u8]) -> impl Iterator<Item = User<'_>> {
    lines(passwd).filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = number(fields.nth(1)?)?;
        let gid = number(fields.next()?)?;
        let home = fields.nth(1).unwrap_or_default();
        Some(User { name, uid, gid, home })
    })
}

/// All well-formed groups.
fn all_groups(group: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(group).filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = number(fields.nth(1)?)?;
        Some(Group { name, gid, members: fields.next().unwrap_or_default() })
    })
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii)
}

/// Decimal digits of at most 32 bits.
fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u32, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(u32::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        nonsense\n:x:7:7::/:\n# a comment\n\
        web:x:33:34:Web:/var/www:/bin/false\n\
        1000:x:5:5::/five:\nbare:x:44:44";
    const GROUP: &[u8] =
        b"root:x:0:\nwww:x:34:\ntape:x:26:web,root\nlp:x:7:web\nodd:x:99999999999:\n";

    type Found = (u32, u32, Option<&'static [u8]>, Vec<u32>);

    fn found(wanted: &str) -> Result<Found, UserError> {
        let mut groups = Vec::new();
        let identity = resolve(wanted, PASSWD, GROUP, &mut groups)?;
        Ok((identity.uid, identity.gid, identity.home, groups))
    }

    #[test]
    fn names_and_numbers() {
        let home = |path: &'static str| Some(path.as_bytes());
        assert_eq!(found("root"), Ok((0, 0, home("/root"), vec![26])));
        assert_eq!(found(""), Ok((0, 0, home("/root"), vec![26])));
        assert_eq!(found("web"), Ok((33, 34, home("/var/www"), vec![26, 7])));
        assert_eq!(found("33"), Ok((33, 34, home("/var/www"), vec![26, 7])));
        assert_eq!(found("12345"), Ok((12345, 0, None, vec![])));
        // A name that looks like a number is not found by it.
        assert_eq!(found("1000"), Ok((1000, 0, None, vec![])));
        assert_eq!(found("5"), Ok((5, 5, home("/five"), vec![])));
        assert_eq!(found("bare"), Ok((44, 44, None, vec![])));
    }

    #[test]
    fn a_group_replaces_the_supplementary_ones() {
        assert_eq!(found("web:tape").map(|found| (found.1, found.3)), Ok((26, vec![])));
        assert_eq!(found("web:4321").map(|found| found.1), Ok(4321));
        assert_eq!(found("1:2").map(|found| (found.0, found.1)), Ok((1, 2)));
    }

    #[test]
    fn what_is_not_there() {
        assert_eq!(found("nobody"), Err(UserError::NoUser("nobody".to_owned())));
        assert_eq!(found("web:nogroup"), Err(UserError::NoGroup("nogroup".to_owned())));
        assert_eq!(found("4000000000"), Err(UserError::Range));
        assert_eq!(found("99999999999999"), Err(UserError::Range));
        assert_eq!(found("0:4000000000"), Err(UserError::Range));
        for listed in ["x:x:4294967295:5::/:", "x:x:5:4294967295::/:"] {
            let found = resolve("x", listed.as_bytes(), b"x:x:4294967295:", &mut Vec::new());
            assert_eq!(found, Err(UserError::Range));
        }
        let found = resolve("5:x", b"", b"x:x:4294967295:", &mut Vec::new());
        assert_eq!(found, Err(UserError::Range));
    }

    #[test]
    fn homes() {
        assert_eq!(home_of(33, PASSWD), Some(b"/var/www".as_slice()));
        assert_eq!(home_of(44, PASSWD), None);
    }

    proptest::proptest! {
        #[test]
        fn any_files_are_survived(
            wanted in ".{0,20}",
            passwd in proptest::collection::vec(0_u8..=255, 0..300),
            group in proptest::collection::vec(0_u8..=255, 0..300),
        ) {
            let mut groups = Vec::new();
            let _ = resolve(&wanted, &passwd, &group, &mut groups);
        }

        #[test]
        fn a_listed_user_is_found(
            name in "[a-z_][a-z0-9_-]{0,15}", uid in 0_u32..=HIGHEST, gid in 0_u32..=HIGHEST,
        ) {
            let passwd = format!("x:y\n{name}:x:{uid}:{gid}::/home/{name}:/bin/sh\n");
            let mut groups = Vec::new();
            let found = resolve(&name, passwd.as_bytes(), b"", &mut groups);
            let home = format!("/home/{name}");
            let expected = Identity { uid, gid, home: Some(home.as_bytes()) };
            proptest::prop_assert_eq!(found, Ok(expected));
        }
    }
}
