//! Mount options as the OCI runtime specification lists them (config.md, "Linux mount options"), parsed
//! into mount attributes, propagation and what is left for the file system itself. Pure.

use std::ffi::CString;

use dhow_sys::mount::{AttributeChange, MountAttrFlags, Propagation};

use crate::failure::PlanError;
use crate::text::c_string;

/// What a mount's options mean.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Attributes of the mount itself.
    pub(crate) attributes: AttributeChange,
    /// Attributes of the mount and of all beneath it (`rro` and its kin).
    pub(crate) recursive: AttributeChange,
    /// `bind` (false) or `rbind` (true).
    pub(crate) bind: Option<bool>,
    /// The propagation, and whether it holds for all mounts beneath.
    pub(crate) propagation: Option<(Propagation, bool)>,
    /// The file system's own options.
    pub(crate) data: Vec<(CString, Option<CString>)>,
}

/// One attribute option: its name, its bits, and whether it sets or clears them.
struct Attribute(&'static str, MountAttrFlags, bool);

/// Every one of these exists with an `r` in front as well, then meant recursively.
const ATTRIBUTES: [Attribute; 16] = [
    Attribute("ro", MountAttrFlags::MOUNT_ATTR_RDONLY, true),
    Attribute("rw", MountAttrFlags::MOUNT_ATTR_RDONLY, false),
    Attribute("nosuid", MountAttrFlags::MOUNT_ATTR_NOSUID, true),
    Attribute("suid", MountAttrFlags::MOUNT_ATTR_NOSUID, false),
    Attribute("nodev", MountAttrFlags::MOUNT_ATTR_NODEV, true),
    Attribute("dev", MountAttrFlags::MOUNT_ATTR_NODEV, false),
    Attribute("noexec", MountAttrFlags::MOUNT_ATTR_NOEXEC, true),
    Attribute("exec", MountAttrFlags::MOUNT_ATTR_NOEXEC, false),
    Attribute("nodiratime", MountAttrFlags::MOUNT_ATTR_NODIRATIME, true),
    Attribute("diratime", MountAttrFlags::MOUNT_ATTR_NODIRATIME, false),
    Attribute("nosymfollow", MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, true),
    Attribute("symfollow", MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, false),
    Attribute("noatime", MountAttrFlags::MOUNT_ATTR_NOATIME, true),
    Attribute("strictatime", MountAttrFlags::MOUNT_ATTR_STRICTATIME, true),
    Attribute("relatime", MountAttrFlags::MOUNT_ATTR_RELATIME, true),
    Attribute("norelatime", MountAttrFlags::MOUNT_ATTR_RELATIME, true),
];

/// Options without a meaning for a mount made through descriptors; mount(8) has them for fstab.
const WITHOUT_MEANING: [&str; 11] = [
    "defaults",
    "async",
    "nomand",
    "iversion",
    "noiversion",
    "silent",
    "loud",
    "atime",
    "auto",
    "nofail",
    "nostrictatime",
];

/// Parses the options of the mount on `destination`.
pub(crate) fn parse(options: &[String], destination: &str) -> Result<Options, PlanError> {
    let mut parsed = Options::default();
    for option in options {
        parsed.take(option, destination)?;
    }
    Ok(parsed)
}

impl Options {
    fn take(&mut self, option: &str, destination: &str) -> Result<(), PlanError> {
        if let Some(attribute) = attribute(option) {
            change(&mut self.attributes, attribute);
        } else if let Some(attribute) = option.strip_prefix('r').and_then(attribute) {
            change(&mut self.recursive, attribute);
        } else if let Some(propagation) = propagation(option) {
            self.propagation = Some(propagation);
        } else if option == "bind" || option == "rbind" {
            self.bind = Some(option == "rbind");
        } else if ["remount", "idmap", "ridmap", "tmpcopyup"].contains(&option) {
            let (option, destination) = (option.to_owned(), destination.to_owned());
            return Err(PlanError::Option { option, destination });
        } else if !option.is_empty() && !WITHOUT_MEANING.contains(&option) {
            self.data.push(data(option)?);
        }
        Ok(())
    }

    /// Whether the mount is to be read-only.
    pub(crate) fn is_read_only(&self) -> bool {
        self.attributes.set.contains(MountAttrFlags::MOUNT_ATTR_RDONLY)
    }
}

fn attribute(option: &str) -> Option<&'static Attribute> {
    ATTRIBUTES.iter().find(|attribute| attribute.0 == option)
}

