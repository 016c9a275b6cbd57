//! Compiles seccomp profiles to BPF.
