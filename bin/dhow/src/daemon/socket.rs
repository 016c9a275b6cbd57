//! The socket that clients use.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use dhow_error::{Error, Kind, Result};
use tokio::net::{UnixListener, UnixStream};

/// Listens at `path`, for root only. A socket that a killed daemon left is replaced; one that answers
/// is not.
pub(crate) async fn listen(path: &Path) -> Result<UnixListener> {
    let cannot = |error: std::io::Error| {
        Error::caused(Kind::Internal, format!("cannot listen on unix://{}", path.display()), error)
    };
    if UnixStream::connect(path).await.is_ok() {
        let message = format!("somebody already listens on unix://{}", path.display());
        return Err(Error::conflict(message).with_hint("name another socket with --host"));
    }
    remove(path);
    let listener = UnixListener::bind(path).map_err(cannot)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(cannot)?;
    Ok(listener)
}

/// Removes the socket; anything else that stands there stays.
pub(crate) fn remove(path: &Path) {
    use std::os::unix::fs::FileTypeExt;
    if fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket()) {
        let _ = fs::remove_file(path);
    }
}