/// The later of two contradicting options wins.
fn change(change: &mut AttributeChange, Attribute(_, bits, sets): &Attribute) {
    let times = [
        MountAttrFlags::MOUNT_ATTR_NOATIME,
        MountAttrFlags::MOUNT_ATTR_STRICTATIME,
        MountAttrFlags::MOUNT_ATTR_RELATIME,
    ];
    if times.contains(bits) {
        // The three are one field of two bits, in which relatime is zero.
        change.set &= !MountAttrFlags::MOUNT_ATTR__ATIME;
        change.clear |= MountAttrFlags::MOUNT_ATTR__ATIME;
        change.set |= *bits;
    } else if *sets {
        change.set |= *bits;
        change.clear &= !*bits;
    } else {
        change.clear |= *bits;
        change.set &= !*bits;
    }
}

/// A propagation by its name, with an `r` in front for "and all beneath".
pub(crate) fn propagation(option: &str) -> Option<(Propagation, bool)> {
    let by_name = |name: &str| match name {
        "shared" => Some(Propagation::Shared),
        "slave" => Some(Propagation::Slave),
        "private" => Some(Propagation::Private),
        "unbindable" => Some(Propagation::Unbindable),
        _ => None,
    };
    if let Some(found) = by_name(option) {
        return Some((found, false));
    }
    Some((by_name(option.strip_prefix('r')?)?, true))
}

/// `key=value`, or a flag.
fn data(option: &str) -> Result<(CString, Option<CString>), PlanError> {
    let text = |text: &str| c_string("mount option", text.as_bytes());
    match option.split_once('=') {
        Some((key, value)) => Ok((text(key)?, Some(text(value)?))),
        None => Ok((text(option)?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(options: &str) -> Options {
        let options: Vec<String> = options.split(' ').map(str::to_owned).collect();
        parse(&options, "/x").unwrap()
    }

    #[test]
    fn attributes_come_apart_from_data() {
        let options = parsed("nosuid nodev noexec ro size=64m mode=1777 defaults");
        assert_eq!(
            options.attributes.set,
            MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOEXEC
                | MountAttrFlags::MOUNT_ATTR_RDONLY
        );
        assert_eq!(
            options.data,
            [(c"size".into(), Some(c"64m".into())), (c"mode".into(), Some(c"1777".into()))]
        );
        assert!(options.is_read_only());
    }

    #[test]
    fn the_later_option_wins() {
        let options = parsed("ro rw noexec exec");
        assert!(!options.is_read_only());
        assert_eq!(
            options.attributes.clear,
            MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOEXEC
        );
        let options = parsed("noatime strictatime");
        assert_eq!(options.attributes.set, MountAttrFlags::MOUNT_ATTR_STRICTATIME);
        assert_eq!(options.attributes.clear, MountAttrFlags::MOUNT_ATTR__ATIME);
    }

    #[test]
    fn recursive_kin_and_propagation() {
        let options = parsed("rbind rro rslave");
        assert_eq!(options.bind, Some(true));
        assert_eq!(options.recursive.set, MountAttrFlags::MOUNT_ATTR_RDONLY);
        assert!(options.attributes.is_empty());
        assert_eq!(options.propagation, Some((Propagation::Slave, true)));
        // Not "elatime", recursively.
        assert_eq!(parsed("relatime").attributes.clear, MountAttrFlags::MOUNT_ATTR__ATIME);
    }

    #[test]
    fn what_is_not_offered_is_said() {
        let error = parse(&["tmpcopyup".to_owned()], "/run").unwrap_err();
        assert_eq!(error.to_string(), r#"mount option "tmpcopyup" on /run is not supported"#);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken_or_refused(option in ".{0,40}") {
            let _ = parse(&[option], "/x");
        }
    }
}
