//! Unix sockets: pairs, descriptors over them (SCM_RIGHTS), sockets in a folder, who is at the other end.
//!
//! Every descriptor made or received here is close-on-exec. Sockets in a folder are bound and reached
//! through the folder's descriptor, since a socket's path may have only 107 bytes (unix(7)) and folders
//! may lie deep. Writing to a socket whose peer is gone is `EPIPE`, never a signal.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::Mode;
use rustix::io::{Errno, Result};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// The most descriptors in one message (the kernel's SCM_MAX_FD).
pub const MAX_DESCRIPTORS: usize = 253;
/// The control buffer's size for [`MAX_DESCRIPTORS`].
const CONTROL_BYTES: usize = rustix::cmsg_space!(ScmRights(253));
/// How many connections wait to be accepted.
const BACKLOG: i32 = 128;

/// A connected pair that keeps message boundaries (SOCK_SEQPACKET), blocking.
pub fn packet_pair() -> Result<(OwnedFd, OwnedFd)> {
    pair(SocketType::SEQPACKET)
}

/// A connected pair of byte streams, blocking.
pub fn stream_pair() -> Result<(OwnedFd, OwnedFd)> {
    pair(SocketType::STREAM)
}

fn pair(kind: SocketType) -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
}

/// Sends `bytes` (not empty) and `descriptors` in one message.
///
/// Errors: those of sendmsg(2); `EINVAL` for more than [`MAX_DESCRIPTORS`].
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); CONTROL_BYTES];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::INVAL);
    }
    let sent = rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
    })?;
    if sent == bytes.len() { Ok(()) } else { Err(Errno::MSGSIZE) }
}

/// A message that came.
#[derive(Debug)]
pub struct Received {
    /// How many bytes of the buffer it filled; 0 when the other end is closed.
    pub bytes: usize,
    /// Its descriptors.
    pub descriptors: Vec<OwnedFd>,
    /// Whether bytes or descriptors were cut off.
    pub truncated: bool,
}

/// Receives one message with its descriptors. Errors: those of recvmsg(2).
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<Received> {
    let mut space = [MaybeUninit::uninit(); CONTROL_BYTES];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = rustix::io::retry_on_intr(|| {
        let mut parts = [IoSliceMut::new(buffer)];
        rustix::net::recvmsg(&socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut descriptors = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            descriptors.extend(rights);
        }
    }
    let truncated = message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    Ok(Received { bytes: message.bytes, descriptors, truncated })
}

/// Makes the socket `name` in `folder`, of mode 0600 from its first instant, and listens on it,
/// non-blocking. Errors: those of bind(2); `EADDRINUSE` when the name is taken.
pub fn listen_in(folder: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The kernel makes the file with the socket inode's mode (less the umask).
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &address_in(folder, name)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Connects to the socket `name` in `folder`, blocking.
///
/// Errors: those of connect(2); `ENOENT` or `ECONNREFUSED` when nobody listens.
pub fn connect_in(folder: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &address_in(folder, name)?)?;
    Ok(socket)
}

/// The next connection on a listening socket, non-blocking. `None` when there is none now.
pub fn accept(listener: impl AsFd) -> Result<Option<OwnedFd>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    match rustix::net::accept_with(listener, flags) {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The user at the other end of a connected socket, as of its connecting (SO_PEERCRED).
pub fn peer_user(socket: impl AsFd) -> Result<u32> {
    Ok(rustix::net::sockopt::socket_peercred(socket)?.uid.as_raw())
}

fn address_in(folder: BorrowedFd<'_>, name: &str) -> Result<SocketAddrUnix> {
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn descriptors_arrive_with_their_bytes_and_close_on_exec() {
        let (ours, theirs) = packet_pair().unwrap();
        let (mut kept, passed) = UnixStream::pair().unwrap();
        send(&ours, b"x", &[passed.as_fd(), passed.as_fd()]).unwrap();
        drop(passed);
        let mut buffer = [0; 8];
        let mut message = receive(&theirs, &mut buffer).unwrap();
        assert_eq!((message.bytes, message.descriptors.len(), message.truncated), (1, 2, false));
        for descriptor in &message.descriptors {
            let flags = rustix::io::fcntl_getfd(descriptor).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
        let mut stream = UnixStream::from(message.descriptors.remove(0));
        stream.write_all(b"hello").unwrap();
        drop((stream, message));
        let mut text = String::new();
        kept.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn as_many_descriptors_as_the_kernel_allows_pass_and_no_more() {
        let (ours, theirs) = packet_pair().unwrap();
        let all = vec![ours.as_fd(); MAX_DESCRIPTORS];
        send(&ours, b"x", &all).unwrap();
        let message = receive(&theirs, &mut [0; 1]).unwrap();
        assert_eq!(message.descriptors.len(), MAX_DESCRIPTORS);
        assert_eq!(send(&ours, b"x", &vec![ours.as_fd(); MAX_DESCRIPTORS + 1]), Err(Errno::INVAL));
    }

    #[test]
    fn a_closed_peer_is_an_empty_message() {
        let (ours, theirs) = packet_pair().unwrap();
        drop(ours);
        let message = receive(&theirs, &mut [0; 8]).unwrap();
        assert_eq!(message.bytes, 0);
        assert_eq!(send(&theirs, b"x", &[]), Err(Errno::PIPE));
    }
}
