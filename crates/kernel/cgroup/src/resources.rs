//! Which limit goes where: each controller's limits to v1 if it is mounted there, else to cgroup2.
//!
//! What is the same file in both versions (pids, rdma) or has no version (raw `unified` values) is
//! written here.

use std::os::fd::AsFd;

use dhow_spec::oci_runtime::{LinuxDeviceCgroup, LinuxNetwork, LinuxRdma, LinuxResources};
use dhow_sys::bpf::{self, BpfError};
use dhow_sys::rustix::fs::{Mode as Permissions, OFlags, open};
use dhow_sys::rustix::io::{Errno, write as write_fd};

use crate::controller::{Controller, Controllers};
use crate::device::Rules;
use crate::error::CgroupError;
use crate::group::{Cgroup, control_error};
use crate::layout::{Hierarchy, Mode};
use crate::limit::{Limit, number_or_max};
use crate::{Result, cpu, v1, v2};

/// Sets everything that `resources` names. Devices come last: they are never what fails for want of room,
/// and a container without its memory limit is worse than one without its devices.
pub(crate) fn apply(group: &Cgroup, resources: &LinuxResources) -> Result<()> {
    apply_limits(group, resources)?;
    set_devices(group, resources.devices().as_deref().unwrap_or_default())
}

/// Sets everything that `resources` names but devices.
pub(crate) fn apply_limits(group: &Cgroup, resources: &LinuxResources) -> Result<()> {
    if let Some(memory) = resources.memory() {
        on_either(group, Controller::Memory, v1::memory(memory), v2::memory(memory))?;
    }
    if let Some(cpu) = resources.cpu() {
        on_either(group, Controller::Cpu, cpu::v1(cpu), cpu::v2(cpu))?;
        on_either(group, Controller::Cpuset, v1::cpuset(cpu), v1::cpuset(cpu))?;
    }
    if let Some(pids) = resources.pids() {
        set_pids(group, pids.limit())?;
    }
    if let Some(io) = resources.block_io() {
        on_either(group, Controller::Io, v1::block_io(io), v2::block_io(io))?;
    }
    for huge in resources.hugepage_limits().iter().flatten() {
        set_huge_pages(group, huge.page_size(), huge.limit())?;
    }
    if let Some(network) = resources.network() {
        set_network(group, network)?;
    }
    for (device, rdma) in resources.rdma().iter().flatten() {
        set_rdma(group, device, rdma)?;
    }
    // A map has no order; the alphabet puts memory.high before memory.max.
    let mut raw: Vec<_> = resources.unified().iter().flatten().collect();
    raw.sort_unstable();
    raw.into_iter().try_for_each(|(file, value)| set_raw(group, file, value))
}

/// A step that sets the limits of one controller in the hierarchy that has it.
pub(crate) enum Step<F> {
    /// None of the controller's limits is asked for.
    Nothing,
    /// Run it; `Limit` is what to name if the controller is nowhere.
    Run(Limit, F),
}

fn on_either<F, G>(group: &Cgroup, controller: Controller, old: Step<F>, new: Step<G>) -> Result<()>
where
    F: FnOnce(&Cgroup, &Hierarchy) -> Result<()>,
    G: FnOnce(&Cgroup, &Hierarchy) -> Result<()>,
{
    if let Some(place) = group.layout.v1(controller) {
        return match old {
            Step::Nothing => Ok(()),
            Step::Run(_, set) => set(group, place),
        };
    }
    match new {
        Step::Nothing => Ok(()),
        Step::Run(limit, set) => set(group, either(group, controller, &limit)?),
    }
}

/// The hierarchy of a controller, v1's if it has one.
fn either<'a>(group: &'a Cgroup, controller: Controller, limit: &Limit) -> Result<&'a Hierarchy> {
    let layout = &group.layout;
    if let Some(place) = layout.v1(controller) {
        return Ok(place);
    }
    let place = layout.unified(controller).ok_or_else(|| group.missing(controller, limit))?;
    if layout.mode() == Mode::Hybrid && place.controllers.contains(controller) {
        // Not done when the cgroup was made: on a hybrid machine hardly anybody wants these.
        v2::enable_controllers(place, group.place.path_in(place), Controllers::only(controller));
    }
    Ok(place)
}

