//! Starting a container's first process.
//!
//! ```text
//!   parent: plan ─► cgroup made, limited, opened ─► root's file system made
//!           ─► clone3 ─► does what the caller has to do ─► listens ─► (failure: kill, wait, remove)
//!                │
//!   child:  start ─► enters cgroup ─► namespaces ─► root ─► mounts ─► devices ─► terminal ─► sysctls
//!           ─► protect ─► pivot ─► becomes the command
//! ```
//!
//! With interfaces to be given, the child halts for its parent to move them, in its namespaces.
//! A container that is created ([`crate::create`]) halts twice more: `born`, before its first step, and
//! `mounted`, before the pivot; and it waits at its gate before it becomes the command. Its parent runs the
//! runtime's hooks while it is mounted; its own hooks run right after that, and behind the gate. A filter
//! with a listener halts it once more, until that is handed over ([`crate::listener`]).
//!
//! The child puts itself into its cgroup: being moved by its parent costs milliseconds. On cgroup2 it is
//! born there.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use dhow_cgroup::{Cgroup, Entry, Layout, Mode};
use dhow_error::Kind;
use dhow_rootfs::{Bare, CgroupView, Inside, Plan, PlanInput, Sources, clean_path};
use dhow_seccomp::Program;
use dhow_spec::oci_runtime::{Hooks, Linux, LinuxResources, Spec};
use dhow_sys::namespace::{self, Namespaces};
use dhow_sys::process::{clone_sibling, clone3};

use crate::channel::{self, Answer, Halt, Receiver, Sender};
use crate::devices::with_defaults;
use crate::error::LaunchError;
use crate::hooks::{HookPlan, Turns};
use crate::labels;
use crate::listener::{self, Listener};
use crate::namespaces::NamespacePlan;
use crate::netdevices::NetDevices;
use crate::ownership::cgroup_owner;
use crate::parent::{self, Notes};
use crate::process::{self, Prepared, ProcessInput, Progress};
use crate::stdio::Streams;
use crate::trace::Step;
use crate::tracers;
use crate::unsealed::Start;
use crate::userns::{self, UserNamespace};
use crate::{Creation, Help, Launch, Running, Ties, Told};

const STEP: &str = "cgroup";

/// Everything that the child needs, prepared.
struct Prepare {
    namespaces: NamespacePlan,
    plan: Plan,
    process: Prepared,
    cwd: String,
    no_pivot: bool,
    /// Whether the child halts for its parent.
    halts: bool,
    turns: Option<Turns>,
    user: Option<UserNamespace>,
    /// What the parent gives to the network namespace.
    devices: Rc<NetDevices>,
}

