//! Compiled seccomp filters, kept.
//!
//! What a profile allows depends on the container's capabilities. Compiling takes longer than the rest of
//! a start's preparation, so each pair of profile and capability set is compiled once.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use dhow_error::{Error, Kind, Result};
use dhow_seccomp::docker::{KernelVersion, Profile};
use dhow_spec::Digest;
use dhow_spec::oci_runtime::Capability;
use dhow_sys::rustix::system::uname;

use crate::capabilities;
use crate::spec::{SeccompChoice, Security};

/// How many filters are kept; beyond that all are forgotten (nobody has so many).
const KEPT: usize = 64;

/// Compiled filters by profile and capabilities.
#[derive(Debug)]
pub(crate) struct Profiles {
    kernel: KernelVersion,
    default: Profile,
    compiled: Mutex<HashMap<Key, Arc<[u8]>>>,
}

/// The profile's digest (none for the default one) and the capabilities' names.
type Key = (Option<Digest>, Vec<String>);

impl Profiles {
    /// With the daemon's own default profile, if it has one (Docker's JSON).
    ///
    /// Errors: invalid if that cannot be read.
    pub(crate) fn new(default: Option<&str>) -> Result<Self> {
        let default = match default {
            Some(json) => Profile::parse(json.as_bytes())
                .map_err(|error| Error::from(error).context("cannot read the seccomp profile"))?,
            None => Profile::default_profile(),
        };
        Ok(Self { kernel: kernel_version(), default, compiled: Mutex::default() })
    }

    /// The filter for a container, in the form that the launcher takes; empty for none.
    ///
    /// Errors: invalid for a profile that cannot be read or compiled.
    pub(crate) fn filter(
        &self,
        security: &Security,
        names: &BTreeSet<String>,
    ) -> Result<Arc<[u8]>> {
        let custom = match &security.seccomp {
            SeccompChoice::Unconfined => return Ok(Arc::default()),
            SeccompChoice::Default if security.privileged => return Ok(Arc::default()),
            SeccompChoice::Default => None,
            SeccompChoice::Profile(json) => Some(json),
        };
        let digest = custom.map(|json| Digest::of(json.as_bytes()));
        let key = (digest, names.iter().cloned().collect());
        if let Some(filter) = self.compiled().get(&key) {
            return Ok(Arc::clone(filter));
        }
        let filter = self.compile(custom.map(String::as_str), names)?;
        let mut compiled = self.compiled();
        if compiled.len() >= KEPT {
            compiled.clear();
        }
        compiled.insert(key, Arc::clone(&filter));
        Ok(filter)
    }

    fn compile(&self, custom: Option<&str>, names: &BTreeSet<String>) -> Result<Arc<[u8]>> {
        let wrong = |error: dhow_seccomp::SeccompError| {
            Error::caused(Kind::Invalid, "cannot use the seccomp profile", error)
        };
        let parsed =
            custom.map(|json| Profile::parse(json.as_bytes())).transpose().map_err(wrong)?;
        let profile = parsed.as_ref().unwrap_or(&self.default);
        let capabilities: Vec<Capability> = capabilities::as_oci(names).into_iter().collect();
        let resolved = profile.resolve(&capabilities, self.kernel);
        let program = dhow_seccomp::compile(&resolved).map_err(wrong)?;
        Ok(program.to_bytes().into())
    }

    fn compiled(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<[u8]>>> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running kernel's version; 0.0 if it cannot be read, which allows least.
fn kernel_version() -> KernelVersion {
    let name = uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(std::result::Result::ok).unwrap_or_default();
    KernelVersion { major: next(), minor: next() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_compiled_once() {
        let profiles = Profiles::new(None).unwrap();
        let names = BTreeSet::from(["CAP_KILL".to_owned()]);
        let security = Security::default();
        let first = profiles.filter(&security, &names).unwrap();
        let second = profiles.filter(&security, &names).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        assert!(!first.is_empty());
    }

    #[test]
    fn unconfined_and_privileged_have_none() {
        let profiles = Profiles::new(None).unwrap();
        let names = BTreeSet::new();
        let unconfined = Security { seccomp: SeccompChoice::Unconfined, ..Security::default() };
        assert!(profiles.filter(&unconfined, &names).unwrap().is_empty());
        let privileged = Security { privileged: true, ..Security::default() };
        assert!(profiles.filter(&privileged, &names).unwrap().is_empty());
    }

    #[test]
    fn a_broken_profile_is_the_users_fault() {
        let profiles = Profiles::new(None).unwrap();
        let security =
            Security { seccomp: SeccompChoice::Profile("{".into()), ..Security::default() };
        let error = profiles.filter(&security, &BTreeSet::new()).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
    }
}
