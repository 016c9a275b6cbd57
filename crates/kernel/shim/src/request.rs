//! What clients ask of a shim.

use std::os::fd::AsFd;

use dhow_runtime::{Running, Target};
use dhow_sys::rustix::io::Errno;
use dhow_sys::tty::WindowSize;
use dhow_sys::{event, process};

use crate::connection::{Attachment, Phase};
use crate::frame;
use crate::protocol::{
    AttachStreams, ExecRequest, ExecStatus, Exit, Failed, Reply, Request, Started, Status, VERSION,
};
use crate::shim::{FIRST_UNIT, Shim};
use crate::start::{launch_failed, our_pid};
use crate::unit::{self, Unit};

/// What follows an answer on its connection.
enum Next {
    Close,
    Wait(u32),
    Attach(Attachment),
}

impl Shim {
    /// Answers the request of a connection.
    pub(crate) fn answer(&mut self, number: u32, payload: &[u8]) {
        let (reply, next) = match frame::decode(payload) {
            Ok(request) => self
                .act(request)
                .unwrap_or_else(|failed| (Some(Reply::Failed(failed)), Next::Close)),
            Err(error) => {
                let message = format!("cannot read the request: {}", dhow_error::chain(&error));
                (Some(Reply::Failed(failed("request", message))), Next::Close)
            }
        };
        let ended = self.exit().cloned();
        if let Some(connection) = self.connections.get_mut(&number) {
            if let Some(reply) = &reply {
                connection.say(reply);
                self.exit_handed_over |=
                    matches!(reply, Reply::Exited(exit) if Some(exit) == ended.as_ref());
            }
            connection.phase = match next {
                Next::Close => Phase::Closing,
                Next::Wait(unit) => Phase::Waiting(unit),
                Next::Attach(attachment) => Phase::Attached(attachment),
            };
        }
        if let Next::Attach(attachment) = next {
            // It may have ended in between.
            self.finish_if_done(attachment.unit);
        }
    }

    fn act(&mut self, request: Request) -> Result<(Option<Reply>, Next), Failed> {
        match request {
            Request::Attach { exec, streams } => {
                let (number, unit) = self.running(exec.as_deref(), "attach")?;
                let attachment = Attachment { unit: number, streams, framed: !unit.tty };
                Ok((Some(Reply::Ok), Next::Attach(attachment)))
            }
            Request::Exec(request) => self.exec(&request),
            Request::Resize { exec, rows, cols } => {
                let (_, unit) = self.running(exec.as_deref(), "resize")?;
                unit.resize(WindowSize { rows, cols })
                    .map_err(|error| errno("resize", "cannot resize the terminal", error))?;
                Ok((Some(Reply::Ok), Next::Close))
            }
            Request::Signal { exec, signal } => {
                let (_, unit) = self.running(exec.as_deref(), "signal")?;
                event::send_signal(unit.pidfd.as_fd(), signal).map_err(|error| {
                    errno("signal", &format!("cannot send signal {signal}"), error)
                })?;
                Ok((Some(Reply::Ok), Next::Close))
            }
            Request::Wait { exec } => match self.find_exit(exec.as_deref())? {
                Ok(exit) => Ok((Some(Reply::Exited(exit)), Next::Close)),
                Err(number) => Ok((None, Next::Wait(number))),
            },
            Request::Status => Ok((Some(Reply::Status(self.status())), Next::Close)),
            Request::CloseStdin { exec } => {
                let (number, _) = self.running(exec.as_deref(), "close stdin of")?;
                if let Some(unit) = self.units.get_mut(&number)
                    && !unit.tty
                {
                    unit.input.close(&self.poller);
                }
                self.refresh(number);
                Ok((Some(Reply::Ok), Next::Close))
            }
        }
    }

    /// The process of that exec, or the first one, if it runs.
    fn running(&self, exec: Option<&str>, verb: &str) -> Result<(u32, &Unit), Failed> {
        let (number, unit) = self.unit(exec)?;
        if unit.exit.is_some() {
            return Err(failed(verb, format!("cannot {verb} a process that has ended")));
        }
        Ok((number, unit))
    }