pub(crate) fn launch(
    launch: Launch<'_>,
    help: Help<'_>,
    creation: Option<Creation<'_>>,
) -> Result<Running, LaunchError> {
    let mut notes = Notes::default();
    notes.mark("begin");
    let layout = Layout::known().map_err(|error| LaunchError::classified(STEP, &error))?;
    let path = launch.cgroup.to_owned();
    let linux = launch.spec.linux().as_ref();
    let resources = with_defaults(linux.and_then(|linux| linux.resources().as_ref()));
    let sealed = creation.as_ref().is_none_or(|creation| creation.ties.sealed);
    if let (false, Some(process)) = (sealed, launch.spec.process()) {
        let (hooks, seccomp) = (launch.spec.hooks().as_ref(), launch.seccomp);
        Start { process, linux, hooks, seccomp, joins: false }.check()?;
    }
    let (manner, mut born) = match creation {
        Some(Creation { ties, gate, no_pivot, born, told }) => {
            let turns = turns(launch.spec, told)?;
            (Manner { ties, gate, no_pivot, halts: true, turns }, Some((born, told)))
        }
        None => (Manner::default(), None),
    };
    let turns = manner.turns.clone();
    let mut after_hooks = false;
    let seccomp = linux.and_then(|linux| linux.seccomp().as_ref());
    if launch.seccomp.is_some_and(Program::notifies) && born.is_none() {
        return Err(listener::nobody());
    }
    let owner = cgroup_owner(launch.spec, layout.mode());
    let prepared = Prepare::new(launch, manner, &layout, &mut notes)?;
    let devices = Rc::clone(&prepared.devices);
    let mut answer = |halt, pid| match (halt, &mut born) {
        (Halt::Born, Some((born, _))) => born(pid),
        (Halt::Entered, _) => devices.move_to(pid),
        (Halt::Mounted, _) => {
            after_hooks = true;
            turns.as_ref().map_or(Ok(()), |turns| turns.in_runtime(pid))
        }
        (Halt::Listened(number), Some((_, told))) => {
            let listener = seccomp.and_then(|seccomp| Listener::of(seccomp, told, None));
            listener.ok_or_else(listener::nobody)?.give(pid, number)
        }
        _ => Ok(()),
    };
    notes.mark("plan");
    let cgroup = layout.create(&path).map_err(|error| LaunchError::classified(STEP, &error))?;
    let owned = owner.map_or(Ok(()), |uid| cgroup.delegate(uid));
    let result = owned
        .map_err(|error| LaunchError::classified(STEP, &error))
        .and_then(|()| start_in(&cgroup, &resources, prepared, (help, &mut answer), notes));
    if result.is_err() {
        // The first failure is the one to report.
        let _ = cgroup.kill();
        let _ = cgroup.destroy();
    }
    result.map_err(|error| if after_hooks { error.after_hooks() } else { error })
}

/// The hooks of the configuration, if it has some.
fn turns(spec: &Spec, told: &Told) -> Result<Option<Turns>, LaunchError> {
    let plan = HookPlan::new(spec.hooks().as_ref())?;
    Ok(if plan.is_empty() { None } else { Some(Turns { plan, told: told.clone() }) })
}

/// Limits the cgroup and starts the child in it.
fn start_in(
    cgroup: &Cgroup,
    resources: &LinuxResources,
    mut prepared: Prepare,
    (help, answer): (Help<'_>, &mut Answer<'_>),
    mut notes: Notes,
) -> Result<Running, LaunchError> {
    let classified = |error| LaunchError::classified(STEP, &error);
    cgroup.apply(resources).map_err(classified)?;
    let entry = cgroup.entry().map_err(classified)?;
    notes.mark("limits");
    prepared.plan.make_id_maps(prepared.user.as_ref().map(AsFd::as_fd))?;
    let root = prepared.plan.make_root().map_err(LaunchError::from)?;
    notes.mark("file system");
    let from = Beginning { root: root.as_ref().map(AsFd::as_fd), bare: help.bare };
    let (sender, receiver) = channel::pair().map_err(parent::no_channel)?;
    prepared.process.make_springboard(&sender, false)?;
    let receiver = Cell::new(Some(receiver));
    if let Some(user) = prepared.user.take() {
        let channel = (sender, receiver);
        let running =
            start_as_user(prepared, (&user, &entry, from.root), channel, (help, answer), notes)?;
        return Ok(Running { root, ..running });
    }
    let create = from.namespaces(prepared.namespaces.create);
    let pid_namespace = prepared.namespaces.pid.take();
    let child = parent::with_pid_namespace(pid_namespace.as_ref(), || {
        clone3(create, entry.directory(), || {
            process::close_in_child(&receiver);
            let mut progress = Progress::new(sender);
            let error = prepared.run(&entry, from, &mut progress);
            progress.fail(&error);
            1
        })
    })?;
    notes.mark("clone");
    drop(entry);
    (help.meanwhile)();
    let running = parent::finish(child, receiver.take(), notes, answer)?;
    Ok(Running { root, ..running })
}

