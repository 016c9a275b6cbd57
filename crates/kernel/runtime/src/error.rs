//! Why a process could not be started in a container.

use std::fmt;

use dhow_error::{Classify, Kind, chain};

use crate::unsealed;

/// A failed [`launch`](crate::launch) or [`exec`](crate::exec): the step, what it was doing to what, and
/// the reason, all in `message`. Nothing of the failed start is left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchError {
    step: &'static str,
    message: String,
    kind: Kind,
    hint: Option<String>,
    after_hooks: bool,
}

impl LaunchError {
    /// A failure in `step`.
    pub fn new(step: &'static str, kind: Kind, message: impl Into<String>) -> Self {
        Self { step, message: message.into(), kind, hint: None, after_hooks: false }
    }

    /// A failure of another module, with its kind, its chain and its hint.
    pub(crate) fn classified(step: &'static str, error: &impl Classify) -> Self {
        let hint = error.hint();
        Self { step, message: chain(error), kind: error.kind(), hint, after_hooks: false }
    }

    /// The same failure with a hint on what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether it failed, before anything was changed, because the program that tried is not sealed.
    pub fn wants_seal(&self) -> bool {
        self.step == unsealed::STEP
    }

    /// The same failure, of a container whose first hooks have been called.
    #[must_use]
    pub(crate) fn after_hooks(mut self) -> Self {
        self.after_hooks = true;
        self
    }

    /// Whether the container's first hooks had been called, so that its poststop hooks are due.
    pub fn is_after_hooks(&self) -> bool {
        self.after_hooks
    }

    /// Whether a hook has failed.
    pub fn is_of_hooks(&self) -> bool {
        self.step == crate::hooks::STEP
    }

    /// The step of the start that failed, such as `mounts` or `exec`.
    pub fn step(&self) -> &'static str {
        self.step
    }

    /// What was being done to what, and why it failed.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The exit code that Docker gives such a failure: 127 for a command that does not exist, 126 for one
    /// that cannot be executed, else 125.
    pub fn exit_code(&self) -> i32 {
        match self.kind {
            Kind::CommandNotFound => 127,
            Kind::CommandNotExecutable => 126,
            _ => 125,
        }
    }
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for LaunchError {}

impl From<dhow_rootfs::Failure> for LaunchError {
    fn from(failure: dhow_rootfs::Failure) -> Self {
        let error = Self::new("root", Kind::Internal, failure.to_string());
        match failure.hint() {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

impl Classify for LaunchError {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}
