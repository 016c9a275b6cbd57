//! The one place that turns a failure into an HTTP answer.
//!
//! Docker's clients act on the status, and on words: `docker run` ends with 127 if the message of a
//! failed start says `executable file not found` or `no such file or directory`, with 126 if it says
//! `permission denied` or `is a directory`, with 125 otherwise.

use dhow_docker_wire::ErrorResponse;
use dhow_docker_wire::progress::{Progress, ProgressError};
use dhow_error::{Error, Kind};
use hyper::{Response, StatusCode};

use crate::answer::{self, Answer};

/// The answer that reports a failure.
pub(crate) fn answer(error: &Error) -> Answer {
    let status = status(error.kind());
    if status == StatusCode::NOT_MODIFIED {
        return empty(status);
    }
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::warn!(error = %error.chain(), "request failed");
    }
    let body = ErrorResponse { message: message(error), hint: error.hint().map(str::to_owned) };
    answer::json(status, &body)
}

/// The failure as the last line of a stream whose status was sent long before.
pub(crate) fn progress(error: &Error) -> Progress {
    let message = message(error);
    Progress {
        error: Some(message.clone()),
        error_detail: Some(ProgressError {
            code: None,
            message,
            hint: error.hint().map(str::to_owned),
        }),
        ..Progress::default()
    }
}

/// The failure and its causes on one line, with the words that clients look for.
pub(crate) fn message(error: &Error) -> String {
    let mut message = error.chain();
    let words: &[&str] = match error.kind() {
        Kind::CommandNotFound => &["executable file not found", "no such file or directory"],
        Kind::CommandNotExecutable => &["permission denied", "is a directory"],
        _ => &[],
    };
    if let Some(first) = words.first()
        && !words.iter().any(|words| message.contains(words))
    {
        message.push_str(": ");
        message.push_str(first);
    }
    message
}

fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Invalid | Kind::CommandNotFound | Kind::CommandNotExecutable => {
            StatusCode::BAD_REQUEST
        }
        Kind::NotModified => StatusCode::NOT_MODIFIED,
        Kind::Unauthorized => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        Kind::Exhausted | Kind::Cancelled | Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn empty(status: StatusCode) -> Answer {
    let mut response = Response::new(answer::empty());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_for_exit_codes_are_there_once() {
        let error = Error::new(Kind::CommandNotFound, "cannot run \"x\"");
        assert_eq!(message(&error), "cannot run \"x\": executable file not found");
        let told = "exec: \"x\": executable file not found in $PATH";
        assert_eq!(message(&Error::new(Kind::CommandNotFound, told)), told);
        let error = Error::new(Kind::CommandNotExecutable, "cannot run \"/etc\"");
        assert!(message(&error).ends_with("permission denied"));
    }

    #[test]
    fn not_modified_has_no_body() {
        let response = answer(&Error::new(Kind::NotModified, "container is running"));
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
        assert!(response.headers().get("content-type").is_none());
    }
}
