//! Writing one limit, and saying in a user's words what was wrong with it.

use std::fmt::Display;

use dhow_sys::process::Reason;
use dhow_sys::rustix::io::Errno;

use crate::Result;
use crate::control;
use crate::controller::Controller;
use crate::error::CgroupError;
use crate::group::Cgroup;
use crate::layout::Hierarchy;

/// A limit about to be written: what it is called and how its value is shown.
#[derive(Debug, Clone)]
pub(crate) struct Limit {
    pub(crate) what: &'static str,
    pub(crate) shown: String,
}

impl Limit {
    pub(crate) fn new(what: &'static str, shown: impl Display) -> Self {
        Self { what, shown: shown.to_string() }
    }

    /// A limit in bytes; negative is unlimited.
    pub(crate) fn bytes(what: &'static str, bytes: i64) -> Self {
        Self { what, shown: show_bytes(bytes) }
    }

    /// A limit in microseconds.
    pub(crate) fn microseconds(what: &'static str, time: impl Display) -> Self {
        Self { what, shown: format!("{time} µs") }
    }

    /// The value is one that no kernel takes.
    pub(crate) fn out_of_range(self, why: impl Into<String>) -> CgroupError {
        CgroupError::BadValue { what: self.what, value: self.shown, why: why.into() }
    }
}

impl Cgroup {
    /// Writes a limit's raw value into a control file.
    pub(crate) fn set(
        &self,
        place: &Hierarchy,
        file: &str,
        raw: &str,
        limit: &Limit,
    ) -> Result<()> {
        let path = self.file(place, file);
        control::write(&path, raw).map_err(|errno| self.refused(place, file, limit, errno))
    }

    /// As [`Cgroup::set`], leaving it to the caller what an errno means.
    pub(crate) fn try_set(&self, place: &Hierarchy, file: &str, raw: &str) -> Result<(), Errno> {
        control::write(&self.file(place, file), raw)
    }

    /// The error for a limit that the kernel refused.
    pub(crate) fn refused(
        &self,
        place: &Hierarchy,
        file: &str,
        limit: &Limit,
        errno: Errno,
    ) -> CgroupError {
        CgroupError::Set {
            what: limit.what,
            value: limit.shown.clone(),
            path: self.path().to_owned(),
            hint: self.hint(place, file, errno),
            source: Reason(errno),
        }
    }

    /// The error for a limit whose controller is nowhere.
    pub(crate) fn missing(&self, controller: Controller, limit: &Limit) -> CgroupError {
        CgroupError::NoController {
            what: limit.what,
            value: limit.shown.clone(),
            path: self.path().to_owned(),
            controller: controller.name(),
            hint: self.layout.missing_hint(controller),
        }
    }

    /// The error for a limit that this cgroup version does not have.
    pub(crate) fn unsupported(&self, limit: &Limit, why: impl Into<String>) -> CgroupError {
        CgroupError::Unsupported {
            what: limit.what,
            value: limit.shown.clone(),
            path: self.path().to_owned(),
            why: why.into(),
        }
    }

    fn hint(&self, place: &Hierarchy, file: &str, errno: Errno) -> Option<String> {
        let number = |name: &str| control::read_number(&self.file(place, name)).ok();
        let parent = |name: &str| {
            let (above, _) = self.place.path_in(place).rsplit_once('/')?;
            let text = control::read(&[&place.directory(above), "/", name].concat()).ok()?;
            Some(text.trim().to_owned())
        };
        let text = match (file.split('.').next(), errno) {
            (Some("memory"), Errno::BUSY) => {
                let used = number("memory.usage_in_bytes").or_else(|| number("memory.current"))?;
                format!("already uses {}: choose more than that", show_use(used))
            }
            (Some("memory"), Errno::INVAL) => {
                "the swap limit counts memory too, so it is never below the memory limit".to_owned()
            }
            (Some("cpuset"), Errno::INVAL | Errno::RANGE | Errno::NODEV | Errno::ACCESS) => {
                let available = parent(file).filter(|list| !list.is_empty()).or_else(|| parent("cpuset.cpus.effective"))?;
                format!("the parent has {available}")
            }
            (Some("cpu"), Errno::INVAL) => {
                "the parent's quota may be smaller; a period is 1000 to 1000000 µs, a quota 1000 at least, a \
                 burst no longer than the quota"
                    .to_owned()
            }
            (_, Errno::NOENT) if self.is_unified(place) => {
                let here = control::read(&self.file(place, "cgroup.controllers")).unwrap_or_default();
                format!(
                    "enabled for this cgroup are: {}; processes in a parent keep it from enabling more",
                    if here.trim().is_empty() { "none" } else { here.trim() }
                )
            }
            (_, Errno::NOENT) => format!("this kernel is built or booted without {file}"),
            (_, Errno::ACCESS | Errno::PERM) => {
                "run as root, or have this part of the tree delegated".to_owned()
            }
            (_, Errno::ROFS) => "cgroups are mounted read-only here: remount them read-write".to_owned(),
            _ => return None,
        };
        Some(text)
    }
}

/// cgroup2's word for a limit; negative is none.
pub(crate) fn number_or_max(number: i64) -> String {
    if number < 0 { "max".to_owned() } else { number.to_string() }
}

/// Bytes to one digit behind the point.
fn show_use(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, unit)) => format!("{:.1} {unit}", bytes as f64 / (1_u64 << shift) as f64),
        None => format!("{bytes} bytes"),
    }
}

/// Bytes in the largest unit that divides them.
pub(crate) fn show_bytes(bytes: i64) -> String {
    if bytes < 0 {
        return "unlimited".to_owned();
    }
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        let size = 1_i64 << shift;
        if bytes >= size && bytes % size == 0 {
            return format!("{} {unit}", bytes / size);
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_whole_units() {
        assert_eq!(show_bytes(4 << 20), "4 MiB");
        assert_eq!(show_bytes((4 << 20) + 1), "4194305 bytes");
        assert_eq!(show_bytes(-1), "unlimited");
        assert_eq!(show_bytes(0), "0 bytes");
        assert_eq!(show_use(6 << 20), "6.0 MiB");
        assert_eq!(show_use(1 << 9), "512 bytes");
    }
}
