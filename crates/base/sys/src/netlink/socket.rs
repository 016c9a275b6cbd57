//! Netlink sockets: sending requests, matching acknowledgements, collecting dumps.
//!
//! The kernel works requests off inside `sendmsg` and queues its answers before it returns; a receive
//! timeout stands guard all the same, so that no answer can never become a hang.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use super::Error;
use super::message::{Answer, Answers, Attributes, Body, Messages, read_str, read_u32};

/// Room for one datagram. The kernel's dumps fill at most 32 KiB a datagram when the reader has that
/// much room (`netlink_dump` in the kernel's af_netlink.c).
const BUFFER_LEN: usize = 32 * 1024;
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a dump is taken again when the kernel says that things changed under it.
const DUMP_ATTEMPTS: u32 = 8;

/// A netlink protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `NETLINK_ROUTE`: links, addresses, routes.
    Route,
    /// `NETLINK_NETFILTER`: nf_tables.
    Netfilter,
    /// `NETLINK_SOCK_DIAG`: the sockets of the namespace.
    SocketDiagnosis,
}

/// A netlink socket, at home in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open(family: Family) -> Result<Self, Error> {
        let fd = open(family, 0)?;
        // Without the extended acknowledgement errors are only less talkative, and without the cap only
        // longer.
        let _ = set_netlink_option(fd.as_fd(), libc::NETLINK_EXT_ACK);
        let _ = set_netlink_option(fd.as_fd(), libc::NETLINK_CAP_ACK);
        Ok(Self { fd, sequence: 1, buffer: vec![0; BUFFER_LEN] })
    }

    /// Sends all requests with one system call and waits for every acknowledgement. The error is the
    /// first refused request's; in the route family the others were done all the same.
    pub fn send(&mut self, messages: &mut Messages) -> Result<(), Error> {
        let Some(last) = messages.requests().last() else { return Ok(()) };
        if let Some(request) = messages.too_long() {
            return Err(Error::TooLong { what: request.what.clone() });
        }
        let what = last.what.clone();
        let first = self.number(messages.len());
        self.transmit(messages.numbered(first), &what)?;
        let mut expected = messages.requests().iter().filter(|it| it.acknowledged).count();
        let mut failure = None;
        while expected > 0 {
            // After a failure, an aborted batch owes nothing more: take what has already been queued.
            let flags = if failure.is_some() { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
            let length = match self.receive(flags) {
                Ok(length) => length,
                Err(Errno::AGAIN) if failure.is_some() => break,
                Err(source) => return Err(Error::Unanswered { what, source }),
            };
            for answer in Answers::new(&self.buffer[..length]) {
                let index = answer.sequence.wrapping_sub(first) as usize;
                let Some(request) = messages.requests().get(index) else { continue };
                match acknowledgement(&answer) {
                    Some(Ok(())) => {
                        expected = expected.saturating_sub(usize::from(request.acknowledged));
                    }
                    Some(Err((source, words))) => {
                        expected = expected.saturating_sub(usize::from(request.acknowledged));
                        let what = request.what.clone();
                        failure.get_or_insert(Error::Refused { what, words, source });
                    }
                    None => {}
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Asks for a list; `each` sees every item's payload. Taken again from the start, with a fresh
    /// `start()` state, when the kernel says that the list changed meanwhile.
    pub fn dump<T>(
        &mut self,
        what: impl Into<Cow<'static, str>>,
        kind: u16,
        fill: impl Fn(&mut Body<'_>),
        each: impl Fn(&mut T, &[u8]),
    ) -> Result<T, Error>
    where
        T: Default,
    {
        let what = what.into();
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
        for _ in 0..DUMP_ATTEMPTS {
            let mut request = Messages::new();
            request.push(what.clone(), kind, flags, &fill);
            let sequence = self.number(1);
            self.transmit(request.numbered(sequence), &what)?;
            let mut found = T::default();
            if self.collect(sequence, &what, &mut |payload| each(&mut found, payload))? {
                return Ok(found);
            }
        }
        Err(Error::Unanswered { what, source: Errno::INTR })
    }

    /// Asks for one thing by name; none if the kernel says that there is no such thing.
    pub fn get<T>(
        &mut self,
        what: impl Into<Cow<'static, str>>,
        kind: u16,
        fill: impl Fn(&mut Body<'_>),
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let what = what.into();
        let mut request = Messages::new();
        request.push(what.clone(), kind, libc::NLM_F_REQUEST as u16, fill);
        let sequence = self.number(1);
        self.transmit(request.numbered(sequence), &what)?;
        loop {
            let length = self
                .receive(RecvFlags::empty())
                .map_err(|source| Error::Unanswered { what: what.clone(), source })?;
            for answer in Answers::new(&self.buffer[..length]) {
                if answer.sequence != sequence {
                    continue;
                }
                return match acknowledgement(&answer) {
                    None => read(answer.payload).map(Some).ok_or(Error::Malformed { what }),
                    Some(Ok(()) | Err((Errno::NOENT | Errno::NODEV, _))) => Ok(None),
                    Some(Err((source, words))) => Err(Error::Refused { what, words, source }),
                };
            }
        }
    }

    /// Reads a dump to its end; false if it has to be taken again.
    fn collect(
        &mut self,
        sequence: u32,
        what: &str,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, Error> {
        let mut consistent = true;
        loop {
            let length = self
                .receive(RecvFlags::empty())
                .map_err(|source| Error::Unanswered { what: what.to_owned().into(), source })?;
            for answer in Answers::new(&self.buffer[..length]) {
                if answer.sequence != sequence {
                    continue;
                }
                consistent &= i32::from(answer.flags) & libc::NLM_F_DUMP_INTR == 0;
                if i32::from(answer.kind) == libc::NLMSG_DONE {
                    return Ok(consistent);
                }
                match acknowledgement(&answer) {
                    None => each(answer.payload),
                    Some(Ok(())) => return Ok(consistent),
                    Some(Err((source, words))) => {
                        return Err(Error::Refused { what: what.to_owned().into(), words, source });
                    }
                }
            }
        }
    }

    /// Takes `count` sequence numbers and gives the first.
    fn number(&mut self, count: usize) -> u32 {
        let first = self.sequence;
        self.sequence = self.sequence.wrapping_add(count as u32);
        first
    }

    fn transmit(&self, bytes: &[u8], what: &str) -> Result<(), Error> {
        let refused = |source| Error::Refused { what: what.to_owned().into(), words: None, source };
        // Port 0 is the kernel.
        let kernel = SocketAddrNetlink::new(0, 0);
        loop {
            match rustix::net::sendto(&self.fd, bytes, SendFlags::empty(), &kernel) {
                Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(source) => return Err(refused(source)),
            }
        }
    }

    /// One datagram from the kernel into the buffer; its length.
    fn receive(&mut self, flags: RecvFlags) -> Result<usize, Errno> {
        loop {
            match rustix::net::recv(&self.fd, &mut self.buffer[..], flags | RecvFlags::TRUNC) {
                Err(Errno::INTR) => {}
                Ok((_, full)) if full > self.buffer.len() => return Err(Errno::MSGSIZE),
                Ok((length, _)) => return Ok(length),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Hears of every change of a link in the namespace in which it was opened.
#[derive(Debug)]
pub struct LinkEvents {
    fd: OwnedFd,
}

impl LinkEvents {
    /// Subscribes. What changes from now on is heard.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { fd: open(Family::Route, libc::RTMGRP_LINK as u32)? })
    }

    /// Waits until some link changed or the deadline has passed; false if it has passed.
    pub fn wait(&self, deadline: Instant) -> Result<bool, Error> {
        let what = || Cow::Borrowed("wait for a link to change");
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        let mut polled = [PollFd::new(&self.fd, PollFlags::IN)];
        match rustix::event::poll(&mut polled, Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) | Err(Errno::INTR) => {}
            Err(source) => return Err(Error::Unanswered { what: what(), source }),
        }
        let mut scratch = [0_u8; 64];
        // What changed is not read: the caller looks for itself. An overrun (ENOBUFS) is a change too.
        while rustix::net::recv(&self.fd, &mut scratch[..], RecvFlags::DONTWAIT).is_ok() {}
        Ok(true)
    }
}

/// A bound socket that hears the multicast `groups`.
fn open(family: Family, groups: u32) -> Result<OwnedFd, Error> {
    let (name, protocol) = match family {
        // NETLINK_ROUTE is protocol 0, which rustix says as none.
        Family::Route => ("route", None),
        Family::Netfilter => ("netfilter", Some(rustix::net::netlink::NETFILTER)),
        Family::SocketDiagnosis => ("socket diagnosis", Some(rustix::net::netlink::SOCK_DIAG)),
    };
    let failed = |source| Error::Open { family: name, source };
    let flags = SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)
        .map_err(failed)?;
    rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups)).map_err(failed)?;
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(ANSWER_TIMEOUT))
        .map_err(failed)?;
    Ok(fd)
}

/// Switches on a boolean option of the `SOL_NETLINK` level; see netlink(7).
fn set_netlink_option(fd: BorrowedFd<'_>, option: libc::c_int) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let on: libc::c_int = 1;
    // SAFETY: `on` outlives the call, the length given is its size, and the kernel only reads it; the
    // descriptor is borrowed, so it is open.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
    }
}

/// What an answer acknowledges: success, or error number and the kernel's words; none if it is data.
#[allow(clippy::type_complexity)]
fn acknowledgement(answer: &Answer<'_>) -> Option<Result<(), (Errno, Option<String>)>> {
    /// The offset of the original request's header behind the error number.
    const ORIGINAL: usize = 4;
    const NLM_F_CAPPED: u16 = 0x100;
    const NLM_F_ACK_TLVS: u16 = 0x200;
    const NLMSGERR_ATTR_MSG: u16 = 1;
    if i32::from(answer.kind) == libc::NLMSG_DONE {
        return Some(Ok(()));
    }
    if i32::from(answer.kind) != libc::NLMSG_ERROR {
        return None;
    }
    let number = read_u32(answer.payload, 0).unwrap_or(0) as i32;
    if number == 0 {
        return Some(Ok(()));
    }
    let words = (answer.flags & NLM_F_ACK_TLVS != 0)
        .then(|| {
            let original_len = if answer.flags & NLM_F_CAPPED == 0 {
                read_u32(answer.payload, ORIGINAL)? as usize
            } else {
                super::message::HEADER_LEN
            };
            let header_len = ORIGINAL.checked_add(original_len)?;
            Attributes::after(answer.payload, header_len).find(NLMSGERR_ATTR_MSG).map(read_str)
        })
        .flatten();
    Some(Err((Errno::from_raw_os_error(number.wrapping_neg()), words)))
}
