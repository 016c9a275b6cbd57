//! When a container starts again by itself. Pure.
//!
//! ```text
//!   ended ── wanted? ──no──► exited
//!              │ yes
//!              ▼
//!          restarting ── back-off: 100 ms, doubled after each quick end, at most a minute ──► start
//! ```

use std::time::Duration;

use crate::spec::RestartPolicy;
use crate::state::State;

/// The first wait.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST: Duration = Duration::from_mins(1);
/// A run of this length is a success: the waits begin anew.
const QUICK: Duration = Duration::from_secs(10);

/// Whether a container that ended as `state` says is to start again.
pub(crate) fn is_wanted(policy: RestartPolicy, state: &State) -> bool {
    if state.stopped_by_user {
        return false;
    }
    match policy {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure { max_retries } => {
            state.exit_code != 0 && (max_retries == 0 || state.restart_count < max_retries)
        }
    }
}

/// Whether a container that had ended before the daemon starts is to start with it. `always` also means
/// those that a user stopped.
pub(crate) fn is_wanted_at_open(policy: RestartPolicy, state: &State) -> bool {
    policy == RestartPolicy::Always || is_wanted(policy, state)
}

/// Whether a run was so short that the waits grow.
pub(crate) fn was_quick(state: &State) -> bool {
    let length = state.finished_at_ns.saturating_sub(state.started_at_ns);
    u128::from(length) < QUICK.as_nanos()
}

/// How long to wait after so many quick ends in a row (the one just seen counted).
pub(crate) fn back_off(quick_exits: u32) -> Duration {
    let doublings = quick_exits.saturating_sub(1).min(16);
    (FIRST * 2_u32.pow(doublings)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_decide() {
        let ended = |code, stopped| State {
            exit_code: code,
            stopped_by_user: stopped,
            restart_count: 2,
            ..State::default()
        };
        use RestartPolicy::{Always, No, OnFailure, UnlessStopped};
        let cases = [
            (No, 1, false, false),
            (Always, 0, false, true),
            (Always, 0, true, false),
            (UnlessStopped, 1, true, false),
            (OnFailure { max_retries: 0 }, 0, false, false),
            (OnFailure { max_retries: 0 }, 1, false, true),
            (OnFailure { max_retries: 2 }, 1, false, false),
            (OnFailure { max_retries: 3 }, 1, false, true),
        ];
        for (policy, code, stopped, wanted) in cases {
            assert_eq!(is_wanted(policy, &ended(code, stopped)), wanted, "{policy:?} {code}");
        }
        assert!(is_wanted_at_open(Always, &ended(0, true)));
        assert!(!is_wanted_at_open(UnlessStopped, &ended(0, true)));
    }

    #[test]
    fn waits_double_up_to_a_minute() {
        assert_eq!(back_off(0), FIRST);
        assert_eq!(back_off(1), FIRST);
        assert_eq!(back_off(3), FIRST * 4);
        assert_eq!(back_off(u32::MAX), LONGEST);
    }
}
