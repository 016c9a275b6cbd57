//! Interfaces of the host's that a container is given (OCI runtime specification, config-linux.md, "Network
//! Devices").
//!
//! Done by the parent when the container's namespaces are there and before its sysctls are written: an
//! interface moves with its permanent global addresses, under its new name, and is up then. Nothing is undone
//! when the container ends: the kernel sends what is hardware back to the host, and what is not goes.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};

use dhow_error::{Classify, Kind, chain};
use dhow_spec::oci_runtime::Linux;
use dhow_sys::namespace::{self, Namespaces};
use dhow_sys::netlink::route::{self, LinkChange, Target};
use dhow_sys::netlink::{self, Family, Messages, Socket, lasting};
use dhow_sys::process::Reason;
use dhow_sys::rustix::fs::{CWD, Mode, OFlags, openat};
use dhow_sys::rustix::io::Errno;

use crate::error::LaunchError;

const STEP: &str = "network";
/// The longest name of an interface (IFNAMSIZ without the NUL).
const LONGEST_NAME: usize = 15;

/// The interfaces, each with its name on the host and its name inside.
#[derive(Debug, Default)]
pub(crate) struct NetDevices(Vec<(String, String)>);

impl NetDevices {
    /// Checks the specification; `own` is what namespaces the container has to itself.
    pub(crate) fn new(linux: Option<&Linux>, own: Namespaces) -> Result<Self, LaunchError> {
        let given = linux.and_then(|linux| linux.net_devices().as_ref()).into_iter().flatten();
        let mut devices = Vec::new();
        let mut names = HashSet::new();
        for (host, device) in given {
            let inside = device.name().clone().filter(|name| !name.is_empty());
            let inside = inside.unwrap_or_else(|| host.clone());
            for name in [host, &inside] {
                check(name)?;
            }
            if !inside.contains('%') && !names.insert(inside.clone()) {
                let message =
                    format!("linux.netDevices: two interfaces are to be called {inside:?}");
                return Err(invalid(&message));
            }
            devices.push((host.clone(), inside));
        }
        if !devices.is_empty() && !own.contains(Namespaces::NETWORK) {
            return Err(invalid("linux.netDevices needs a network namespace in linux.namespaces"));
        }
        devices.sort_unstable();
        Ok(Self(devices))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Moves them into the network namespace of the process with that pid, a child of ours.
    pub(crate) fn move_to(&self, pid: i32) -> Result<(), LaunchError> {
        let theirs = open(&format!("/proc/{pid}/ns/net"))?;
        let mut outside = Socket::open(Family::Route).map_err(|error| classified("", &error))?;
        let mut inside = socket_in(&theirs)?;
        for (host, name) in &self.0 {
            let doing = format!("linux.netDevices: cannot give {host:?} to the container: ");
            let failed = |error: netlink::Error| classified(&doing, &error);
            let found = route::link(&mut outside, host).map_err(failed)?;
            let link = found.ok_or_else(|| {
                let message = format!("linux.netDevices: there is no interface {host:?}");
                LaunchError::new(STEP, Kind::NotFound, message)
            })?;
            let addresses = lasting::lasting(&mut outside, link.index).map_err(failed)?;
            let before = indices(&mut inside).map_err(failed)?;
            let netns = Some(theirs.as_fd());
            let change = LinkChange { netns, name: Some(name.as_str()), ..LinkChange::default() };
            let mut messages = Messages::new();
            route::change_link(&mut messages, Target::Index(link.index), &change);
            outside.send(&mut messages).map_err(failed)?;
            let new = indices(&mut inside).map_err(failed)?.difference(&before).next().copied();
            let new = new.ok_or_else(|| invalid(&format!("{doing}it is not there")))?;
            let mut messages = Messages::new();
            for address in &addresses {
                lasting::restore(&mut messages, new, address);
            }
            let up = LinkChange { up: Some(true), ..LinkChange::default() };
            route::change_link(&mut messages, Target::Index(new), &up);
            inside.send(&mut messages).map_err(failed)?;
        }
        Ok(())
    }
}

fn check(name: &str) -> Result<(), LaunchError> {
    let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0';
    let empty = name.is_empty() || name == "." || name == "..";
    if empty || name.len() > LONGEST_NAME || name.contains(odd) {
        let message = format!("linux.netDevices: {name:?} is no name of an interface");
        return Err(invalid(&message));
    }
    Ok(())
}

fn indices(socket: &mut Socket) -> Result<HashSet<u32>, netlink::Error> {
    Ok(route::links(socket)?.into_iter().map(|link| link.index).collect())
}

/// A socket at home in that namespace. This thread goes there and comes back.
fn socket_in(theirs: &OwnedFd) -> Result<Socket, LaunchError> {
    let ours = open("/proc/thread-self/ns/net")?;
    let failed = |errno| {
        let message =
            format!("linux.netDevices: cannot change the network namespace: {}", Reason(errno));
        LaunchError::new(STEP, Kind::Internal, message)
    };
    namespace::join(theirs.as_fd(), Namespaces::NETWORK).map_err(failed)?;
    let socket = Socket::open(Family::Route);
    namespace::join(ours.as_fd(), Namespaces::NETWORK).map_err(failed)?;
    socket.map_err(|error| classified("", &error))
}

fn open(path: &str) -> Result<OwnedFd, LaunchError> {
    openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|errno: Errno| {
        let message = format!("linux.netDevices: cannot open {path}: {}", Reason(errno));
        LaunchError::new(STEP, Kind::Internal, message)
    })
}

fn classified(doing: &str, error: &netlink::Error) -> LaunchError {
    LaunchError::new(STEP, error.kind(), format!("{doing}{}", chain(error)))
}

fn invalid(message: &str) -> LaunchError {
    LaunchError::new(STEP, Kind::Invalid, message)
}