/// As the rest of [`start_in`], with a user namespace ([`crate::userns`] draws it).
fn start_as_user(
    prepared: Prepare,
    (user, entry, root): (&UserNamespace, &Entry, Option<BorrowedFd<'_>>),
    (sender, receiver): (Sender, Cell<Option<Receiver>>),
    (help, answer): (Help<'_>, &mut Answer<'_>),
    mut notes: Notes,
) -> Result<Running, LaunchError> {
    if let Some(pid_namespace) = &prepared.namespaces.pid {
        tracers::refuse(pid_namespace)?;
    }
    let outer = clone3(Namespaces::NONE, entry.directory(), || {
        process::close_in_child(&receiver);
        let mut progress = Progress::new(sender);
        match prepared.run_outside(user, entry, root, &mut progress) {
            Ok(()) => 0,
            Err(error) => {
                progress.fail(&error);
                1
            }
        }
    })
    .map_err(|errno| parent::failed("cannot clone", errno))?;
    notes.mark("clone");
    (help.meanwhile)();
    let heard = match receiver.take() {
        Some(receiver) => receiver.hear_both(answer),
        None => Err(LaunchError::new("clone", Kind::Internal, "cannot hear from the child")),
    };
    parent::finish_joined(&outer, heard, notes)
}

/// What the child's mounts begin with.
#[derive(Clone, Copy)]
struct Beginning<'a> {
    root: Option<BorrowedFd<'a>>,
    bare: Option<&'a Bare>,
}

impl Beginning<'_> {
    /// What clone3 makes. A child that is to leave the host's mounts for an empty namespace is born among
    /// them, and makes that itself.
    fn namespaces(&self, wanted: Namespaces) -> Namespaces {
        if self.bare.is_some() && self.root.is_some() {
            wanted.without(Namespaces::MOUNT)
        } else {
            wanted
        }
    }
}

/// How the container is created; the default is the shim's.
#[derive(Debug, Default)]
struct Manner {
    ties: Ties,
    gate: Option<OwnedFd>,
    no_pivot: bool,
    halts: bool,
    turns: Option<Turns>,
}

impl Prepare {
    fn new(
        launch: Launch<'_>,
        manner: Manner,
        layout: &Layout,
        notes: &mut Notes,
    ) -> Result<Self, LaunchError> {
        let spec = launch.spec;
        refuse_what_is_not_offered(spec, manner.halts)?;
        let missing =
            || LaunchError::new("plan", Kind::Invalid, "the specification has no process");
        let process = spec.process().as_ref().ok_or_else(missing)?;
        let mut namespaces = NamespacePlan::new(spec, launch.netns)?;
        let linux = spec.linux().as_ref();
        let wanted = namespaces.user.take();
        let user = wanted.map(|wanted| UserNamespace::get(wanted, linux)).transpose()?;
        let user_namespace = user.is_some();
        if !user_namespace {
            userns::refuse_maps(linux)?;
        }
        let cgroups = views(layout.mode(), &layout.open(launch.cgroup), namespaces.new_cgroup);
        let own = namespaces.own();
        let devices = Rc::new(NetDevices::new(linux, own)?);
        let mut plan = Plan::new(&PlanInput {
            spec,
            root: launch.root,
            cgroups: &cgroups,
            own,
            user_namespace,
        })
        .map_err(|error| LaunchError::classified("plan", &error))?;
        if manner.turns.is_some() {
            plan.keep_root_at_its_path();
        }
        let input = ProcessInput {
            process,
            linux,
            forks: user_namespace,
            seccomp: launch.seccomp,
            stdio: launch.stdio,
            console_size: launch.console_size,
            init: launch.init,
            ties: manner.ties,
            gate: manner.gate,
        };
        let cwd = clean_path("working directory", process.cwd())
            .map_err(|error| LaunchError::classified("plan", &error))?;
        let process = Prepared::new(input, &mut |warning| notes.warnings.push(warning))?;
        let (no_pivot, halts) = (manner.no_pivot, manner.halts);
        let turns = manner.turns;
        Ok(Self { namespaces, plan, process, cwd, no_pivot, halts, turns, user, devices })
    }

