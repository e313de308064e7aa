//! Connections to the upstream: a pool of them, and their end.

use std::future::Future;
use std::time::Duration;

use hyper::rt::Executor;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioTimer;
use lifecycle_runtime::{BoxError, Component, Context};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::Upload;
use crate::config::Timeouts;

/// Sends requests over the pool's connections. A cheap clone.
pub type Client = legacy::Client<HttpConnector, Upload>;

/// Unused connections that are kept.
const MOST_IDLE: usize = 256;

/// The time a connection attempt gets before the next address is tried as well.
const HAPPY_EYEBALLS: Duration = Duration::from_millis(300);

/// The owner of the upstream connections.
///
/// The client has no close: its unused connections end when its last clone is
/// dropped. So the pool holds one, which its cleanup takes and drops, after all
/// who had others; then it waits until the connections are gone.
#[derive(Debug)]
pub struct UpstreamPool {
    client: Option<Client>,
    tasks: Tasks,
}

impl UpstreamPool {
    /// An empty pool, and the client that fills it.
    #[must_use]
    pub fn new(timeouts: &Timeouts) -> (Self, Client) {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(timeouts.connect.duration()));
        connector.set_happy_eyeballs_timeout(Some(HAPPY_EYEBALLS));
        let tasks = Tasks::default();
        let client = legacy::Client::builder(tasks.clone())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(timeouts.pool_idle.duration())
            .pool_max_idle_per_host(MOST_IDLE)
            .build(connector);
        let pool = Self {
            client: Some(client.clone()),
            tasks,
        };
        (pool, client)
    }
}

impl Component for UpstreamPool {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        drop(self.client.take());
        let Tasks { tracker, cut } = self.tasks.clone();
        tracker.close();
        let open = tracker.clone();
        cx.waiting_for(move || format!("{} tasks of upstream connections", open.len()));
        let deadline = Instant::from_std(cx.deadline());
        if timeout_at(deadline, tracker.wait()).await.is_ok() {
            return Ok(());
        }
        let left = tracker.len();
        cut.cancel();
        tracker.wait().await;
        Err(format!("{left} tasks of upstream connections cut at the deadline").into())
    }

    fn abort(&mut self) {
        self.release();
    }

    fn release(&mut self) {
        drop(self.client.take());
        self.tasks.cut.cancel();
    }
}

impl Drop for UpstreamPool {
    /// Who could have awaited the connections is gone.
    fn drop(&mut self) {
        self.tasks.cut.cancel();
    }
}

/// Runs what the client spawns, one task a connection, and keeps hold of it.
#[derive(Clone, Debug, Default)]
struct Tasks {
    tracker: TaskTracker,
    cut: CancellationToken,
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let cut = self.cut.clone();
        self.tracker
            .spawn(async move { cut.run_until_cancelled(task).await.map(drop) });
    }
}
