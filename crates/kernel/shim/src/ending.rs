//! How processes end, and with the first of them the container.
//!
//! The order, and why:
//!
//! 1. Reap it. Its pid namespace died with it, so all it wrote is in the pipes: read that and log it, so
//!    that whoever hears of the exit finds the whole log.
//! 2. Ask the control group for OOM kills, before it is gone.
//! 3. Write exit.json and remove the control socket: from now on the file answers, with or without us.
//!    Where it cannot be written (a full disk), that is tried again until it works or a waiter has come;
//!    until then the folder stays ours.
//! 4. Tell the waiters, those too who came meanwhile, let go of the clients.
//! 5. Let go of the root's file system (release.rs), kill what is left in the control group (a container in
//!    the host's pid namespace leaves processes), remove it, unlock the folder.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use dhow_sys::event::{self, Ended, Interest};

use crate::clock;
use crate::connection::Phase;
use crate::protocol::{EXIT_FILE, ExecStatus, Exit, Reply, SOCKET_FILE};
use crate::release::Release;
use crate::shim::{FIRST_UNIT, Shim};
use crate::unit::Unit;

/// How many execs that have ended are remembered.
const REMEMBERED: usize = 64;
/// How long to wait before the exit file is tried again.
const RETRY_TIME: Duration = Duration::from_secs(1);
const SIGKILL: i32 = 9;

impl Shim {
    /// A pid descriptor says that its process has ended.
    pub(crate) fn exited(&mut self, number: u32) {
        let Some(unit) = self.units.get_mut(&number) else {
            return;
        };
        let ended = match event::reap(unit.pidfd.as_fd()) {
            Ok(None) => return,
            Ok(Some(ended)) => ended,
            // Nobody else can have reaped it; without its status, the worst is assumed.
            Err(_) => Ended::Signal(SIGKILL),
        };
        let nothing = Interest::NONE;
        let _ = self.poller.set(&unit.pidfd, 0, &mut unit.pidfd_interest, nothing);
        unit.slave = None;
        self.drain(number);
        let exit = self.exit_of(ended);
        if let Some(unit) = self.units.get_mut(&number) {
            unit.end(exit.clone());
        }
        if number == FIRST_UNIT {
            self.hand_over(&exit);
        } else {
            self.remember(number, &exit);
        }
        self.tell_waiters(number, &exit);
        self.finish_if_done(number);
        if number == FIRST_UNIT {
            self.answer_late();
            self.clean_up();
        }
        self.refresh(number);
    }

    /// Stops waiting for outputs that others still hold.
    pub(crate) fn expire(&mut self) {
        let now = Instant::now();
        let due = |unit: &Unit| !unit.is_done() && unit.deadline.is_some_and(|at| at <= now);
        let late: Vec<u32> =
            self.units.iter().filter(|(_, unit)| due(unit)).map(|(number, _)| *number).collect();
        for number in late {
            self.end_output(number, 0);
            self.end_output(number, 1);
            self.finish_if_done(number);
        }
        self.release();
    }

    /// When to look again at what no event tells of.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let units = self.units.values().filter(|unit| !unit.is_done());
        let drained = units.filter_map(|unit| unit.deadline).min();
        let drained = drained.map(|at| at.saturating_duration_since(Instant::now()));
        let retry = (self.exit().is_some() && !self.exit_handed_over).then_some(RETRY_TIME);
        drained.into_iter().chain(retry).min()
    }

    fn exit_of(&self, ended: Ended) -> Exit {
        let (code, signal) = match ended {
            Ended::Code(code) => (code, None),
            Ended::Signal(signal) => (128 + signal, Some(signal)),
        };
        let kills = self.cgroup.as_ref().and_then(|cgroup| cgroup.oom_kills().ok());
        let oom_killed = kills.is_some_and(|kills| kills > 0);
        Exit { code, signal, oom_killed, finished_at_ns: clock::now_ns() }
    }

    /// Makes the exit known to whoever looks into the folder.
    fn hand_over(&mut self, exit: &Exit) {
        let Some(folder) = &self.folder else {
            return;
        };
        self.exit_handed_over |= match folder.write(EXIT_FILE, exit) {
            Ok(()) => true,
            // The folder was removed: nobody will ask.
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        };
        if self.exit_handed_over {
            let _ = folder.remove(SOCKET_FILE);
        }
    }

    /// Lets the next container have the folder, once this one's end is known and cleaned up after.
    fn release(&mut self) {
        let Some(exit) = self.exit().cloned() else {
            return;
        };
        if !self.exit_handed_over {
            self.hand_over(&exit);
        }
        if self.exit_handed_over
            && let Some(folder) = self.folder.take()
        {
            let _ = folder.remove(SOCKET_FILE);
            match self.release.take() {
                Some(release) => drop((folder, release)),
                None => folder.unlock(),
            }
        }
    }

    fn remember(&mut self, number: u32, exit: &Exit) {
        let Some(unit) = self.units.get(&number) else {
            return;
        };
        let Some(exec_id) = unit.exec_id.clone() else {
            return;
        };
        if self.ended.len() == REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back(ExecStatus { exec_id, pid: unit.pid, exit: Some(exit.clone()) });
    }

    fn tell_waiters(&mut self, number: u32, exit: &Exit) {
        let mut told = Vec::new();
        for (number_of, connection) in &mut self.connections {
            if matches!(connection.phase, Phase::Waiting(unit) if unit == number) {
                connection.say(&Reply::Exited(exit.clone()));
                connection.phase = Phase::Closing;
                told.push(*number_of);
            }
        }
        if number == FIRST_UNIT && !told.is_empty() {
            self.exit_handed_over = true;
        }
        for connection in told {
            self.refresh_connection(connection);
        }
    }

    /// Leaves nothing of the container in the kernel.
    fn clean_up(&mut self) {
        if let (Some(root), Some(folder)) = (self.root.take(), &self.folder) {
            self.release = Release::start(root, folder);
        }
        if let Some(cgroup) = self.cgroup.take() {
            // What cannot be killed or removed is found by the daemon's next start.
            let _ = cgroup.kill();
            let _ = cgroup.destroy();
        }
    }
}
