//! A container's log in Docker's json-file format, one object a line:
//!
//! ```text
//!   {"log":"hello\n","stream":"stdout","time":"2024-12-31T23:59:59.12Z"}
//! ```
//!
//! `log` is a line with its newline, or a partial one without (see [`crate::line`]); what is not UTF-8 in
//! it becomes U+FFFD. The file grows by whole objects, each write holding as many as one read gave, never
//! fsync'd. Rotation: a line that comes when the file has `max_size_bytes` goes into a new file, the old
//! ones move to `.1` (newest), `.2`, ... and the last of `max_files` is gone; with one file it starts over.
//!
//! A full disk loses lines, never a container: what cannot be written whole is taken back and dropped.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::clock;
use crate::line::Splitter;
use crate::protocol::LogFile;

/// Objects are collected up to this many bytes for one write.
const BATCH_BYTES: usize = 16 << 10;

/// An open log.
#[derive(Debug)]
pub(crate) struct Log {
    plan: LogFile,
    file: File,
    size: u64,
    batch: Vec<u8>,
    unfinished: [Splitter; 2],
}

/// Which of the two streams a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// Its number on a connection without a terminal.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl Log {
    /// Opens the log to append to it. The error is of the file system.
    pub(crate) fn open(plan: LogFile) -> io::Result<Self> {
        let file = open(&plan.path)?;
        let size = file.metadata()?.len();
        Ok(Self { plan, file, size, batch: Vec::new(), unfinished: Default::default() })
    }

    /// Takes what a process has written.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let at_ns = clock::now_ns();
        let mut splitter = std::mem::take(&mut self.unfinished[index(stream)]);
        splitter.push(bytes, |line| self.line(stream, line, at_ns));
        self.unfinished[index(stream)] = splitter;
        self.flush();
    }

    /// The stream has ended; what it left unfinished is a line.
    pub(crate) fn end(&mut self, stream: Stream) {
        let mut splitter = std::mem::take(&mut self.unfinished[index(stream)]);
        splitter.end(|line| self.line(stream, line, clock::now_ns()));
        self.flush();
    }

    fn line(&mut self, stream: Stream, line: &[u8], at_ns: u64) {
        let full = |size| self.plan.max_size_bytes.is_some_and(|limit| limit > 0 && size >= limit);
        if full(self.size + self.batch.len() as u64) {
            self.flush();
            self.rotate();
        }
        append_object(&mut self.batch, stream, line, at_ns);
        if self.batch.len() >= BATCH_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        match self.file.write_all(&self.batch) {
            Ok(()) => self.size += self.batch.len() as u64,
            // Half an object would spoil the next one.
            Err(_) => drop(self.file.set_len(self.size)),
        }
        if self.batch.capacity() > 2 * BATCH_BYTES {
            self.batch = Vec::new();
        } else {
            self.batch.clear();
        }
    }

    /// A new file for what comes. If that fails, the old one goes on.
    fn rotate(&mut self) {
        let path = &self.plan.path;
        if self.plan.max_files <= 1 {
            if self.file.set_len(0).is_ok() {
                self.size = 0;
            }
            return;
        }
        for number in (1..self.plan.max_files - 1).rev() {
            // Absent ones are those that have not come to be yet.
            let _ = std::fs::rename(numbered(path, number), numbered(path, number + 1));
        }
        if std::fs::rename(path, numbered(path, 1)).is_ok()
            && let Ok(file) = open(path)
        {
            self.file = file;
            self.size = 0;
        }
    }
}

fn index(stream: Stream) -> usize {
    usize::from(stream == Stream::Stderr)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

fn append_object(batch: &mut Vec<u8>, stream: Stream, line: &[u8], at_ns: u64) {
    batch.extend_from_slice(b"{\"log\":\"");
    for chunk in line.utf8_chunks() {
        append_escaped(batch, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            batch.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    batch.extend_from_slice(b"\",\"stream\":\"");
    batch.extend_from_slice(stream.name().as_bytes());
    batch.extend_from_slice(b"\",\"time\":\"");
    clock::append_rfc3339(batch, at_ns);
    batch.extend_from_slice(b"\"}\n");
}

/// Appends valid UTF-8 as the inside of a JSON string (RFC 8259, section 7).
fn append_escaped(batch: &mut Vec<u8>, text: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let special = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    let mut rest = text;
    while let Some(at) = rest.iter().position(special) {
        batch.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'\n' => batch.extend_from_slice(b"\\n"),
            b'\r' => batch.extend_from_slice(b"\\r"),
            b'\t' => batch.extend_from_slice(b"\\t"),
            byte @ (b'"' | b'\\') => batch.extend_from_slice(&[b'\\', byte]),
            byte => {
                batch.extend_from_slice(b"\\u00");
                batch.push(HEX[usize::from(byte >> 4)]);
                batch.push(HEX[usize::from(byte & 15)]);
            }
        }
        rest = &rest[at + 1..];
    }
    batch.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn objects(path: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn texts(path: &Path) -> Vec<String> {
        objects(path).iter().map(|object| object["log"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn lines_have_their_stream_and_a_last_one_may_lack_its_newline() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let plan = LogFile { path: path.clone(), max_size_bytes: None, max_files: 1 };
        let mut log = Log::open(plan).unwrap();
        log.write(Stream::Stdout, b"one\ntwo");
        log.write(Stream::Stderr, b"\"bad\" \xff\x01\n");
        log.end(Stream::Stdout);
        assert_eq!(texts(&path), ["one\n", "\"bad\" \u{fffd}\u{1}\n", "two"]);
        assert_eq!(objects(&path)[1]["stream"], "stderr");
        assert!(objects(&path)[0]["time"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn rotation_keeps_so_many_files_and_every_line_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let plan = LogFile { path: path.clone(), max_size_bytes: Some(200), max_files: 3 };
        let mut log = Log::open(plan).unwrap();
        for number in 0..20 {
            log.write(Stream::Stdout, format!("line {number}\n").as_bytes());
        }
        let mut all = texts(&numbered(&path, 2));
        all.extend(texts(&numbered(&path, 1)));
        all.extend(texts(&path));
        let first = 20 - all.len();
        let expected: Vec<_> = (first..20).map(|number| format!("line {number}\n")).collect();
        assert_eq!(all, expected);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn one_file_starts_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let plan = LogFile { path: path.clone(), max_size_bytes: Some(10), max_files: 0 };
        let mut log = Log::open(plan).unwrap();
        log.write(Stream::Stdout, b"one\ntwo\nthree\n");
        assert_eq!(texts(&path), ["three\n"]);
    }

    proptest! {
        #[test]
        fn every_object_is_json(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut batch = Vec::new();
            append_object(&mut batch, Stream::Stdout, &line, 1);
            let object: serde_json::Value = serde_json::from_slice(&batch).unwrap();
            prop_assert_eq!(object["log"].as_str().unwrap(), String::from_utf8_lossy(&line));
        }
    }
}
