//! Which capabilities a container gets (`capabilities(7)`).
//!
//! Docker's rules: a default set of fourteen; `--cap-drop ALL` empties it, `--cap-add ALL` fills it, then
//! single ones are taken away and added. "All" means all that the daemon itself may hand on.

use std::collections::BTreeSet;

use dhow_error::{Error, Result};
use dhow_spec::oci_runtime::{Capabilities, Capability};
use dhow_sys::caps::{self, CapabilitySet};

use crate::spec::Security;

/// What a container gets that asks for nothing.
const DEFAULT: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// The names (`CAP_…`) of a container's capabilities, sorted. `available` is what the daemon holds.
///
/// Errors: invalid for an unknown name, or for one that is asked for by name and not available.
pub(crate) fn resolve(security: &Security, available: CapabilitySet) -> Result<BTreeSet<String>> {
    let every: BTreeSet<String> = caps::names(available).into_iter().collect();
    if security.privileged {
        return Ok(every);
    }
    let (add_all, add) = parse("cap-add", &security.cap_add)?;
    let (drop_all, drop) = parse("cap-drop", &security.cap_drop)?;
    let mut set: BTreeSet<String> = match (add_all, drop_all) {
        // With both, Docker lets the dropped ALL only take away what is not added by name.
        (true, _) => every.clone(),
        (false, true) => BTreeSet::new(),
        (false, false) => DEFAULT.iter().map(ToString::to_string).collect(),
    };
    set.retain(|name| every.contains(name) && !drop.contains(name));
    for name in add {
        if !every.contains(&name) {
            return Err(Error::invalid(format!(
                "invalid argument for cap-add: {name} is not held by the daemon itself"
            ))
            .with_hint("start the daemon with it, or leave it out"));
        }
        set.insert(name);
    }
    Ok(set)
}

/// The same as the OCI's type. A capability the OCI crate does not know cannot be there: both know all
/// that Linux has since 5.9.
pub(crate) fn as_oci(names: &BTreeSet<String>) -> Capabilities {
    let bare = names.iter().map(|name| name.strip_prefix("CAP_").unwrap_or(name));
    bare.filter_map(|name| name.parse::<Capability>().ok()).collect()
}

/// Whether `ALL` is among the names, and the others in their normal form.
fn parse(option: &str, names: &[String]) -> Result<(bool, BTreeSet<String>)> {
    let mut all = false;
    let mut known = BTreeSet::new();
    for name in names {
        let name = name.trim();
        if name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL") {
            all = true;
            continue;
        }
        let set = caps::by_name(name).ok_or_else(|| {
            let name: String = name.chars().take(100).collect();
            Error::invalid(format!(
                "invalid argument for {option}: unknown capability: {}",
                normal(&name)
            ))
        })?;
        known.extend(caps::names(set));
    }
    Ok((all, known))
}

/// `net_admin` as `CAP_NET_ADMIN`, for messages.
fn normal(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(add: &[&str], drop: &[&str]) -> Result<BTreeSet<String>> {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let security =
            Security { cap_add: owned(add), cap_drop: owned(drop), ..Security::default() };
        let available = CapabilitySet::all() - CapabilitySet::SYS_RESOURCE;
        resolve(&security, available)
    }

    #[test]
    fn the_default_is_dockers() {
        assert_eq!(set(&[], &[]).unwrap().len(), 14);
    }

    #[test]
    fn names_are_added_and_dropped() {
        let got = set(&["net_admin"], &["CAP_CHOWN", "mknod"]).unwrap();
        assert!(got.contains("CAP_NET_ADMIN") && !got.contains("CAP_CHOWN"));
        assert_eq!(got.len(), 13);
        assert_eq!(set(&["kill"], &["ALL"]).unwrap().into_iter().collect::<Vec<_>>(), ["CAP_KILL"]);
        let got = set(&["ALL"], &["CHOWN"]).unwrap();
        assert!(got.contains("CAP_SYS_ADMIN") && !got.contains("CAP_CHOWN"));
        assert!(!got.contains("CAP_SYS_RESOURCE"), "the daemon has none to give");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(set(&["CHEESE"], &[]).unwrap_err().to_string().contains("CAP_CHEESE"));
        assert!(set(&["SYS_RESOURCE"], &[]).is_err());
        assert!(set(&[], &["SYS_RESOURCE"]).is_ok());
    }

    #[test]
    fn every_name_is_known_to_the_oci_types() {
        let every: BTreeSet<String> = caps::names(CapabilitySet::all()).into_iter().collect();
        assert_eq!(as_oci(&every).len(), every.len());
    }
}
