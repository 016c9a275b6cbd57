//! Output cut into log lines.
//!
//! A line ends with its newline, or after 16 KiB without one (then it is partial, and the log says so by
//! not ending it with a newline, as Docker's does). A partial line is never cut inside a UTF-8 character,
//! so that its parts read together are what was written.

/// The longest piece of a line, in bytes, its newline included.
pub(crate) const LINE_BYTES: usize = 16 << 10;

/// One stream's unfinished line.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    carry: Vec<u8>,
}

impl Splitter {
    /// Takes the next bytes of the stream and gives every line, or partial line, that they finish.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let room = LINE_BYTES - self.carry.len();
            let (window, _) = bytes.split_at(bytes.len().min(room));
            if let Some(newline) = window.iter().position(|byte| *byte == b'\n') {
                let (piece, rest) = bytes.split_at(newline + 1);
                self.finish(piece, &mut line);
                bytes = rest;
            } else if window.len() == room {
                self.carry.extend_from_slice(window);
                let whole = whole_characters(&self.carry);
                line(&self.carry[..whole]);
                self.carry.drain(..whole);
                bytes = &bytes[room..];
            } else {
                self.carry.extend_from_slice(window);
                return;
            }
        }
    }

    /// The stream has ended: gives what is left, without a newline.
    pub(crate) fn end(&mut self, line: impl FnOnce(&[u8])) {
        if !self.carry.is_empty() {
            line(&std::mem::take(&mut self.carry));
        }
    }

    fn finish(&mut self, piece: &[u8], line: &mut impl FnMut(&[u8])) {
        if self.carry.is_empty() {
            line(piece);
        } else {
            self.carry.extend_from_slice(piece);
            line(&std::mem::take(&mut self.carry));
        }
    }
}

/// How many of `bytes` do not belong to a UTF-8 character that goes on after them. Never 0 for more than
/// three bytes.
fn whole_characters(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let at = bytes.len() - back;
        let needs = match bytes[at] {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        return if needs > back { at } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut splitter = Splitter::default();
        let mut lines = Vec::new();
        for piece in pieces {
            splitter.push(piece, |line| lines.push(line.to_vec()));
        }
        splitter.end(|line| lines.push(line.to_vec()));
        lines
    }

    #[test]
    fn lines_are_put_together_across_reads() {
        assert_eq!(split(&[b"a\nb", b"c", b"\n\nd"]), [&b"a\n"[..], b"bc\n", b"\n", b"d"]);
    }

    #[test]
    fn a_long_line_is_cut_at_16_kib_but_not_inside_a_character() {
        let mut text = vec![b'x'; LINE_BYTES - 1];
        text.extend_from_slice("é!\n".as_bytes());
        let lines = split(&[&text]);
        assert_eq!(lines[0].len(), LINE_BYTES - 1);
        assert_eq!(lines[1], "é!\n".as_bytes());
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_too_long(
            parts in proptest::collection::vec(
                (any::<u8>(), 0_usize..20_000, any::<bool>()), 0..8)
        ) {
            let pieces: Vec<Vec<u8>> = parts.iter().map(|(byte, count, newline)| {
                let mut piece = vec![*byte; *count];
                if *newline { piece.push(b'\n'); }
                piece
            }).collect();
            let views: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let lines = split(&views);
            prop_assert_eq!(lines.concat(), pieces.concat());
            prop_assert!(lines.iter().all(|line| line.len() <= LINE_BYTES && !line.is_empty()));
        }

        #[test]
        fn utf8_stays_whole(
            head in 0_usize..8,
            filler in proptest::sample::select(vec!["a", "é", "€", "😀"]),
        ) {
            let text = "x".repeat(head) + &filler.repeat(2 * LINE_BYTES);
            let lines = split(&[text.as_bytes()]);
            prop_assert!(lines.iter().all(|line| std::str::from_utf8(line).is_ok()));
            prop_assert_eq!(lines.concat(), text.as_bytes());
        }
    }
}
