//! The server: its parts, how they are built, and how each is shut down.

use std::net::SocketAddr;
use std::sync::Arc;

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::activity::Limits;
use crate::config::{Config, LONGEST_SHUTDOWN, Upstream};
use crate::connections::Connections;
use crate::descriptors;
use crate::embedded;
use crate::exchange::Books;
use crate::forward::{Forward, Route};
use crate::listener::{self, AcceptLoops, BindError};
use crate::metrics::Metrics;
use crate::metrics_server::MetricsServer;
use crate::recorder::TapeRecorder;
use crate::side::SideServer;
use crate::upstream::UpstreamPool;

/// A running reverse proxy.
///
/// How long a step may take depends on how long the shutdown may: each has a
/// share of it, so that most is left for the connections however short it is.
#[derive(Debug, GracefulShutdown)]
#[shutdown(
    strict,
    timeout = self.config.shutdown_timeout.duration(),
    at_most = const { LONGEST_SHUTDOWN }
)]
pub struct ProxyServer {
    /// Tells everyone.
    #[shutdown(priority = 0, timeout = self.config.share(1), at_most = "100ms")]
    token: CancellationToken,
    /// Closes the listening sockets.
    #[shutdown(priority = 10, timeout = self.config.share(4), at_most = "1s")]
    accept: AcceptLoops,
    /// Drains: takes what the later steps leave of the time.
    #[shutdown(priority = 20, best_effort)]
    connections: Arc<Connections>,
    /// Ends what nobody waits for any more.
    #[shutdown(priority = 30, timeout = self.config.share(5), at_most = "1s")]
    background: JoinSet<()>,
    /// Puts the last exchanges on the disk.
    #[shutdown(
        priority = 40,
        timeout = self.config.share(10),
        at_most = "3s",
        with = TapeRecorder::flush
    )]
    recorder: Option<Arc<TapeRecorder>>,
    /// Closes the upstream connections, which nobody uses now.
    #[shutdown(after = recorder, timeout = self.config.share(5), at_most = "1s")]
    pool: UpstreamPool,
    /// Has answered all there was to answer.
    #[shutdown(priority = 50, timeout = self.config.share(5), at_most = "1s")]
    embedded: Option<SideServer>,
    /// Saves the final numbers.
    #[shutdown(
        priority = 60,
        timeout = self.config.share(5),
        at_most = "2s",
        with = Metrics::persist
    )]
    metrics: Arc<Metrics>,
    /// Can be asked for them until then.
    #[shutdown(priority = 70, timeout = self.config.share(5), at_most = "1s")]
    metrics_server: Option<MetricsServer>,
    #[shutdown(skip)]
    config: Config,
    #[shutdown(skip)]
    addresses: Vec<SocketAddr>,
    #[shutdown(state)]
    state: ShutdownState,
}

impl ProxyServer {
    /// Binds the addresses and begins to serve.
    ///
    /// # Errors
    ///
    /// When an address cannot be listened on. Nothing is left running then.
    pub async fn start(config: Config) -> Result<Self, BindError> {
        let limits = Limits {
            hello: config.timeouts.client_hello.duration(),
            idle: config.timeouts.idle.duration(),
        };
        let listeners = bind_all(&config.listen_addrs).await?;
        let (upstream, embedded) = upstream_of(&config, limits).await?;

        let each = if embedded.is_some() { 3 } else { 2 };
        let most = descriptors::connections(config.max_connections, each);
        let connections = Arc::new(Connections::new(most, limits));
        let mut background = JoinSet::new();
        let recorder = recorder_of(&config, &mut background);
        let metrics = Arc::new(Metrics::new(
            connections.counter(),
            recorder.clone(),
            config.metrics.file.clone(),
        ));
        let metrics_server = metrics_server_of(&config, limits, &metrics).await?;

        let (pool, client) = UpstreamPool::new(&config.timeouts);
        let route = Route {
            upstream,
            response_limit: config.timeouts.response.duration(),
            trust_forwarded: config.trust_forwarded,
        };
        let books = Books {
            metrics: metrics.clone(),
            recorder: recorder.clone(),
        };
        let forward = Forward::new(client, route, books);

        let token = CancellationToken::new();
        let mut accept = AcceptLoops::new(token.child_token());
        let mut addresses = Vec::with_capacity(listeners.len());
        for (listener, address) in listeners {
            info!(%address, "listening");
            addresses.push(address);
            accept.spawn(listener, connections.clone(), forward.clone());
        }

        Ok(Self {
            token,
            accept,
            connections,
            background,
            recorder,
            pool,
            embedded,
            metrics,
            metrics_server,
            config,
            addresses,
            state: ShutdownState::new(),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether requests go to the demo upstream.
    #[must_use]
    pub const fn is_demo(&self) -> bool {
        self.embedded.is_some()
    }
}

async fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<(TcpListener, SocketAddr)>, BindError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        listeners.push(listener::bind(*address).await?);
    }
    Ok(listeners)
}

async fn upstream_of(
    config: &Config,
    limits: Limits,
) -> Result<(Upstream, Option<SideServer>), BindError> {
    if let Some(upstream) = &config.upstream {
        info!(%upstream, "passing requests on");
        return Ok((upstream.clone(), None));
    }
    let embedded = embedded::start(limits).await?;
    let upstream = Upstream::from(embedded.address());
    warn!(%upstream, "no upstream is configured: passing requests on to the built-in demo");
    Ok((upstream, Some(embedded)))
}

fn recorder_of(config: &Config, background: &mut JoinSet<()>) -> Option<Arc<TapeRecorder>> {
    let path = config.recorder.path.clone()?;
    let recorder = Arc::new(TapeRecorder::new(path, config.recorder.queue));
    let writer = recorder.clone();
    background.spawn(async move { writer.run().await });
    Some(recorder)
}

async fn metrics_server_of(
    config: &Config,
    limits: Limits,
    metrics: &Arc<Metrics>,
) -> Result<Option<MetricsServer>, BindError> {
    if !config.metrics.enabled {
        return Ok(None);
    }
    let address = config.metrics.address;
    let server = MetricsServer::start(address, limits, metrics.clone()).await?;
    Ok(Some(server))
}