/// 0 means that nothing was asked for, as in Docker and runc; negative is unlimited.
fn set_pids(group: &Cgroup, count: i64) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let raw = if count < 0 { "max".to_owned() } else { count.to_string() };
    let limit = Limit::new("pids limit", if count < 0 { "unlimited" } else { &raw });
    let place = either(group, Controller::Pids, &limit);
    if count < 0 && place.is_err() {
        return Ok(());
    }
    group.set(place?, "pids.max", &raw, &limit)
}

fn set_huge_pages(group: &Cgroup, size: &str, bytes: i64) -> Result<()> {
    let limit = Limit::bytes("huge page limit", bytes);
    if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(limit.out_of_range(format!("{size:?} is not a page size such as 2MB")));
    }
    let place = either(group, Controller::Hugetlb, &limit)?;
    let (suffix, raw) = if group.is_unified(place) {
        ("max", number_or_max(bytes))
    } else {
        ("limit_in_bytes", bytes.to_string())
    };
    group.set(place, &format!("hugetlb.{size}.{suffix}"), &raw, &limit)?;
    // What is reserved by mmap, before it is touched (Linux 5.7).
    let reserved = format!("hugetlb.{size}.rsvd.{suffix}");
    match group.try_set(place, &reserved, &raw) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(group.refused(place, &reserved, &limit, errno)),
    }
}

/// Classes and priorities exist on v1 only.
fn set_network(group: &Cgroup, network: &LinuxNetwork) -> Result<()> {
    let v1 = |controller, limit: &Limit| {
        group.layout.v1(controller).ok_or_else(|| group.missing(controller, limit))
    };
    if let Some(class) = network.class_id().filter(|class| *class != 0) {
        let limit = Limit::new("network class", class);
        let place = v1(Controller::NetCls, &limit)?;
        group.set(place, "net_cls.classid", &class.to_string(), &limit)?;
    }
    for entry in network.priorities().iter().flatten() {
        let limit = Limit::new("network priority", entry.priority());
        let place = v1(Controller::NetPrio, &limit)?;
        let raw = format!("{} {}", entry.name(), entry.priority());
        group.set(place, "net_prio.ifpriomap", &raw, &limit)?;
    }
    Ok(())
}

fn set_rdma(group: &Cgroup, device: &str, rdma: &LinuxRdma) -> Result<()> {
    let mut raw = device.to_owned();
    for (key, value) in [("hca_handle", rdma.hca_handles()), ("hca_object", rdma.hca_objects())] {
        if let Some(value) = value {
            raw.extend([" ", key, "=", &value.to_string()]);
        }
    }
    let limit = Limit::new("rdma limit", &raw);
    if rdma.hca_handles().is_none() && rdma.hca_objects().is_none() {
        return Err(limit.out_of_range("it needs hcaHandles or hcaObjects"));
    }
    let place = either(group, Controller::Rdma, &limit)?;
    group.set(place, "rdma.max", &raw, &limit)
}

/// Raw cgroup2 values of the OCI's `unified` map.
fn set_raw(group: &Cgroup, file: &str, value: &str) -> Result<()> {
    let limit = Limit::new("cgroup2 value", format!("{file}={value}"));
    if file.contains('/') || file.starts_with('.') || !file.contains('.') {
        return Err(limit.out_of_range("the name is that of a control file, such as memory.high"));
    }
    let Some(place) = group.layout.cgroup2() else {
        return Err(group.unsupported(&limit, "this machine has cgroup v1 only"));
    };
    let name = file.split('.').next().unwrap_or_default();
    for controller in Controllers::parse([name]).iter() {
        if !place.controllers.contains(controller) {
            return Err(match group.layout.v1(controller) {
                Some(_) => group.unsupported(&limit, format!("{name} is a v1 controller here")),
                None => group.missing(controller, &limit),
            });
        }
        either(group, controller, &limit)?;
    }
    value.lines().try_for_each(|line| group.set(place, file, line, &limit))
}

fn set_devices(group: &Cgroup, list: &[LinuxDeviceCgroup]) -> Result<()> {
    let Some(rules) = Rules::parse(list)? else { return Ok(()) };
    let limit = Limit::new("device rules", format!("({})", list.len()));
    if let Some(place) = group.layout.v1(Controller::Devices) {
        return write_devices(group, place, &rules);
    }
    let place = either(group, Controller::Devices, &limit)?;
    attach_devices(group, place, &rules).map_err(|error| device_error(group, error))
}

