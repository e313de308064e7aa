//! An entry in a registry. A background task creates and renews the entry. The goodbye removes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use lifecycle_runtime::{BoxError, Component, Context};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::Goodbye;

/// The pause after the first failed attempt to register. It doubles each time, up to
/// `LONGEST_PAUSE`.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A registry that holds an entry for one service.
pub(super) trait Registry: Send + Sync + 'static {
    /// The registry's name in logs.
    const NAME: &'static str;

    /// Returns the time after which the registry drops an entry that is not renewed.
    fn time_to_live(&self) -> Duration;

    /// Creates the entry, or replaces an existing entry.
    fn register(&self) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Renews the entry for another time to live. After an error, the caller must register again.
    fn renew(&self) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Removes the entry, if it exists.
    fn deregister(&self) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// An entry in a registry, and the task that renews it.
#[derive(Debug)]
pub(super) struct Registration {
    name: &'static str,
    goodbye: Goodbye,
    task: Task,
}

#[derive(Clone, Debug, Default)]
struct Task {
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Task {
    /// Stops the task and waits for its end. Lets a call in flight complete, since the effect of an
    /// interrupted call would be unknown.
    async fn end(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Registration {
    /// Starts to register and renew the entry. Each call of the registry may take the time `limit`.
    pub(super) fn start<R: Registry>(registry: R, limit: Duration, goodbye: Goodbye) -> Self {
        let entry = Arc::new(Entry {
            registry,
            limit,
            attempted: AtomicBool::new(false),
        });
        let task = Task::default();
        let stop = task.stop.clone();
        let renewing = entry.clone();
        task.tracker
            .spawn(async move { renewing.renew_until(&stop).await });
        let ending = task.clone();
        goodbye.prepare(limit, move |_| {
            let (task, entry) = (ending.clone(), entry.clone());
            async move {
                task.end().await;
                entry.remove().await
            }
        });
        Self {
            name: R::NAME,
            goodbye,
            task,
        }
    }
}

struct Entry<R> {
    registry: R,
    limit: Duration,
    /// Whether a registration was attempted, so that the entry may exist.
    attempted: AtomicBool,
}

impl<R: Registry> Entry<R> {
    /// Registers and renews the entry until `stop` is cancelled. Registers again when a renewal has
    /// failed.
    async fn renew_until(&self, stop: &CancellationToken) {
        while self.register_until(stop).await {
            info!(registry = R::NAME, "registered");
            let pause = self.registry.time_to_live() / 3;
            loop {
                if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                    return;
                }
                if let Err(error) = self.bounded(self.registry.renew()).await {
                    warn!(registry = R::NAME, %error, "the registration was lost");
                    break;
                }
            }
        }
    }

    /// Tries to register until it succeeds. Returns false if `stop` was cancelled first.
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

    async fn remove(&self) -> Result<(), BoxError> {
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
        let sent = self.goodbye.send().await;
        self.task.end().await;
        sent
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
