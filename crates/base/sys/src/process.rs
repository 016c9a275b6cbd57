//! clone3, fork, wait, exec, prctl, signals, rlimits: what makes and shapes a process.