    /// The child, up to its command; comes back only with why it did not get there.
    fn run(self, entry: &Entry, from: Beginning<'_>, progress: &mut Progress) -> LaunchError {
        match self.enter(entry, progress) {
            Ok(()) => {}
            Err(error) => return error,
        }
        let Self { plan, process, cwd, no_pivot, halts, turns, .. } = self;
        progress.enter(Step::Root);
        match plan.attach_root(from.root, from.bare) {
            Ok(inside) => furnish(&inside, process, &cwd, (halts, no_pivot, turns), progress),
            Err(failure) => failure.into(),
        }
    }

    /// The process between the host and a user namespace: leaves a sibling that goes on inside.
    fn run_outside(
        self,
        user: &UserNamespace,
        entry: &Entry,
        root: Option<BorrowedFd<'_>>,
        progress: &mut Progress,
    ) -> Result<(), LaunchError> {
        process::start_outer();
        progress.enter(Step::Cgroup);
        entry.enter().map_err(|errno| parent::failed("cannot enter the control group", errno))?;
        progress.enter(Step::Namespaces);
        self.process.prepare_outside(user.root(), progress)?;
        let sources = self.plan.open_sources()?;
        self.namespaces.join()?;
        if let Some(pid_namespace) = &self.namespaces.pid {
            namespace::join(pid_namespace.as_fd(), Namespaces::PID)
                .map_err(|errno| parent::failed("cannot join the pid namespace", errno))?;
        }
        user.enter()?;
        self.namespaces.unshare_time(false)?;
        let create = self.namespaces.create;
        let sibling = clone_sibling(create, || {
            let error = self.run_inside(root, sources, progress);
            progress.fail(&error);
            1
        });
        let pid = sibling.map_err(|errno| parent::failed("cannot clone", errno))?;
        progress.sender.successor(pid).map_err(|errno| parent::failed("cannot report", errno))
    }

    /// That sibling.
    fn run_inside(
        self,
        root: Option<BorrowedFd<'_>>,
        sources: Sources,
        progress: &mut Progress,
    ) -> LaunchError {
        let halted = if self.halts { halt(Halt::Born, progress) } else { Ok(()) };
        let entered = halted
            .and_then(|()| userns::become_root())
            .and_then(|()| process::start(self.process.ties()))
            .and_then(|()| self.namespaces.unshare_cgroup())
            .and_then(|()| self.namespaces.furnish())
            .and_then(|()| self.await_devices(progress));
        if let Err(error) = entered {
            return error;
        }
        let Self { plan, process, cwd, no_pivot, halts, turns, .. } = self;
        progress.enter(Step::Root);
        match plan.attach_root_as_user(root, sources) {
            Ok(inside) => furnish(&inside, process, &cwd, (halts, no_pivot, turns), progress),
            Err(failure) => failure.into(),
        }
    }

    /// Enters the control group and the namespaces.
    fn enter(&self, entry: &Entry, progress: &mut Progress) -> Result<(), LaunchError> {
        if self.halts {
            halt(Halt::Born, progress)?;
        }
        process::start(self.process.ties())?;
        progress.enter(Step::Cgroup);
        entry.enter().map_err(|errno| parent::failed("cannot enter the control group", errno))?;
        self.namespaces.unshare_cgroup()?;
        progress.enter(Step::Namespaces);
        self.namespaces.join()?;
        self.namespaces.furnish()?;
        self.await_devices(progress)?;
        self.namespaces.unshare_time(true)
    }

    /// Lets the parent move interfaces into the network namespace, if there are any to be moved.
    fn await_devices(&self, progress: &Progress) -> Result<(), LaunchError> {
        if self.devices.is_empty() { Ok(()) } else { halt(Halt::Entered, progress) }
    }
}

