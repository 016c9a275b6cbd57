//! The end of a container: its process, its control group, its folder.

use std::os::fd::AsFd;

use dhow_error::{Error, Kind, Result};
use dhow_sys::event::{Interest, Poller, send_signal};
use dhow_sys::process::Reason;
use dhow_sys::rustix::io::Errno;

use crate::container::Container;
use crate::log::Log;
use crate::turns;

/// Ends what is left of a container and removes all that belongs to it. Its folder is the last to go: as long
/// as that is there, this can be done again. Its poststop hooks run after that.
pub(crate) fn clear(container: &Container, log: &Log) -> Result<()> {
    let cgroup = container.cgroup()?;
    if container.record.init.is_some() {
        kill(container)?;
        cgroup.kill()?;
        cgroup.destroy()?;
    } else {
        // Its creator was killed before anything of it ran; what else may have been born ends by itself.
        // Whoever is in the group now is not its: that group was there before, and stays.
        let _ = cgroup.destroy();
    }
    container.folder.remove()?;
    turns::ended(&container.record, log);
    Ok(())
}

/// Kills a container's first process, and waits until it has ended.
fn kill(container: &Container) -> Result<()> {
    let Some(process) = container.process()? else { return Ok(()) };
    let failed = |errno: Errno| {
        Error::caused(Kind::Internal, "cannot end the container's process", Reason(errno))
    };
    match send_signal(process.as_fd(), 9) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(errno) => return Err(failed(errno)),
    }
    // On v1 it dies only when it is thawed; a container without a freezer is not frozen.
    let _ = container.cgroup()?.thaw();
    let mut poller = Poller::new(1).map_err(failed)?;
    let (mut current, mut ready) = (Interest::NONE, Vec::new());
    poller.set(&process, 0, &mut current, Interest::READ).map_err(failed)?;
    poller.wait(&mut ready, Some(std::time::Duration::from_secs(10))).map_err(failed)?;
    if ready.is_empty() {
        return Err(Error::internal("the container's process does not end"));
    }
    Ok(())
}
