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
//! A container that is created ([`crate::create`]) halts twice for its parent: `born`, before its first
//! step, and `mounted`, before the pivot; and it waits at its gate before it becomes the command.
//!
//! The child puts itself into its cgroup: being moved by its parent costs milliseconds. On cgroup2 it is
//! born there.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dhow_cgroup::{Cgroup, Entry, Layout, Mode};
use dhow_error::Kind;
use dhow_rootfs::{Bare, CgroupView, Inside, Plan, PlanInput, clean_path};
use dhow_spec::oci_runtime::{Hooks, Linux, LinuxResources, Spec};
use dhow_sys::namespace::Namespaces;
use dhow_sys::process::clone3;

use crate::channel::{self, Answer, Halt};
use crate::devices::with_defaults;
use crate::error::LaunchError;
use crate::namespaces::NamespacePlan;
use crate::parent::{self, Notes};
use crate::process::{self, Prepared, ProcessInput, Progress};
use crate::stdio::Streams;
use crate::trace::Step;
use crate::{Creation, Help, Launch, Running, Ties};

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
}

pub(crate) fn launch(
    launch: Launch<'_>,
    help: Help<'_>,
    creation: Option<Creation<'_>>,
) -> Result<Running, LaunchError> {
    let mut notes = Notes::default();
    notes.mark("begin");
    let layout = Layout::detect().map_err(|error| LaunchError::classified(STEP, &error))?;
    let path = launch.cgroup.to_owned();
    let linux = launch.spec.linux().as_ref();
    let resources = with_defaults(linux.and_then(|linux| linux.resources().as_ref()));
    let (manner, mut born) = match creation {
        Some(Creation { ties, gate, no_pivot, born }) => {
            (Manner { ties, gate, no_pivot, halts: true }, Some(born))
        }
        None => (Manner::default(), None),
    };
    let mut answer = |halt, pid| match (halt, &mut born) {
        (Halt::Born, Some(born)) => born(pid),
        _ => Ok(()),
    };
    let prepared = Prepare::new(launch, manner, &layout, &mut notes)?;
    notes.mark("plan");
    let cgroup = layout.create(&path).map_err(|error| LaunchError::classified(STEP, &error))?;
    let result = start_in(&cgroup, &resources, prepared, (help, &mut answer), notes);
    if result.is_err() {
        // The first failure is the one to report.
        let _ = cgroup.kill();
        let _ = cgroup.destroy();
    }
    result
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
    prepared.plan.make_id_maps(None)?;
    let root = prepared.plan.make_root().map_err(LaunchError::from)?;
    notes.mark("file system");
    let from = Beginning { root: root.as_ref().map(AsFd::as_fd), bare: help.bare };
    let (sender, receiver) = channel::pair().map_err(parent::no_channel)?;
    let receiver = Cell::new(Some(receiver));
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
}

impl Prepare {
    fn new(
        launch: Launch<'_>,
        manner: Manner,
        layout: &Layout,
        notes: &mut Notes,
    ) -> Result<Self, LaunchError> {
        let spec = launch.spec;
        refuse_what_is_not_offered(spec)?;
        let missing =
            || LaunchError::new("plan", Kind::Invalid, "the specification has no process");
        let process = spec.process().as_ref().ok_or_else(missing)?;
        let namespaces = NamespacePlan::new(spec, launch.netns)?;
        let cgroups = views(layout.mode(), &layout.open(launch.cgroup), namespaces.new_cgroup);
        let own = namespaces.own();
        let plan = Plan::new(&PlanInput {
            spec,
            root: launch.root,
            cgroups: &cgroups,
            own,
            user_namespace: false,
        })
        .map_err(|error| LaunchError::classified("plan", &error))?;
        let input = ProcessInput {
            process,
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
        Ok(Self { namespaces, plan, process, cwd, no_pivot, halts })
    }

    /// The child, up to its command; comes back only with why it did not get there.
    fn run(self, entry: &Entry, from: Beginning<'_>, progress: &mut Progress) -> LaunchError {
        match self.enter(entry, progress) {
            Ok(()) => {}
            Err(error) => return error,
        }
        let Self { plan, process, cwd, no_pivot, halts, .. } = self;
        progress.enter(Step::Root);
        let inside = match plan.attach_root(from.root, from.bare) {
            Ok(inside) => inside,
            Err(failure) => return failure.into(),
        };
        let built = build(&inside, &process, &cwd, progress).and_then(|console| {
            if halts {
                halt(Halt::Mounted, progress)?;
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
        self.namespaces.enter()
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
    if process.limits.needs_procfs() {
        process.limits.set_oom_score(inside.procfs()?, &progress.sender)?;
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
fn refuse_what_is_not_offered(spec: &Spec) -> Result<(), LaunchError> {
    let linux = spec.linux().as_ref();
    let mapped = |linux: &Linux| linux.uid_mappings().iter().flatten().next().is_some();
    let labelled = |linux: &Linux| linux.mount_label().as_ref().is_some_and(|it| !it.is_empty());
    let refused = [
        (spec.hooks().as_ref().is_some_and(|hooks| *hooks != Hooks::default()), "hooks"),
        (linux.is_some_and(|linux| linux.personality().is_some()), "personalities"),
        (linux.is_some_and(|linux| linux.time_offsets().is_some()), "time offsets"),
        (linux.is_some_and(|linux| linux.intel_rdt().is_some()), "Intel RDT settings"),
        (linux.is_some_and(mapped), "user id mappings"),
        (linux.is_some_and(labelled), "mount labels"),
    ];
    match refused.iter().find(|(given, _)| *given) {
        Some((_, what)) => {
            let message = format!("{what} are not supported yet");
            Err(LaunchError::new("plan", Kind::Unsupported, message))
        }
        None => Ok(()),
    }
}
