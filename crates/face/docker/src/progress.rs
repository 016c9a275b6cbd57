//! Work whose progress a client watches: pull, load, import, build.
//!
//! ```text
//!   work fails before its first line ──► an HTTP status with a message
//!   first line ──► 200, lines as they come ──► last lines, or a line with the error
//! ```
//!
//! The work is done within the answer: when the client goes away, it is dropped.

use std::pin::Pin;

use dhow_docker_wire::progress::{Progress, ProgressDetail};
use dhow_error::Result;
use dhow_image::ProgressEvent;
use futures_util::FutureExt;
use tokio::sync::mpsc;

use crate::answer::{self, Answer, Gone, Writer};
use crate::errors;

/// How many lines may wait for a slow client before further ones are left out.
pub(crate) const WAITING_LINES: usize = 256;

/// Where lines come from.
pub(crate) trait Lines: Send + 'static {
    /// The next line; none when there will be no more.
    fn next(&mut self) -> impl Future<Output = Option<Progress>> + Send;
}

impl Lines for mpsc::Receiver<ProgressEvent> {
    async fn next(&mut self) -> Option<Progress> {
        self.recv().await.map(line)
    }
}

/// Lines of text, as a build prints them.
pub(crate) struct Text(pub(crate) mpsc::UnboundedReceiver<String>);

impl Lines for Text {
    async fn next(&mut self) -> Option<Progress> {
        self.0.recv().await.map(text)
    }
}

/// Does `work`, showing its lines. The work's result is its last lines.
pub(crate) async fn show<W>(work: W, mut lines: impl Lines) -> Result<Answer>
where
    W: Future<Output = Result<Vec<Progress>>> + Send + 'static,
{
    let mut work = Box::pin(work);
    let (mut first, mut result) = tokio::select! {
        biased;
        line = lines.next() => (line, None),
        result = &mut work => (None, Some(result)),
    };
    if let Some(Err(error)) = result {
        first = lines.next().now_or_never().flatten();
        if first.is_none() {
            return Err(error);
        }
        result = Some(Err(error));
    }
    Ok(answer::stream("application/json", move |writer| async move {
        let _ = stream(work, first, result, lines, &writer).await;
    }))
}

/// Shows lines until the work is done, then what it said just before, then its result.
async fn stream<W>(
    mut work: Pin<Box<W>>,
    first: Option<Progress>,
    mut result: Option<Result<Vec<Progress>>>,
    mut lines: impl Lines,
    writer: &Writer,
) -> Result<(), Gone>
where
    W: Future<Output = Result<Vec<Progress>>> + Send + 'static,
{
    if let Some(line) = first {
        writer.line(&line).await?;
    }
    let mut open = true;
    while result.is_none() {
        tokio::select! {
            biased;
            line = lines.next(), if open => match line {
                Some(line) => writer.line(&line).await?,
                None => open = false,
            },
            done = &mut work => result = Some(done),
        }
    }
    // With the work goes its end of the lines, unless it has left someone behind: so no waiting.
    drop(work);
    while let Some(Some(line)) = lines.next().now_or_never() {
        writer.line(&line).await?;
    }
    let last = match result {
        Some(Ok(last)) => last,
        Some(Err(error)) => vec![errors::progress(&error)],
        None => Vec::new(),
    };
    for line in last {
        writer.line(&line).await?;
    }
    Ok(())
}

/// A line of text.
pub(crate) fn text(text: impl Into<String>) -> Progress {
    Progress { stream: text.into(), ..Progress::default() }
}

/// A line about the whole.
pub(crate) fn status(status: impl Into<String>) -> Progress {
    Progress { status: status.into(), ..Progress::default() }
}

fn line(event: ProgressEvent) -> Progress {
    let (current, total) = (event.current_bytes, event.total_bytes);
    let bar = current.zip(total).map(|(current, total)| bar(current, total));
    Progress {
        // Docker gives lines about a layer a detail, empty where there is nothing to measure.
        progress_detail: event.id.as_ref().map(|_| ProgressDetail { current, total }),
        id: event.id.unwrap_or_default(),
        status: event.status,
        progress: bar.unwrap_or_default(),
        ..Progress::default()
    }
}

/// A bar of 50 signs with the numbers behind it: `[=====>     ]  1.2MB/3.4MB`.
fn bar(current: u64, total: u64) -> String {
    const WIDTH: u64 = 50;
    let done =
        current.min(total).saturating_mul(WIDTH).checked_div(total).unwrap_or(WIDTH) as usize;
    let head = if done < WIDTH as usize { ">" } else { "" };
    let rest = WIDTH as usize - done - head.len();
    format!("[{}{head}{}] {:>8}/{}", "=".repeat(done), " ".repeat(rest), size(current), size(total))
}

/// Bytes in decimal units with four digits, as Docker writes them: `1.234MB`.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    let decimals = match value {
        _ if unit == "B" => 0,
        ..10.0 => 3,
        10.0..100.0 => 2,
        100.0..1000.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use dhow_error::Error;
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn bars_are_drawn() {
        assert_eq!(bar(0, 100), format!("[>{}]       0B/100B", " ".repeat(49)));
        assert_eq!(bar(100, 100), format!("[{}]     100B/100B", "=".repeat(50)));
        assert_eq!(bar(7, 0), format!("[{}]       7B/0B", "=".repeat(50)));
        assert_eq!(size(1_234_567), "1.235MB");
        assert_eq!(size(25_000), "25kB");
        assert_eq!(size(999), "999B");
    }

    #[tokio::test]
    async fn early_failures_have_a_status_and_late_ones_a_line() {
        let (sender, lines) = mpsc::channel(4);
        let failed = show(
            async move {
                let _sender = sender;
                Err(Error::not_found("no x"))
            },
            lines,
        )
        .await;
        assert!(failed.is_err());

        let (sender, lines) = mpsc::channel(4);
        let work = async move {
            sender
                .send(ProgressEvent { status: "one".into(), ..Default::default() })
                .await
                .unwrap();
            Err(Error::not_found("no x"))
        };
        sender_is_heard(show(work, lines).await.unwrap()).await;
    }

    async fn sender_is_heard(answer: Answer) {
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let lines: Vec<Progress> = std::str::from_utf8(&body)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines[0].status, "one");
        assert_eq!(lines[1].error.as_deref(), Some("no x"));
    }
}
