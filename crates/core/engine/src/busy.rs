//! Counts work that should not be cut off when the daemon ends.
//!
//! Cutting it off would lose nothing (the next daemon settles it), but it would leave it to do.

use std::sync::Arc;

use tokio::sync::watch;

/// The count. Clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Busy {
    count: Arc<watch::Sender<usize>>,
}

/// One piece of work; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Work {
    count: Arc<watch::Sender<usize>>,
}

impl Busy {
    /// Begins a piece of work.
    pub(crate) fn enter(&self) -> Work {
        self.count.send_modify(|count| *count += 1);
        Work { count: Arc::clone(&self.count) }
    }

    /// Waits until there is none.
    pub(crate) async fn idle(&self) {
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.count.send_modify(|count| *count = count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn idle_comes_with_the_last_end() {
        let busy = Busy::default();
        busy.idle().await;
        let (first, second) = (busy.enter(), busy.enter());
        let waiting = tokio::spawn({
            let busy = busy.clone();
            async move { busy.idle().await }
        });
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(second);
        waiting.await.unwrap();
    }
}
