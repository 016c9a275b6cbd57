//! The files of a log, read as one.
//!
//! The current file and its rotated predecessors are opened first and read then, so that a rotation in
//! between loses nothing; a file that was opened twice because it was renamed meanwhile is read once.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use dhow_error::{Error, Kind, Result};

use super::LogEntry;
use super::line::{self, LINE_MAX};

/// How many rotated files are looked for.
const FILES_MAX: u32 = 1000;
/// How much is read at once when looking for the tail.
const BLOCK: u64 = 64 << 10;

/// A log being read.
#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    /// Files not yet begun, oldest first.
    rest: VecDeque<File>,
    current: Option<BufReader<File>>,
    /// The beginning of a line whose end is not written yet.
    partial: Vec<u8>,
    /// A line that is too long is being skipped.
    skipping: bool,
}

impl Reader {
    /// Opens the log at `path`, from its beginning or the last `tail` lines. A log that is not there (yet)
    /// is empty.
    pub(super) fn open(path: &Path, tail: Option<u64>) -> Result<Self> {
        let mut files = open_all(path).map_err(|error| unreadable(path, error))?;
        if let Some(tail) = tail {
            begin_at_tail(&mut files, tail).map_err(|error| unreadable(path, error))?;
        }
        Ok(Self {
            path: path.to_owned(),
            rest: files,
            current: None,
            partial: Vec::new(),
            skipping: false,
        })
    }

    /// The next whole entry that is written; `None` if there is none yet.
    pub(super) fn next(&mut self) -> Result<Option<LogEntry>> {
        let failed = |error| unreadable(&self.path, error);
        loop {
            let Some(file) = &mut self.current else {
                match self.rest.pop_front() {
                    Some(file) => {
                        self.current = Some(BufReader::with_capacity(BLOCK as usize, file));
                    }
                    None => return Ok(None),
                }
                continue;
            };
            let limit = (LINE_MAX + 1 - self.partial.len().min(LINE_MAX)) as u64;
            let count = file.take(limit).read_until(b'\n', &mut self.partial).map_err(failed)?;
            if self.partial.last() == Some(&b'\n') {
                let line = std::mem::take(&mut self.partial);
                let is_skipped = std::mem::take(&mut self.skipping);
                let entry = line.split_last().and_then(|(_, line)| line::parse(line));
                match entry.filter(|_| !is_skipped) {
                    Some(entry) => return Ok(Some(entry)),
                    None => continue,
                }
            }
            if self.partial.len() > LINE_MAX {
                self.partial.clear();
                self.skipping = true;
            } else if count == 0 {
                if self.rest.is_empty() {
                    return Ok(None);
                }
                // A rotated file ends with a whole line, unless its shim was killed there.
                self.partial.clear();
                self.current = None;
            }
        }
    }

    /// After the end of what is written: takes up files that a rotation has put after the one being read.
    /// Says whether there is more.
    pub(super) fn take_up_rotated(&mut self) -> Result<bool> {
        let failed = |error| unreadable(&self.path, error);
        let own = match &self.current {
            Some(file) => Some(identity(file.get_ref()).map_err(failed)?),
            None => None,
        };
        let mut newer = VecDeque::new();
        for file in open_all(&self.path).map_err(failed)? {
            if Some(identity(&file).map_err(failed)?) == own {
                newer.clear();
            } else {
                newer.push_back(file);
            }
        }
        // Without our own file among them, it was rotated away: all of them are newer.
        self.rest = newer;
        Ok(!self.rest.is_empty())
    }
}

