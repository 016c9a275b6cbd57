//! Labels of Linux security modules that a process takes on when it executes its command: SELinux and
//! AppArmor.
//!
//! Both are written to the process's own /proc entry through a procfs that no image can stand in for
//! (CVE-2019-16884, CVE-2025-52881), and are passed on to a child until the exec. Where the machine has no
//! such module, asking for one is an error: the container would be less confined than its owner believes.

use std::fs;
use std::os::fd::BorrowedFd;

use dhow_error::Kind;
use dhow_spec::oci_runtime::Process;
use dhow_sys::beneath;
use dhow_sys::process::Reason;
use dhow_sys::rustix::fs::OFlags;
use dhow_sys::rustix::io::{Errno, write};
use dhow_sys::rustix::process::getpid;

use crate::error::LaunchError;

const STEP: &str = "identity";

/// What a process's labels are to be.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    selinux: Option<String>,
    apparmor: Option<String>,
}

impl Labels {
    /// Checks that the machine can do what the specification asks for.
    pub(crate) fn new(process: &Process) -> Result<Self, LaunchError> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let selinux = given(process.selinux_label());
        if selinux.is_some() && !selinux_is_enabled() {
            return Err(absent("process.selinuxLabel", "SELinux"));
        }
        let apparmor = given(process.apparmor_profile());
        let enabled = || {
            fs::read("/sys/module/apparmor/parameters/enabled")
                .is_ok_and(|answer| answer.starts_with(b"Y"))
        };
        match apparmor.as_deref() {
            // Where nothing confines, that is so.
            Some("unconfined") if !enabled() => return Ok(Self { selinux, apparmor: None }),
            Some(_) if !enabled() => return Err(absent("process.apparmorProfile", "AppArmor")),
            _ => {}
        }
        Ok(Self { selinux, apparmor: apparmor.map(|profile| format!("exec {profile}")) })
    }

    /// Whether there is any.
    pub(crate) fn is_empty(&self) -> bool {
        self.selinux.is_none() && self.apparmor.is_none()
    }

    /// Has the next exec take them on. `procfs` is of this process's pid namespace.
    pub(crate) fn write(&self, procfs: BorrowedFd<'_>) -> Result<(), LaunchError> {
        if let Some(profile) = &self.apparmor {
            // Its own folder since Linux 5.8; before, the one module that there was had the files.
            let written = match put(procfs, "attr/apparmor/exec", profile) {
                Err(Errno::NOENT) => put(procfs, "attr/exec", profile),
                other => other,
            };
            written.map_err(|errno| refused("process.apparmorProfile", profile, errno))?;
        }
        let Some(label) = &self.selinux else { return Ok(()) };
        put(procfs, "attr/exec", label)
            .map_err(|errno| refused("process.selinuxLabel", label, errno))
    }
}

/// Whether SELinux decides anything here.
pub(crate) fn selinux_is_enabled() -> bool {
    fs::exists("/sys/fs/selinux/enforce").unwrap_or(false)
}

/// What is asked for is not there.
pub(crate) fn absent(field: &str, what: &str) -> LaunchError {
    let message = format!("{field}: {what} is not enabled on this machine");
    LaunchError::new("plan", Kind::Unsupported, message)
}

fn put(procfs: BorrowedFd<'_>, name: &str, text: &str) -> Result<(), Errno> {
    let path = format!("{}/{name}", getpid().as_raw_nonzero());
    let file = beneath::open_strict(procfs, path.as_bytes(), OFlags::WRONLY)?;
    write(&file, text.as_bytes()).map(drop)
}

fn refused(field: &str, value: &str, errno: Errno) -> LaunchError {
    let message = format!("cannot set {field} to {value:?}: {}", Reason(errno));
    LaunchError::new(STEP, Kind::Invalid, message)
}
