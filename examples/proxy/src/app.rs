//! The proxy server: its parts, and the shutdown step of each part.

mod builder;
pub mod embedded;
mod listeners;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lifecycle_http::HttpServer;
use lifecycle_proxy_common::Used;
use lifecycle_proxy_discovery::{Discovery, Peer, PeerTable};
use lifecycle_proxy_feeds::Feed;
use lifecycle_proxy_feeds::source::State;
use lifecycle_proxy_programs::StdioPool;
use lifecycle_proxy_records::audit;
use lifecycle_proxy_records::tape::TapeRecorder;
use lifecycle_proxy_sessions::{SessionCount, Sessions};
use lifecycle_proxy_systemd::Manager;
use lifecycle_runtime::{
    BoxError, ConnectionStats, Connections, GracefulShutdown, Report, ShutdownError,
    ShutdownHandle, ShutdownState, TaskGroup, Workers,
};
use tokio_util::sync::CancellationToken;

use crate::VERSION;
use crate::admin::AdminServer;
use crate::config::{Config, LONGEST_SHUTDOWN};
use crate::inbound::sockets::Listening;
use crate::metrics::Metrics;
use crate::restart::saved_state::StateSaver;
use crate::restart::{Outcome, Requests, Restarts};
use crate::routing::sticky::Affinity;
use crate::upstream::UpstreamPool;

pub use builder::Builder;
use listeners::Listeners;

/// A running reverse proxy.
///
/// Most shutdown steps get a share of `shutdown_timeout`. So most of the time is left for the
/// client connections, however short the timeout is.
#[derive(Debug, GracefulShutdown)]
#[shutdown(
    strict,
    timeout = self.config.shutdown_timeout.duration(),
    at_most = const { LONGEST_SHUTDOWN }
)]
pub struct ProxyServer {
    /// The token that stops the accepting servers. The shutdown cancels it first.
    #[shutdown(priority = 0, timeout = self.config.share(1), at_most = "100ms")]
    token: CancellationToken,
    /// The accepting servers. The shutdown closes their listening sockets.
    #[shutdown(priority = 10, timeout = self.config.share(4), at_most = "1s")]
    accept: Listeners,
    /// The client connections. The shutdown drains them within the time that the later steps do not
    /// need.
    #[shutdown(priority = 20, best_effort)]
    connections: Connections,
    /// Service discovery. The shutdown sends the goodbyes, unless they were sent during the lame
    /// duck.
    #[shutdown(priority = 20, best_effort, timeout = self.config.share(15), at_most = "5s")]
    discovery: Discovery,
    /// The background tasks: health checks, load measurement, state saves, and the tape's writer.
    /// The shutdown stops them.
    #[shutdown(priority = 30, timeout = self.config.share(5), at_most = "1s")]
    background: TaskGroup,
    /// The feeds, by route. The shutdown closes their upstream connections, since no client listens
    /// any more.
    #[shutdown(priority = 30, timeout = self.config.share(5), at_most = "1s")]
    feeds: BTreeMap<String, Feed>,
    /// The affinities of clients to upstreams, by route. The shutdown forgets them.
    #[shutdown(priority = 30, timeout = self.config.share(5), at_most = "1s")]
    sticky: BTreeMap<String, Sessions<Affinity>>,
    /// The traffic tape. The shutdown writes the last exchanges to the disk.
    #[shutdown(
        priority = 40,
        timeout = self.config.share(10),
        at_most = "3s",
        with = TapeRecorder::flush
    )]
    recorder: Option<Arc<TapeRecorder>>,
    /// The pools of programs, by route. The shutdown ends the programs, since no request is in
    /// flight any more.
    #[shutdown(priority = 40, timeout = self.config.share(15), at_most = "5s")]
    stdio: BTreeMap<String, StdioPool>,
    /// The upstream connections. The shutdown closes them, since no request uses them any more.
    #[shutdown(after = recorder, timeout = self.config.share(5), at_most = "1s")]
    pool: UpstreamPool,
    /// The demo upstream, if it was started. The shutdown stops it.
    #[shutdown(priority = 50, best_effort, timeout = self.config.share(5), at_most = "1s")]
    embedded: Option<HttpServer>,
    /// The metrics. The shutdown saves the final numbers to `metrics.file`.
    #[shutdown(
        priority = 60,
        timeout = self.config.share(5),
        at_most = "2s",
        with = Metrics::persist
    )]
    metrics: Arc<Metrics>,
    /// The saver of the state. The shutdown saves the state that the next start restores.
    #[shutdown(priority = 60, timeout = self.config.share(5), at_most = "2s")]
    saved_state: Option<StateSaver>,
    /// The admin listener. It answers scrapers and probes until the shutdown stops it, in one of
    /// the last steps.
    #[shutdown(priority = 70, best_effort, timeout = self.config.share(5), at_most = "1s")]
    admin: Option<AdminServer>,
    /// The service manager. The shutdown stops the notifications to it.
    #[shutdown(priority = 80, timeout = self.config.share(1), at_most = "100ms")]
    manager: Option<Manager>,
    /// The threads that serve clients. The shutdown ends them last, since parts of all steps above
    /// may run there.
    #[shutdown(priority = 90, timeout = self.config.share(2), at_most = "1s")]
    workers: Option<Workers>,
    #[shutdown(skip)]
    config: Config,
    #[shutdown(skip)]
    sessions: SessionCount,
    /// The path of the audit trail, to which [`shutdown_gracefully`](Self::shutdown_gracefully)
    /// appends the report.
    #[shutdown(skip)]
    audit: Option<PathBuf>,
    #[shutdown(skip)]
    listening: Listening,
    #[shutdown(skip)]
    handle: ShutdownHandle,
    #[shutdown(state)]
    state: ShutdownState,
}