/// The current file and the rotated ones, oldest first.
fn open_all(path: &Path) -> io::Result<VecDeque<File>> {
    let mut files = VecDeque::new();
    let mut seen = Vec::new();
    let mut missing = 0;
    for number in 0..FILES_MAX {
        let path = if number == 0 { path.to_owned() } else { rotated(path, number) };
        match File::open(&path) {
            Ok(file) => {
                missing = 0;
                let identity = identity(&file)?;
                if !seen.contains(&identity) {
                    seen.push(identity);
                    files.push_front(file);
                }
            }
            // A rotation moves the oldest first: while it does, one number may be missing. Files only
            // ever move to higher numbers, so that none is overlooked by counting up.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                missing += 1;
                if missing > 1 {
                    break;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}

fn rotated(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    let data = file.metadata()?;
    Ok((data.dev(), data.ino()))
}

/// Moves the beginning of `files` to the last `tail` lines of them all.
fn begin_at_tail(files: &mut VecDeque<File>, tail: u64) -> io::Result<()> {
    let mut left = tail;
    let mut keep = 0;
    for file in files.iter_mut().rev() {
        keep += 1;
        let (start, lines) = find_tail(file, left)?;
        file.seek(SeekFrom::Start(start))?;
        left -= lines;
        if left == 0 {
            break;
        }
    }
    let drop = files.len() - keep;
    files.drain(..drop);
    Ok(())
}

/// Where the last `wanted` lines of a file begin, and how many there are.
fn find_tail(file: &File, wanted: u64) -> io::Result<(u64, u64)> {
    let end = file.metadata()?.len();
    if wanted == 0 {
        return Ok((end, 0));
    }
    let mut block = vec![0; BLOCK as usize];
    let mut position = end;
    // Line feeds seen; the one that ends the last line does not begin another.
    let mut lines = 0;
    while position > 0 {
        let start = position.saturating_sub(BLOCK);
        let part = &mut block[..(position - start) as usize];
        file.read_exact_at(part, start)?;
        for (offset, byte) in part.iter().enumerate().rev() {
            let after = start + offset as u64 + 1;
            if *byte != b'\n' || after == end {
                continue;
            }
            lines += 1;
            if lines == wanted {
                return Ok((after, wanted));
            }
        }
        position = start;
    }
    Ok((0, if end > 0 { lines + 1 } else { 0 }))
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::caused(Kind::Internal, format!("cannot read log {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn line(number: u32) -> String {
        format!(
            "{{\"log\":\"{number}\\n\",\"stream\":\"stdout\",\"time\":\"2023-11-14T22:13:20Z\"}}\n"
        )
    }

    fn write(path: &Path, numbers: std::ops::Range<u32>) {
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        for number in numbers {
            file.write_all(line(number).as_bytes()).unwrap();
        }
    }

    fn read(reader: &mut Reader) -> Vec<u32> {
        let mut numbers = Vec::new();
        while let Some(entry) = reader.next().unwrap() {
            let text = String::from_utf8(entry.bytes).unwrap();
            numbers.push(text.trim().parse().unwrap());
        }
        numbers
    }

    #[test]
    fn rotated_files_read_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        write(&rotated(&path, 2), 0..3);
        write(&rotated(&path, 1), 3..5);
        write(&path, 5..8);
        assert_eq!(read(&mut Reader::open(&path, None).unwrap()), (0..8).collect::<Vec<_>>());
        for tail in 0..10 {
            let expected: Vec<u32> = (8_u32.saturating_sub(tail)..8).collect();
            let mut reader = Reader::open(&path, Some(u64::from(tail))).unwrap();
            assert_eq!(read(&mut reader), expected, "tail {tail}");
        }
    }

    #[test]
    fn tails_cross_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        write(&path, 0..3000);
        let mut reader = Reader::open(&path, Some(2500)).unwrap();
        assert_eq!(read(&mut reader), (500..3000).collect::<Vec<_>>());
    }

    #[test]
    fn half_lines_wait_and_damaged_ones_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let text = line(1);
        let (head, rest) = text.split_at(20);
        let mut file = File::create(&path).unwrap();
        write!(file, "junk\n{}\n{head}", "x".repeat(LINE_MAX * 2)).unwrap();
        let mut reader = Reader::open(&path, None).unwrap();
        assert!(read(&mut reader).is_empty());
        write!(file, "{rest}").unwrap();
        assert_eq!(read(&mut reader), [1]);
    }

    #[test]
    fn rotation_while_reading_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut reader = Reader::open(&path, None).unwrap();
        assert!(read(&mut reader).is_empty() && !reader.take_up_rotated().unwrap());
        write(&path, 0..2);
        assert!(reader.take_up_rotated().unwrap());
        assert_eq!(read(&mut reader), [0, 1]);
        // Twice, before the reader looks again.
        write(&path, 2..3);
        std::fs::rename(&path, rotated(&path, 1)).unwrap();
        write(&path, 3..4);
        std::fs::rename(rotated(&path, 1), rotated(&path, 2)).unwrap();
        std::fs::rename(&path, rotated(&path, 1)).unwrap();
        write(&path, 4..5);
        assert_eq!(read(&mut reader), [2]);
        assert!(reader.take_up_rotated().unwrap());
        assert_eq!(read(&mut reader), [3, 4]);
        assert!(!reader.take_up_rotated().unwrap());
    }

    #[test]
    fn a_rotation_under_way_hides_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        write(&rotated(&path, 2), 0..1);
        write(&path, 1..2);
        assert_eq!(read(&mut Reader::open(&path, None).unwrap()), [0, 1]);
    }

    #[test]
    fn a_log_that_is_not_there_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = Reader::open(&folder.path().join("log"), Some(5)).unwrap();
        assert!(read(&mut reader).is_empty());
    }
}