    fn unit(&self, exec: Option<&str>) -> Result<(u32, &Unit), Failed> {
        let mut units = self.units.iter();
        let found = units.find(|(_, unit)| unit.exec_id.as_deref() == exec);
        found
            .map(|(number, unit)| (*number, unit))
            .ok_or_else(|| failed("exec", format!("no such exec: {}", exec.unwrap_or_default())))
    }

    /// The exit of a process that has ended, or the number of one that runs.
    fn find_exit(&self, exec: Option<&str>) -> Result<Result<Exit, u32>, Failed> {
        let ended = self.ended.iter().rev().find(|status| Some(status.exec_id.as_str()) == exec);
        if let Some(exit) = ended.and_then(|status| status.exit.clone()) {
            return Ok(Ok(exit));
        }
        let (number, unit) = self.unit(exec)?;
        Ok(unit.exit.clone().ok_or(number))
    }

    fn status(&self) -> Status {
        let first = self.units.get(&FIRST_UNIT);
        let running = self.units.values().filter(|unit| unit.exit.is_none());
        let execs = running.filter_map(|unit| {
            unit.exec_id.clone().map(|exec_id| ExecStatus { exec_id, pid: unit.pid, exit: None })
        });
        Status {
            version: VERSION,
            shim_pid: our_pid(),
            pid: first.map_or(0, |unit| unit.pid),
            started_at_ns: first.map_or(0, |unit| unit.started_at_ns),
            exit: self.exit().cloned(),
            execs: execs.chain(self.ended.iter().cloned()).collect(),
        }
    }

    fn exec(&mut self, request: &ExecRequest) -> Result<(Option<Reply>, Next), Failed> {
        let id = &request.exec_id;
        let (_, first) = self.running(None, "exec in")?;
        let known = self.ended.iter().any(|status| &status.exec_id == id);
        if known || self.unit(Some(id)).is_ok() {
            return Err(failed("exec", format!("exec {id} exists already")));
        }
        let stdin_open = request.stdin_open && request.attach.is_some_and(|streams| streams.stdin);
        let (stdio, ends) = unit::streams(request.tty, stdin_open, request.attach.is_some())
            .map_err(|error| errno("streams", "cannot make the streams of the exec", error))?;
        let target = Target {
            pidfd: first.pidfd.as_fd(),
            cgroup: &self.cgroup_path,
            seccomp: self.seccomp.as_ref(),
            linux: None,
            listener: None,
        };
        let mut running: Running =
            dhow_runtime::exec(&target, &request.process, stdio, request.console_size)
                .map_err(|error| launch_failed(&error))?;
        let trace = std::mem::take(&mut running.trace);
        let warnings = std::mem::take(&mut running.warnings);
        let (pid, spare) = (running.pid, running.pidfd.try_clone());
        let added = Unit::new(Some(id.clone()), running, ends, stdin_open).and_then(|unit| {
            let (started_at_ns, framed) = (unit.started_at_ns, !unit.tty);
            self.add_unit(unit).map(|number| (number, started_at_ns, framed))
        });
        let (number, started_at_ns, framed) = added.map_err(|error| {
            if let Ok(pidfd) = spare {
                let _ = event::send_signal(pidfd.as_fd(), 9);
                let _ = event::reap_blocking(pidfd.as_fd());
            }
            errno("exec", "cannot watch the exec", error)
        })?;
        let started = Started { shim_pid: our_pid(), pid, started_at_ns, trace, warnings };
        let next = request.attach.map_or(Next::Close, |streams: AttachStreams| {
            Next::Attach(Attachment { unit: number, streams, framed })
        });
        Ok((Some(Reply::Started(started)), next))
    }
}

fn failed(step: &str, message: impl Into<String>) -> Failed {
    Failed { step: step.to_owned(), message: message.into(), hint: None, exit_code: 125 }
}

fn errno(step: &str, doing: &str, error: Errno) -> Failed {
    failed(step, format!("{doing}: {}", process::Reason(error)))
}
