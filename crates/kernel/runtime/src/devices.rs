//! Which devices a container may use whatever its specification says: those that every container's /dev
//! has, and making nodes of any (using them is another matter). As runc allows them.

use dhow_spec::oci_runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};

/// Type, major, minor (all if absent) and access.
type Rule = (LinuxDeviceType, Option<i64>, Option<i64>, &'static str);

const ALWAYS: [Rule; 11] = [
    (LinuxDeviceType::C, None, None, "m"),
    (LinuxDeviceType::B, None, None, "m"),
    (LinuxDeviceType::C, Some(1), Some(3), "rwm"), // null
    (LinuxDeviceType::C, Some(1), Some(5), "rwm"), // zero
    (LinuxDeviceType::C, Some(1), Some(7), "rwm"), // full
    (LinuxDeviceType::C, Some(1), Some(8), "rwm"), // random
    (LinuxDeviceType::C, Some(1), Some(9), "rwm"), // urandom
    (LinuxDeviceType::C, Some(5), Some(0), "rwm"), // tty
    (LinuxDeviceType::C, Some(5), Some(1), "rwm"), // console
    (LinuxDeviceType::C, Some(5), Some(2), "rwm"), // ptmx
    (LinuxDeviceType::C, Some(136), None, "rwm"),  // pts
];

/// The resources with the devices of every container allowed. A specification without a device list
/// gets no others.
pub(crate) fn with_defaults(given: Option<&LinuxResources>) -> LinuxResources {
    let mut resources = given.cloned().unwrap_or_default();
    let mut devices = resources.devices().clone().unwrap_or_default();
    let allows_all = |rule: &LinuxDeviceCgroup| {
        let every = matches!(rule.typ(), None | Some(LinuxDeviceType::A));
        rule.allow() && every && rule.major().is_none() && rule.minor().is_none()
    };
    if !devices.last().is_some_and(allows_all) {
        devices.extend(ALWAYS.iter().map(rule));
    }
    resources.set_devices(Some(devices));
    resources
}

fn rule((typ, major, minor, access): &Rule) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true).set_typ(Some(*typ)).set_major(*major).set_minor(*minor);
    rule.set_access(Some((*access).to_owned()));
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_null() {
        let resources = with_defaults(None);
        let devices = resources.devices().clone().unwrap();
        assert_eq!(devices.len(), ALWAYS.len());
        assert!(devices.iter().any(|rule| (rule.major(), rule.minor()) == (Some(1), Some(3))));
    }

    #[test]
    fn who_may_use_all_is_told_no_more() {
        let mut all = LinuxDeviceCgroup::default();
        all.set_allow(true).set_access(Some("rwm".to_owned()));
        let mut given = LinuxResources::default();
        given.set_devices(Some(vec![all]));
        assert_eq!(with_defaults(Some(&given)).devices().as_ref().map(Vec::len), Some(1));
    }
}
