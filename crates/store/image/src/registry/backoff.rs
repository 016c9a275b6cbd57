//! How long to wait before a request is made again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(10);
/// A registry that says how long to wait is believed up to this.
const LONGEST_ASKED: Duration = Duration::from_mins(1);
/// How often a request is made at most.
const ATTEMPTS: u32 = 5;

/// The waits between the attempts of one request: doubled each time.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    made: u32,
}

impl Backoff {
    /// How long to wait now; none when it is time to give up. A registry that says how long to wait is
    /// obeyed, within limits.
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Option<Duration> {
        self.made += 1;
        if self.made >= ATTEMPTS {
            return None;
        }
        let own = (FIRST * 2_u32.pow(self.made - 1)).min(LONGEST);
        Some(asked.map_or(own, |asked| asked.min(LONGEST_ASKED)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_and_gives_up() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> =
            std::iter::from_fn(|| backoff.next(None)).map(|d| d.as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 2000]);
    }

    #[test]
    fn obeys_within_limits() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(Some(Duration::from_secs(3))), Some(Duration::from_secs(3)));
        assert_eq!(backoff.next(Some(Duration::from_hours(1))), Some(LONGEST_ASKED));
    }
}
