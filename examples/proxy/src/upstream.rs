//! Connections to the upstream: a pool of them, and their end.

pub mod failure;
pub mod health;
pub mod kept;
pub mod member;

use std::future::Future;
use std::time::Duration;

use hyper::Request;
use hyper::rt::Executor;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, ResponseFuture};
use hyper_util::rt::TokioTimer;
use lifecycle_runtime::{GracefulShutdown, Spawner, TaskGroup};

use crate::config::{Timeouts, Upstream};
use crate::inbound::body::Upload;
use crate::protection::buffers;
use crate::upstream::kept::Connector;

/// Sends requests over the pool's connections. A cheap clone.
#[derive(Clone, Debug)]
pub struct Client {
    http1: legacy::Client<Connector, Upload>,
    http2: legacy::Client<Connector, Upload>,
}

impl Client {
    /// Sends a request to `upstream`, in the version of HTTP that it speaks.
    pub fn request(&self, upstream: &Upstream, request: Request<Upload>) -> ResponseFuture {
        let client = if upstream.is_http2() {
            &self.http2
        } else {
            &self.http1
        };
        client.request(request)
    }
}

/// Unused connections that are kept.
const MOST_IDLE: usize = 256;

/// The time a connection attempt gets before the next address is tried as well.
const HAPPY_EYEBALLS: Duration = Duration::from_millis(300);

/// A connection in HTTP/2 serves many requests, so whether it still works is
/// asked so often.
const PING: Duration = Duration::from_secs(20);

/// The owner of the upstream connections.
///
/// The client has no close: its unused connections end when its last clone is
/// dropped. So the pool holds one, which is dropped after all who had others; then
/// it is waited until the connections are gone.
#[derive(Debug, GracefulShutdown)]
#[shutdown(part, strict, timeout = "1s")]
pub struct UpstreamPool {
    #[shutdown(priority = 0, timeout = "50ms", take, with = drop)]
    client: Option<Client>,
    #[shutdown(priority = 10, timeout = "950ms")]
    connections: TaskGroup,
}

impl UpstreamPool {
    /// An empty pool, and the client that fills it.
    #[must_use]
    pub fn new(timeouts: &Timeouts) -> (Self, Client) {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(timeouts.connect.duration()));
        connector.set_happy_eyeballs_timeout(Some(HAPPY_EYEBALLS));
        let connector = Connector::new(connector);
        let connections = TaskGroup::new();
        let mut builder = legacy::Client::builder(Upstreams(connections.spawner()));
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(timeouts.pool_idle.duration())
            .pool_max_idle_per_host(MOST_IDLE);
        buffers::bound_client(&mut builder);
        let http1 = builder.build(connector.clone());
        let http2 = builder
            .http2_only(true)
            .http2_keep_alive_interval(PING)
            .build(connector);
        let client = Client { http1, http2 };
        let pool = Self {
            client: Some(client.clone()),
            connections,
        };
        (pool, client)
    }
}

/// Runs the tasks of upstream connections in a group.
#[derive(Clone, Debug)]
struct Upstreams(Spawner);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Upstreams {
    fn execute(&self, task: F) {
        // Refused when the pool is closed, after all who could ask.
        let _ = self.0.spawn("upstream", async { drop(task.await) });
    }
}
