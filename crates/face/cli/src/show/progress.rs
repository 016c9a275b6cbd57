//! Progress of a pull, load or build: bars on a terminal, plain lines in a pipe.

use std::collections::BTreeMap;

use dhow_docker_wire::progress::Progress;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::Failure;
use crate::{show, terminal};

/// A line of progress is not longer than this.
const LONGEST_LINE: usize = 1 << 20;

/// What the work left for programs: the `aux` of its last line.
pub(crate) type Aux = Option<serde_json::Value>;

/// Where progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// On standard output.
    Stdout,
    /// On standard error, since standard output belongs to somebody else.
    Stderr,
    /// Only failures are told.
    Nowhere,
}

/// Shows the JSON lines of `body` until it ends.
pub(crate) async fn follow(mut body: Incoming, output: Output) -> Result<Aux, Failure> {
    let mut shown = Shown::new(output);
    let mut pending = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame?.into_data() else { continue };
        pending.extend_from_slice(&piece);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            if !line.trim_ascii().is_empty() {
                shown.line(&line)?;
            }
        }
        if pending.len() > LONGEST_LINE {
            return Err(Failure::new("the daemon sent a line of progress without an end"));
        }
    }
    if !pending.trim_ascii().is_empty() {
        shown.line(&pending)?;
    }
    Ok(shown.aux)
}

/// What is on the screen.
struct Shown {
    output: Output,
    bars: Option<MultiProgress>,
    layers: BTreeMap<String, ProgressBar>,
    told: BTreeMap<String, String>,
    aux: Aux,
}

impl Shown {
    fn new(output: Output) -> Self {
        let target = match output {
            Output::Stdout if terminal::stdout_is_terminal() => Some(ProgressDrawTarget::stdout()),
            Output::Stderr if terminal::stderr_is_terminal() => Some(ProgressDrawTarget::stderr()),
            _ => None,
        };
        let bars = target.map(MultiProgress::with_draw_target);
        Self { output, bars, layers: BTreeMap::new(), told: BTreeMap::new(), aux: None }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Failure> {
        let progress: Progress = serde_json::from_slice(line)?;
        if let Some(error) = progress.error_detail {
            let mut failure = Failure::new(error.message);
            failure.hint = error.hint;
            return Err(failure);
        }
        if let Some(message) = progress.error {
            return Err(Failure::new(message));
        }
        self.aux = progress.aux.clone().or(self.aux.take());
        if self.output == Output::Nowhere {
            return Ok(());
        }
        if !progress.stream.is_empty() {
            return self.print(progress.stream.trim_end_matches('\n'));
        }
        if progress.id.is_empty() {
            return if progress.status.is_empty() { Ok(()) } else { self.print(&progress.status) };
        }
        match &self.bars {
            Some(bars) => {
                let bar = self.layers.entry(progress.id.clone()).or_insert_with(|| layer(bars));
                bar.set_prefix(progress.id);
                advance(bar, &progress.status, progress.progress_detail.unwrap_or_default());
                Ok(())
            }
            None => self.change(progress),
        }
    }

    /// In a pipe: a line when a layer's status changes, not for each piece.
    fn change(&mut self, progress: Progress) -> Result<(), Failure> {
        let before = self.told.insert(progress.id.clone(), progress.status.clone());
        if before.as_ref() == Some(&progress.status) {
            return Ok(());
        }
        self.print(&format!("{}: {}", progress.id, progress.status))
    }

    fn print(&self, text: &str) -> Result<(), Failure> {
        match (&self.bars, self.output) {
            (Some(bars), _) => Ok(bars.println(text)?),
            (None, Output::Stderr) => {
                eprintln!("{text}");
                Ok(())
            }
            (None, _) => show::line(text),
        }
    }
}

/// The bar of a layer, below those that are there.
fn layer(bars: &MultiProgress) -> ProgressBar {
    let bar = bars.add(ProgressBar::no_length());
    if let Ok(style) = ProgressStyle::with_template("{prefix}: {msg}") {
        bar.set_style(style);
    }
    bar
}

fn advance(bar: &ProgressBar, status: &str, detail: dhow_docker_wire::progress::ProgressDetail) {
    let style = match detail.total.zip(detail.current) {
        Some((total, current)) => {
            bar.set_length(total);
            bar.set_position(current);
            "{prefix}: {msg} [{bar:40}] {decimal_bytes}/{decimal_total_bytes}"
        }
        None => "{prefix}: {msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(status.to_owned());
    // Drawn also when nothing else will come for this layer.
    bar.tick();
}
