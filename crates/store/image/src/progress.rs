//! Progress of pulls and loads, as events that a face can print in Docker's form.

use tokio::sync::mpsc;

/// One step forward. Docker's stream has the same fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProgressEvent {
    /// The layer's short digest; none for lines about the whole.
    pub id: Option<String>,
    /// `Pulling fs layer`, `Downloading`, `Download complete`, `Extracting`, `Pull complete`,
    /// `Already exists`, or a line about the whole.
    pub status: String,
    /// Bytes done.
    pub current_bytes: Option<u64>,
    /// Bytes to do, where known.
    pub total_bytes: Option<u64>,
}

/// Where events go. Events are dropped when nobody listens or the listener is slow: work never waits
/// for its spectators.
#[derive(Debug, Clone, Default)]
pub struct Progress(Option<mpsc::Sender<ProgressEvent>>);

impl Progress {
    /// To nobody.
    pub fn silent() -> Self {
        Self(None)
    }

    /// To a listener.
    pub fn channel(capacity: usize) -> (Self, mpsc::Receiver<ProgressEvent>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Self(Some(sender)), receiver)
    }

    /// Says a line about the whole.
    pub fn say(&self, status: impl Into<String>) {
        self.send(ProgressEvent { status: status.into(), ..ProgressEvent::default() });
    }

    /// Says something about one layer.
    pub fn layer(&self, id: &str, status: &str) {
        let (id, status) = (Some(id.to_owned()), status.to_owned());
        self.send(ProgressEvent { id, status, ..ProgressEvent::default() });
    }

    /// Says how far one layer is.
    pub fn bytes(&self, id: &str, status: &str, current: u64, total: Option<u64>) {
        self.send(ProgressEvent {
            id: Some(id.to_owned()),
            status: status.to_owned(),
            current_bytes: Some(current),
            total_bytes: total,
        });
    }

    fn send(&self, event: ProgressEvent) {
        if let Some(sender) = &self.0 {
            let _ = sender.try_send(event);
        }
    }
}