/// Makes everything on the root, makes it the root, and becomes the command; comes back only with why it did
/// not.
fn furnish(
    inside: &Inside<'_>,
    mut process: Prepared,
    cwd: &str,
    (halts, no_pivot, turns): (bool, bool, Option<Turns>),
    progress: &mut Progress,
) -> LaunchError {
    let built = build(inside, &process, cwd, progress).and_then(|console| {
        progress.enter(Step::Hooks);
        if halts {
            halt(Halt::Mounted, progress)?;
        }
        if let Some(turns) = turns {
            turns.in_container(inside.root())?;
            process.run_before_command(turns.before_command()?);
        }
        progress.enter(Step::Pivot);
        inside.pivot(no_pivot)?;
        Ok(console)
    });
    match built {
        Ok(console) => process.become_command(inside.root(), console, progress),
        Err(error) => error,
    }
}

/// Waits for the parent, which is to be there.
fn halt(halt: Halt, progress: &Progress) -> Result<(), LaunchError> {
    progress.sender.halt(halt).map_err(|errno| parent::failed("the creator is gone", errno))
}

/// Makes everything on the root.
fn build(
    inside: &Inside<'_>,
    process: &Prepared,
    cwd: &str,
    progress: &mut Progress,
) -> Result<Option<dhow_rootfs::Console>, LaunchError> {
    progress.enter(Step::Mounts);
    inside.mount()?;
    inside.make_directory(cwd)?;
    progress.enter(Step::Devices);
    inside.make_devices()?;
    progress.enter(Step::Console);
    let wanted = matches!(process.streams, Streams::Console(_));
    let console = if wanted { Some(inside.open_console()?) } else { None };
    progress.enter(Step::Sysctls);
    inside.write_sysctls()?;
    if process.needs_procfs() && !process.is_prepared_outside() {
        process.write_attributes(inside.procfs()?, progress)?;
    }
    progress.enter(Step::Protect);
    inside.protect()?;
    Ok(console)
}

/// What a cgroup mount shows: the container's own groups. Without a cgroup namespace on a pure cgroup2
/// machine it is the whole tree, whose paths /proc/self/cgroup then names.
fn views(mode: Mode, cgroup: &Cgroup, own_namespace: bool) -> Vec<CgroupView> {
    let view = |(mount, path): (&str, &str)| {
        if mode == Mode::V2 {
            let below = if own_namespace { path } else { "" };
            return CgroupView { source: [mount, below].concat(), name: String::new() };
        }
        let name = mount.rsplit('/').next().unwrap_or_default().to_owned();
        CgroupView { source: [mount, path].concat(), name }
    };
    cgroup.directories().map(view).collect()
}

/// Settings that would otherwise be silently without effect.
fn refuse_what_is_not_offered(spec: &Spec, is_created: bool) -> Result<(), LaunchError> {
    let linux = spec.linux().as_ref();
    if !is_created && spec.hooks().as_ref().is_some_and(|hooks| *hooks != Hooks::default()) {
        let message = "the daemon's containers have no hooks";
        return Err(LaunchError::new("plan", Kind::Unsupported, message));
    }
    if linux.is_some_and(|linux| linux.intel_rdt().is_some()) {
        if !std::path::Path::new("/sys/fs/resctrl/schemata").exists() {
            return Err(labels::absent("linux.intelRdt", "resctrl"));
        }
        let message = "linux.intelRdt is not supported yet";
        return Err(LaunchError::new("plan", Kind::Unsupported, message));
    }
    let labelled = |linux: &Linux| linux.mount_label().as_ref().is_some_and(|it| !it.is_empty());
    if linux.is_some_and(labelled) && !labels::selinux_is_enabled() {
        return Err(labels::absent("linux.mountLabel", "SELinux"));
    }
    Ok(())
}
