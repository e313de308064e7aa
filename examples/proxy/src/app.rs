//! The server: its parts, and how each of them is shut down.

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
    ShutdownHandle, ShutdownState, TaskGroup,
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
/// Most steps get a share of `shutdown_timeout`, so that most of the time is left for the
/// connections, however short the timeout is.
#[derive(Debug, GracefulShutdown)]
#[shutdown(
    strict,
    timeout = self.config.shutdown_timeout.duration(),
    at_most = const { LONGEST_SHUTDOWN }
)]
pub struct ProxyServer {
    /// Cancels the token that stops the accepting servers.
    #[shutdown(priority = 0, timeout = self.config.share(1), at_most = "100ms")]
    token: CancellationToken,
    /// Closes the listening sockets.
    #[shutdown(priority = 10, timeout = self.config.share(4), at_most = "1s")]
    accept: Listeners,
    /// Drains the client connections within the time that the later steps leave.
    #[shutdown(priority = 20, best_effort)]
    connections: Connections,
    /// Sends the goodbyes that no lame duck has sent.
    #[shutdown(priority = 20, best_effort, timeout = self.config.share(15), at_most = "5s")]
    discovery: Discovery,
    /// Stops the background tasks: health checks, load measurement, state saves, the tape's writer.
    #[shutdown(priority = 30, timeout = self.config.share(5), at_most = "1s")]
    background: TaskGroup,
    /// Closes the upstream connections of feeds, which have no listener any more.
    #[shutdown(priority = 30, timeout = self.config.share(5), at_most = "1s")]
    feeds: BTreeMap<String, Feed>,
    /// Forgets which client belongs to which upstream.
    #[shutdown(priority = 30, timeout = self.config.share(5), at_most = "1s")]
    sticky: BTreeMap<String, Sessions<Affinity>>,
    /// Writes the last exchanges to the disk.
    #[shutdown(
        priority = 40,
        timeout = self.config.share(10),
        at_most = "3s",
        with = TapeRecorder::flush
    )]
    recorder: Option<Arc<TapeRecorder>>,
    /// Stops the programs, which have no request in flight any more.
    #[shutdown(priority = 40, timeout = self.config.share(15), at_most = "5s")]
    stdio: BTreeMap<String, StdioPool>,
    /// Closes the upstream connections, which are all unused by now.
    #[shutdown(after = recorder, timeout = self.config.share(5), at_most = "1s")]
    pool: UpstreamPool,
    /// Stops the demo upstream, if there is one.
    #[shutdown(priority = 50, best_effort, timeout = self.config.share(5), at_most = "1s")]
    embedded: Option<HttpServer>,
    /// Saves the final numbers to `metrics.file`.
    #[shutdown(
        priority = 60,
        timeout = self.config.share(5),
        at_most = "2s",
        with = Metrics::persist
    )]
    metrics: Arc<Metrics>,
    /// Saves the state that the next start restores.
    #[shutdown(priority = 60, timeout = self.config.share(5), at_most = "2s")]
    saved_state: Option<StateSaver>,
    /// Stops the admin listener, which has answered scrapers and probes until now.
    #[shutdown(priority = 70, best_effort, timeout = self.config.share(5), at_most = "1s")]
    admin: Option<AdminServer>,
    /// Stops notifying the service manager.
    #[shutdown(priority = 80, timeout = self.config.share(1), at_most = "100ms")]
    manager: Option<Manager>,
    #[shutdown(skip)]
    config: Config,
    #[shutdown(skip)]
    sessions: SessionCount,
    /// The audit trail that [`shutdown_gracefully`](Self::shutdown_gracefully) appends the report
    /// to.
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

    /// Binds the addresses and starts to serve.
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

    /// Returns the numbers of client connections.
    #[must_use]
    pub fn connections(&self) -> ConnectionStats {
        self.connections.stats()
    }

    /// Returns each feed's route and state.
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

    /// Returns the known peers.
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

    /// Returns the handle that requests the shutdown and reports its progress.
    ///
    /// The code that runs the server waits for [`requested`](ShutdownHandle::requested), then calls
    /// [`shutdown_gracefully`](Self::shutdown_gracefully).
    #[must_use]
    pub fn handle(&self) -> ShutdownHandle {
        self.handle.clone()
    }

    /// Replaces this process by a new one at each request, until the shutdown is requested or a new
    /// process has taken over.
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

    /// Shuts the server down within `timeout`, for programs that embed it without a `Runner`.
    /// Appends the report to the audit trail, if there is one.
    ///
    /// # Errors
    ///
    /// When a step was not done; the error holds the report.
    ///
    /// # Cancel safety
    ///
    /// Safe: the next call resumes the shutdown.
    pub async fn shutdown_gracefully(
        &mut self,
        timeout: Duration,
    ) -> Result<Report, ShutdownError> {
        let report = self.shutdown().within(timeout).await;
        if let Some(path) = self.audit.take() {
            let copy = report.clone();
            let recorded =
                tokio::task::spawn_blocking(move || audit::record(&path, VERSION, &copy));
            // The blocking task completes even if this future is dropped here.
            let _ = recorded.await;
        }
        report.into_result()
    }
}