impl ProxyServer {
    /// Creates a builder for a server with this configuration.
    pub fn builder(config: Config) -> Builder {
        Builder::new(config)
    }

    /// Binds the configured addresses and starts to serve.
    ///
    /// # Errors
    ///
    /// When an address cannot be bound, or a file cannot be opened. Nothing is left running then.
    pub async fn start(config: Config) -> Result<Self, BoxError> {
        Self::builder(config).start().await
    }

    /// Returns the addresses that serve HTTP.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        self.accept.http()
    }

    /// Returns the addresses that serve TLS.
    #[must_use]
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        self.accept.tls()
    }

    /// Returns the current numbers of client connections.
    #[must_use]
    pub fn connections(&self) -> ConnectionStats {
        self.connections.stats()
    }

    /// Returns the route and the state of each feed.
    pub fn feeds(&self) -> impl Iterator<Item = (&str, State)> {
        let feeds = self.feeds.iter();
        feeds.map(|(route, feed)| (route.as_str(), feed.client().state()))
    }

    /// Returns the numbers of client sessions, summed over all routes.
    #[must_use]
    pub fn sessions(&self) -> Used {
        self.sessions.used()
    }

    /// Returns the number of clients that listen to feeds.
    #[must_use]
    pub fn listeners(&self) -> usize {
        let feeds = self.feeds.values();
        feeds
            .map(|feed| feed.client().counts().broadcast.listeners)
            .sum()
    }

    /// Returns the peers that are known now.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        let peers = self.discovery.peers();
        peers.as_ref().map(PeerTable::list).unwrap_or_default()
    }

    /// Returns whether requests go to the demo upstream.
    #[must_use]
    pub const fn is_demo(&self) -> bool {
        self.embedded.is_some()
    }

    /// Returns the handle that requests the shutdown and reports the shutdown's progress.
    ///
    /// The code that runs the server waits for [`requested`](ShutdownHandle::requested), then calls
    /// [`shutdown_gracefully`](Self::shutdown_gracefully).
    #[must_use]
    pub fn handle(&self) -> ShutdownHandle {
        self.handle.clone()
    }

    /// Replaces this process by a new process when a restart is requested. Returns once a new
    /// process has taken over or the shutdown is requested. A restart that fails is logged, and
    /// this process goes on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills a new process that has not taken over yet.
    pub async fn restart_on(&self, requests: &Requests) -> Outcome {
        let restarts = Restarts {
            handle: &self.handle,
            config: &self.config.restart,
            listening: &self.listening,
            connections: self.connections.acceptor(),
            saved_state: self.saved_state.as_ref(),
            manager: self.manager.as_ref(),
            discovery: &self.discovery,
        };
        restarts.handle_requests(requests).await
    }

    /// Shuts the server down within `timeout`. It is for programs that embed the server without a
    /// `Runner`. Appends the report to the audit trail, if one is configured.
    ///
    /// # Errors
    ///
    /// When a shutdown step was not completed. The error holds the report.
    ///
    /// # Cancel safety
    ///
    /// Safe: if the future is dropped, the next call resumes the shutdown.
    pub async fn shutdown_gracefully(
        &mut self,
        timeout: Duration,
    ) -> Result<Report, ShutdownError> {
        let report = self.shutdown().within(timeout).await;
        if let Some(path) = self.audit.take() {
            let copy = report.clone();
            let recorded =
                tokio::task::spawn_blocking(move || audit::record(&path, VERSION, &copy));
            // Ignores an error. The blocking task completes even if this future is dropped here.
            let _ = recorded.await;
        }
        report.into_result()
    }
}