/// v1: one line is one write(2), all into the same two descriptors.
fn write_devices(group: &Cgroup, place: &Hierarchy, rules: &Rules) -> Result<()> {
    let (allow_all, lines) = rules.to_v1().map_err(|rule| {
        let limit = Limit::new("device rule", rule);
        group.unsupported(&limit, "cgroup v1 cannot take a part out of a wider rule")
    })?;
    let open_file = |name: &str| {
        let file = group.file(place, name);
        open(file.as_str(), OFlags::WRONLY | OFlags::CLOEXEC, Permissions::empty())
            .map_err(|errno| control_error("open", &file, errno))
    };
    let is_needed = |allow| allow == allow_all || lines.iter().any(|(one, _)| *one == allow);
    let allow = is_needed(true).then(|| open_file("devices.allow")).transpose()?;
    let deny = is_needed(false).then(|| open_file("devices.deny")).transpose()?;
    let all = (allow_all, "a".to_owned());
    for (is_allow, text) in std::iter::once(&all).chain(&lines) {
        let Some(file) = (if *is_allow { &allow } else { &deny }) else { continue };
        write_fd(file, text.as_bytes()).map_err(|errno| {
            let limit =
                Limit::new(if *is_allow { "device permission" } else { "device denial" }, text);
            group.refused(place, "devices.list", &limit, errno)
        })?;
    }
    Ok(())
}

/// cgroup2: attaches the new program, then takes off those that were there. In between both must consent,
/// so that an update never opens a gap.
fn attach_devices(group: &Cgroup, place: &Hierarchy, rules: &Rules) -> Result<(), DeviceFailure> {
    let directory = group.directory_of(place);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = open(directory.as_str(), flags, Permissions::empty())?;
    let before = bpf::attached_devices(opened.as_fd())?;
    let program = bpf::load_device(&rules.to_program())?;
    bpf::attach_device(opened.as_fd(), program.as_fd())?;
    for id in before {
        bpf::detach_device(opened.as_fd(), id)?;
    }
    Ok(())
}

#[derive(Debug)]
enum DeviceFailure {
    Open(Errno),
    Bpf(BpfError),
}

impl From<Errno> for DeviceFailure {
    fn from(errno: Errno) -> Self {
        Self::Open(errno)
    }
}

impl From<BpfError> for DeviceFailure {
    fn from(error: BpfError) -> Self {
        Self::Bpf(error)
    }
}

fn device_error(group: &Cgroup, failure: DeviceFailure) -> CgroupError {
    match failure {
        DeviceFailure::Open(errno) => control_error("open", group.path(), errno),
        DeviceFailure::Bpf(source) => {
            CgroupError::Devices { path: group.path().to_owned(), source }
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the test starts a process to restrict")]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::device::default_rules;
    use crate::layout::Layout;

    /// The program is loaded, attached, obeyed, replaced and gone: on this machine's cgroup2 tree, whether it
    /// has controllers or not.
    #[test]
    fn a_device_program_restricts_a_process() {
        let detected = Layout::detect().unwrap();
        let Some(tree) = detected.cgroup2().cloned() else { return };
        let tree = Hierarchy { controllers: Controllers::default(), ..tree };
        let layout = Layout::from_hierarchies(vec![], Some(tree));
        let group = layout.create(&format!("/dhow-test-bpf-{}", std::process::id())).unwrap();
        let opened = group.directory().unwrap().unwrap();

        let mut deny = LinuxDeviceCgroup::default();
        deny.set_access(Some("rwm".into()));
        let mut wanted = LinuxResources::default();
        wanted.set_devices(Some(vec![deny.clone()]));
        group.apply(&wanted).unwrap();
        let first = bpf::attached_devices(opened.as_fd()).unwrap();
        wanted.set_devices(Some([vec![deny], default_rules()].concat()));
        group.apply(&wanted).unwrap();
        let second = bpf::attached_devices(opened.as_fd()).unwrap();
        assert_eq!((first.len(), second.len()), (1, 1));
        assert_ne!(first, second);

        // /dev/kmsg (1:11) is not among the defaults.
        let script =
            "read line; : </dev/null && : </dev/zero || exit 1; (: </dev/kmsg) && exit 2; exit 0";
        let mut child = Command::new("/bin/sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        group.add(child.id() as i32).unwrap();
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        group.destroy().unwrap();
    }
}
