//! What a client has not taken yet.
//!
//! Bytes go straight to the socket while it takes them; only what it refuses is kept, so that a client that
//! keeps up costs no memory. Above [`LIMIT_BYTES`] the process behind it is no longer read: it blocks in
//! its write, as it would on a slow terminal. (The kernel's socket buffer holds another 200 KiB.)

use std::io::IoSlice;
use std::os::fd::AsFd;

use dhow_sys::event;
use dhow_sys::rustix::io::{Errno, Result, retry_on_intr, writev};

/// How much may wait for a client before the process has to.
pub(crate) const LIMIT_BYTES: usize = 1 << 20;
/// An empty outbox gives back memory beyond this.
const KEPT_BYTES: usize = 16 << 10;

/// Bytes for a non-blocking descriptor.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    /// How many bytes wait.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends `head` and then `body`, after what waits; keeps what `to` does not take now.
    /// An error means that `to` is dead.
    pub(crate) fn push(&mut self, to: impl AsFd, head: &[u8], body: &[u8]) -> Result<()> {
        let mut gone = 0;
        if self.is_empty() {
            let parts = [IoSlice::new(head), IoSlice::new(body)];
            gone = match retry_on_intr(|| writev(&to, &parts)) {
                Ok(count) => count,
                Err(Errno::AGAIN) => 0,
                Err(error) => return Err(error),
            };
        }
        for part in [head, body] {
            let skipped = gone.min(part.len());
            self.bytes.extend_from_slice(&part[skipped..]);
            gone -= skipped;
        }
        Ok(())
    }

    /// Sends what waits, as far as `to` takes it. An error means that `to` is dead.
    pub(crate) fn flush(&mut self, to: impl AsFd) -> Result<()> {
        while !self.is_empty() {
            match event::write_some(&to, &self.bytes[self.sent..])? {
                Some(count) => self.sent += count,
                None => break,
            }
        }
        if self.is_empty() {
            self.clear();
        } else if self.sent >= LIMIT_BYTES / 4 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }

    /// Forgets what waits.
    pub(crate) fn clear(&mut self) {
        self.sent = 0;
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_is_refused_comes_later_in_order() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut outbox = Outbox::default();
        let mut expected = Vec::new();
        for number in 0..200_u32 {
            let body = vec![number as u8; 5_000];
            outbox.push(&ours, &number.to_le_bytes(), &body).unwrap();
            expected.extend_from_slice(&number.to_le_bytes());
            expected.extend_from_slice(&body);
        }
        assert!(!outbox.is_empty(), "a socket takes less than a megabyte");
        let mut got = vec![0; expected.len()];
        let mut have = 0;
        while have < got.len() {
            have += theirs.read(&mut got[have..]).unwrap();
            outbox.flush(&ours).unwrap();
        }
        assert!(outbox.is_empty() && got == expected);
        drop(theirs);
        assert_eq!(outbox.push(&ours, b"", b"x"), Err(Errno::PIPE));
    }
}
