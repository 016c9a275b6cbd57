//! Images that go out as an archive.

use std::io::{self, Write};

use bytes::Bytes;
use dhow_error::{Error, Result};
use dhow_image::ArchiveFormat;
use hyper::header::{CONTENT_LENGTH, HeaderValue};

use crate::Services;
use crate::answer::{self, Answer, Writer};
use crate::request::Request;

/// `GET /images/get?names=...` and `GET /images/{name}/get`. `format=oci` leaves docker's own file out.
///
/// The answer says its length beforehand, so that a client notices when it ends early.
pub(crate) async fn save(
    services: &Services,
    request: &Request,
    names: Vec<String>,
) -> Result<Answer> {
    if names.is_empty() {
        return Err(Error::invalid("no image is named"));
    }
    let format = match request.query.text("format") {
        "" | "docker" => ArchiveFormat::Docker,
        "oci" => ArchiveFormat::Oci,
        _ => return Err(Error::invalid("format is either docker or oci")),
    };
    let saving = services.images.save(&names, format).await?;
    let length = HeaderValue::from(saving.length_bytes());
    let mut answer = answer::stream("application/x-tar", move |writer| async move {
        let written = tokio::task::spawn_blocking(move || saving.write(&mut Pipe(writer)));
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error = %error.chain(), "an archive ended early"),
            Err(error) => tracing::error!(%error, "an archive ended early"),
        }
    });
    answer.headers_mut().insert(CONTENT_LENGTH, length);
    Ok(answer)
}

/// A stream for someone who writes on a thread of its own.
struct Pipe(Writer);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.write_blocking(Bytes::copy_from_slice(bytes));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
