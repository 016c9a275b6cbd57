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
    /// `idmap` (false) or `ridmap` (true).
    pub(crate) id_map: Option<bool>,
    /// `remount`: only the attributes of what is mounted there already change.
    pub(crate) remount: bool,
    /// `tmpcopyup`: what the mount covers is copied into it first.
    pub(crate) copy_up: bool,
    /// The file system's own options.
    pub(crate) data: Vec<(CString, Option<CString>)>,
}

/// One attribute option: its name, its bits, and whether it sets or clears them.
struct Attribute(&'static str, MountAttrFlags, bool);

/// Every one of these exists with an `r` in front as well, then meant recursively.
const ATTRIBUTES: [Attribute; 18] = [
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
    // Without the one that they negate, this is what the kernel does.
    Attribute("norelatime", MountAttrFlags::MOUNT_ATTR_RELATIME, true),
    Attribute("nostrictatime", MountAttrFlags::MOUNT_ATTR_RELATIME, true),
    Attribute("atime", MountAttrFlags::MOUNT_ATTR_RELATIME, true),
];

/// Options without a meaning for a mount made through descriptors; mount(8) has them for fstab.
const WITHOUT_MEANING: [&str; 9] =
    ["defaults", "async", "nomand", "iversion", "noiversion", "silent", "loud", "auto", "nofail"];

/// Of those, options that take another back.
const TAKES_BACK: [(&str, &str); 2] = [("async", "sync"), ("nomand", "mand")];

/// Options that the kernel knows for file systems of every kind, set when one is made.
const OF_EVERY_FILE_SYSTEM: [&str; 7] =
    ["acl", "dirsync", "lazytime", "mand", "noacl", "nolazytime", "sync"];

/// The names of all options that a mount may have whatever its file system, in alphabetical order.
pub fn mount_options() -> Vec<String> {
    let attributes = ATTRIBUTES.iter().map(|attribute| attribute.0);
    let propagations = ["private", "shared", "slave", "unbindable"];
    let with_kin = attributes.chain(propagations).chain(["bind", "idmap"]);
    let alone = ["remount", "tmpcopyup"].into_iter().chain(WITHOUT_MEANING);
    let mut names: Vec<String> = with_kin
        .flat_map(|name| [name.to_owned(), format!("r{name}")])
        .chain(alone.chain(OF_EVERY_FILE_SYSTEM).map(str::to_owned))
        .collect();
    names.sort_unstable();
    names
}

/// Parses the options of a mount.
pub(crate) fn parse(options: &[String]) -> Result<Options, PlanError> {
    let mut parsed = Options::default();
    for option in options {
        parsed.take(option)?;
    }
    Ok(parsed)
}

impl Options {
    fn take(&mut self, option: &str) -> Result<(), PlanError> {
        if let Some(attribute) = attribute(option) {
            change(&mut self.attributes, attribute);
        } else if let Some(attribute) = option.strip_prefix('r').and_then(attribute) {
            change(&mut self.recursive, attribute);
        } else if let Some(propagation) = propagation(option) {
            self.propagation = Some(propagation);
        } else if option == "bind" || option == "rbind" {
            self.bind = Some(option == "rbind");
        } else if option == "idmap" || option == "ridmap" {
            self.id_map = Some(option == "ridmap");
        } else if let Some((_, with)) = TAKES_BACK.iter().find(|(without, _)| *without == option) {
            self.data.retain(|(key, _)| key.as_bytes() != with.as_bytes());
        } else if option == "remount" {
            self.remount = true;
        } else if option == "tmpcopyup" {
            self.copy_up = true;
        } else if !option.is_empty() && !WITHOUT_MEANING.contains(&option) {
            self.data.push(data(option)?);
        }
        Ok(())
    }

    /// The first option that only a file system of its own would know, as it was given.
    pub(crate) fn first_data(&self) -> Option<String> {
        let (key, value) = self.data.first()?;
        let key = key.to_string_lossy();
        Some(match value {
            Some(value) => format!("{key}={}", value.to_string_lossy()),
            None => key.into_owned(),
        })
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
        parse(&options).unwrap()
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
    fn what_is_told_of_is_known() {
        let names = mount_options();
        assert!(names.len() > 60 && names.windows(2).all(|pair| pair[0] < pair[1]));
        for name in names {
            let parsed = parsed(&name);
            let is_the_kernels = OF_EVERY_FILE_SYSTEM.contains(&name.as_str());
            assert_eq!(parsed.data.is_empty(), !is_the_kernels, "{name}");
        }
    }

    #[test]
    fn what_is_more_than_an_attribute() {
        let options = parsed("ridmap remount tmpcopyup");
        assert_eq!((options.id_map, options.remount, options.copy_up), (Some(true), true, true));
        assert_eq!(parsed("idmap").id_map, Some(false));
        assert_eq!(parsed("rw size=1k").first_data().as_deref(), Some("size=1k"));
    }

    #[test]
    fn every_recursive_option_of_the_specification() {
        let all = "rro rrw rsuid rnosuid rdev rnodev rexec rnoexec rdiratime rnodiratime rrelatime \
                   rnorelatime rnoatime ratime rstrictatime rnostrictatime rsymfollow rnosymfollow";
        let options = parsed(all);
        assert!(options.data.is_empty() && options.attributes.is_empty());
        assert!(options.recursive.set.contains(MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW));
        // The last word on access times was "not strict".
        assert!(!options.recursive.set.intersects(MountAttrFlags::MOUNT_ATTR__ATIME));
        assert!(options.recursive.clear.contains(MountAttrFlags::MOUNT_ATTR__ATIME));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken_or_refused(option in ".{0,40}") {
            let _ = parse(&[option]);
        }
    }
}
