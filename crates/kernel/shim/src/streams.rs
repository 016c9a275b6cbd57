//! The bytes that pass through a shim: output to the log and the clients, input to the process.

use dhow_sys::event;

use crate::connection::{Attachment, Phase};
use crate::shim::{FIRST_UNIT, Shim};
use crate::unit::Unit;

/// How much is moved at a time.
const BUFFER_BYTES: usize = 16 << 10;
/// How much is read at once of what a process has left at its end: more than a pipe holds.
const DRAIN_BYTES: usize = 2 << 20;

impl Shim {
    /// An output has bytes or has ended.
    pub(crate) fn output_ready(&mut self, number: u32, index: usize) {
        self.read_output(number, index);
        self.finish_if_done(number);
        self.refresh(number);
    }

    /// Reads what a process that has ended left in its outputs, without waiting.
    pub(crate) fn drain(&mut self, number: u32) {
        for index in 0..2 {
            let mut left = DRAIN_BYTES;
            while let Some(count @ 1..) = self.read_output(number, index) {
                left = left.saturating_sub(count);
                if left == 0 {
                    break;
                }
            }
        }
    }

    /// Reads an output once and delivers what came: how much, 0 at its end, `None` when nothing is there.
    fn read_output(&mut self, number: u32, index: usize) -> Option<usize> {
        let output = self.units.get(&number)?.outputs.get(index)?.as_ref()?;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(BUFFER_BYTES, 0);
        // A terminal whose other end is closed is EIO, not an end.
        let got = event::read_some(&output.file, &mut buffer).unwrap_or(Some(0));
        match got {
            Some(0) => self.end_output(number, index),
            Some(count) => self.deliver(number, index, &buffer[..count]),
            None => {}
        }
        self.buffer = buffer;
        got
    }

    fn deliver(&mut self, number: u32, index: usize, bytes: &[u8]) {
        let stream = Unit::stream(index);
        if number == FIRST_UNIT
            && let Some(log) = &mut self.log
        {
            log.write(stream, bytes);
        }
        for connection in self.connections.values_mut() {
            if connection.is_attached_to(number) {
                connection.output(stream, bytes);
            }
        }
    }

    /// Nothing more comes from this output, or is waited for.
    pub(crate) fn end_output(&mut self, number: u32, index: usize) {
        let output = self.units.get_mut(&number).and_then(|unit| unit.outputs.get_mut(index));
        if let Some(output) = output.and_then(Option::take) {
            output.close(&self.poller);
        }
        if number == FIRST_UNIT
            && let Some(log) = &mut self.log
        {
            log.end(Unit::stream(index));
        }
    }

    /// Lets go of the clients of a process that has ended and whose output was read to its end.
    pub(crate) fn finish_if_done(&mut self, number: u32) {
        if !self.units.get(&number).is_some_and(Unit::is_done) {
            return;
        }
        let mut finished = Vec::new();
        for (number_of, connection) in &mut self.connections {
            if connection.is_attached_to(number) {
                connection.phase = Phase::Closing;
                finished.push(*number_of);
            }
        }
        for connection in finished {
            self.refresh_connection(connection);
        }
        if let Some(unit) = self.units.get_mut(&number) {
            unit.input.close_now(&self.poller);
        }
        if number != FIRST_UNIT {
            self.units.remove(&number);
        }
    }

    /// A client has sent input or has closed its side.
    pub(crate) fn take_input(&mut self, number: u32, attachment: Attachment) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(BUFFER_BYTES, 0);
        let (connection, unit) =
            (self.connections.get_mut(&number), self.units.get_mut(&attachment.unit));
        if let (Some(connection), Some(unit)) = (connection, unit) {
            let feeds = connection.feeds(attachment.unit);
            // Readable because of a hang-up only: the process must take what is pending first.
            if !feeds || unit.input.pending.is_empty() {
                match connection.read_input(&mut buffer) {
                    Some(0) if feeds && ends_input(unit, self.stdin_once) => {
                        unit.input.close(&self.poller);
                    }
                    Some(count) if feeds => unit.input.feed(&buffer[..count], &self.poller),
                    _ => {}
                }
            }
        }
        self.buffer = buffer;
    }

    /// A process takes input again.
    pub(crate) fn input_ready(&mut self, number: u32) {
        if let Some(unit) = self.units.get_mut(&number) {
            unit.input.flush(&self.poller);
        }
        self.refresh(number);
    }
}

/// Whether a process's input ends with that of a client: not at a terminal, where the next one goes on.
fn ends_input(unit: &Unit, stdin_once: bool) -> bool {
    !unit.tty && (stdin_once || unit.exec_id.is_some())
}
