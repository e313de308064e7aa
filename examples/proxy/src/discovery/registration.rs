//! An entry in a registry: made in the background, kept, and taken out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use lifecycle_runtime::{BoxError, Component, Context};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::Farewell;

/// The pauses between two attempts to register.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Where a service can be registered.
pub(super) trait Registry: Send + Sync + 'static {
    /// What it is called.
    const NAME: &'static str;

    /// How long an entry lasts that is not kept.
    fn time_to_live(&self) -> Duration;

    /// Makes the entry, over one that there may be.
    fn register(&self) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Has the entry last for another time to live. After an error it has to be made
    /// again.
    fn keep(&self) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Takes the entry out, if it is there.
    fn deregister(&self) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// An entry, and the task that keeps it.
#[derive(Debug)]
pub(super) struct Registration {
    name: &'static str,
    farewell: Farewell,
    task: Task,
}

#[derive(Clone, Debug, Default)]
struct Task {
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Task {
    /// Waits until it has ended; a call that it is in is not broken off, as nobody would
    /// know what came of it.
    async fn end(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Registration {
    /// Begins to register. Every call has to end within `limit`.
    pub(super) fn start<R: Registry>(registry: R, limit: Duration, farewell: Farewell) -> Self {
        let entry = Arc::new(Entry {
            registry,
            limit,
            attempted: AtomicBool::new(false),
        });
        let task = Task::default();
        let stop = task.stop.clone();
        let kept = entry.clone();
        task.tracker
            .spawn(async move { kept.keep_until(&stop).await });
        let ending = task.clone();
        farewell.prepare(limit, move |_| {
            let (task, entry) = (ending.clone(), entry.clone());
            async move {
                task.end().await;
                entry.take_out().await
            }
        });
        Self {
            name: R::NAME,
            farewell,
            task,
        }
    }
}

struct Entry<R> {
    registry: R,
    limit: Duration,
    /// Whether it may be there.
    attempted: AtomicBool,
}

impl<R: Registry> Entry<R> {
    /// Makes the entry and keeps it, anew when it is lost.
    async fn keep_until(&self, stop: &CancellationToken) {
        while self.register_until(stop).await {
            info!(registry = R::NAME, "registered");
            let pause = self.registry.time_to_live() / 3;
            loop {
                if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                    return;
                }
                if let Err(error) = self.bounded(self.registry.keep()).await {
                    warn!(registry = R::NAME, %error, "the registration is lost");
                    break;
                }
            }
        }
    }

    /// Tries until it succeeds; `false` if it was stopped.
    async fn register_until(&self, stop: &CancellationToken) -> bool {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(FIRST_PAUSE)
            .with_max_delay(LONGEST_PAUSE)
            .with_jitter()
            .without_max_times()
            .build();
        for pause in pauses {
            if stop.is_cancelled() {
                return false;
            }
            self.attempted.store(true, Ordering::Relaxed);
            match self.bounded(self.registry.register()).await {
                Ok(()) => return true,
                Err(error) => warn!(registry = R::NAME, %error, ?pause, "not registered yet"),
            }
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return false;
            }
        }
        false
    }

    async fn bounded(
        &self,
        call: impl Future<Output = Result<(), BoxError>> + Send,
    ) -> Result<(), BoxError> {
        let limit = self.limit;
        let answered = timeout(limit, call).await;
        answered.unwrap_or_else(|_| Err(format!("no answer within {limit:?}").into()))
    }

    async fn take_out(&self) -> Result<(), BoxError> {
        if self.attempted.load(Ordering::Relaxed) {
            self.registry.deregister().await?;
            info!(registry = R::NAME, "deregistered");
        }
        Ok(())
    }
}

impl Component for Registration {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let name = self.name;
        cx.waiting_for(move || format!("an answer of {name}"));
        let said = self.farewell.say().await;
        self.task.end().await;
        said
    }

    fn abort(&mut self) {
        self.release();
    }

    fn release(&mut self) {
        self.task.stop.cancel();
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.release();
    }
}
