//! The hooks that run when a container is made already: after its start, and after its end. Those of its
//! making are run by `dhow_runtime`.

use dhow_error::{Error, Kind, Result};
use dhow_runtime::{LaunchError, Told};

use crate::container::{Container, Record};
use crate::death;
use crate::log::Log;

/// What a container's hooks and the listener of its seccomp filter are told of it.
pub(crate) fn told(record: &Record) -> Told {
    let Record { id, bundle, annotations, .. } = record;
    Told { id: id.clone(), bundle: bundle.clone(), annotations: annotations.clone() }
}

/// Runs the poststart hooks of a container that has just been started.
///
/// Errors: that of the first hook that fails; the container is deleted then.
pub(crate) fn started(container: &Container, log: &Log) -> Result<()> {
    let record = &container.record;
    let pid = record.init.as_ref().map_or(0, |init| init.pid);
    match dhow_runtime::poststart(record.hooks.as_ref(), &told(record), pid) {
        Ok(()) => Ok(()),
        Err(error) => Err(failed(container, error, log)),
    }
}

/// What becomes of a container one of whose hooks has failed: it is deleted. Gives the failure.
pub(crate) fn failed(container: &Container, error: LaunchError, log: &Log) -> Error {
    if let Err(error) = death::clear(container, log) {
        // The first failure is the one to report; this one tells what is left.
        log.warning(&error.chain());
    }
    Error::new(Kind::Internal, error.message().to_owned())
}

/// Runs the poststop hooks of a container of which nothing is left. What fails is only told.
pub(crate) fn ended(record: &Record, log: &Log) {
    if record.hooks.is_none() {
        return;
    }
    for failure in dhow_runtime::poststop(record.hooks.as_ref(), &told(record)) {
        log.warning(failure.message());
    }
}
