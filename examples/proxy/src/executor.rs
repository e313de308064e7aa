//! Runs what HTTP connections spawn, and keeps hold of it.

use std::future::Future;

use hyper::rt::Executor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// An executor whose tasks are counted, and cut together. A cheap clone.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    /// Counts them.
    pub tracker: TaskTracker,
    /// Cancelled: they end at once.
    pub cut: CancellationToken,
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let cut = self.cut.clone();
        self.tracker
            .spawn(async move { cut.run_until_cancelled(task).await.map(drop) });
    }
}
