//! The server: its parts, and how each is shut down.

mod builder;
pub mod embedded;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lifecycle_runtime::{
    BoxError, ConnectionStats, Connections, GracefulShutdown, Report, ShutdownError,
    ShutdownHandle, ShutdownState, TaskGroup,
};
use tokio_util::sync::CancellationToken;

use crate::admin::AdminServer;
use crate::config::{Config, LONGEST_SHUTDOWN};
use crate::discovery::{Discovery, Peer, PeerTable};
use crate::inbound::listener::AcceptLoops;
use crate::inbound::side_server::SideServer;
use crate::inbound::sockets::Listening;
use crate::metrics::Metrics;
use crate::programs::sessions::{SessionCount, Sessions};
use crate::programs::stdio::StdioPool;
use crate::protection::load::Used;
use crate::restart::manager::Manager;
use crate::restart::saved_state::StateSaver;
use crate::restart::{Outcome, Requests, Restarts};
use crate::routing::sticky::Affinity;
use crate::streams::feed::Feed;
use crate::streams::feed::source::State;
use crate::telemetry::audit;
use crate::telemetry::recorder::TapeRecorder;
use crate::upstream::UpstreamPool;

pub use builder::Builder;

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
    connections: Connections,
    /// Says goodbye to those who send work, where no lame duck has done it.
    #[shutdown(priority = 20, best_effort, timeout = self.config.share(15), at_most = "5s")]
    discovery: Discovery,
    /// Ends what nobody waits for any more.
    #[shutdown(priority = 30, timeout = self.config.share(5), at_most = "1s")]
    background: TaskGroup,
    /// Hangs up on those whose events nobody hears any more.
    #[shutdown(priority = 30, timeout = self.config.share(5), at_most = "1s")]
    feeds: BTreeMap<String, Feed>,
    /// Forgets which clients belong to which upstream.
    #[shutdown(priority = 30, timeout = self.config.share(5), at_most = "1s")]
    sticky: BTreeMap<String, Sessions<Affinity>>,
    /// Puts the last exchanges on the disk.
    #[shutdown(
        priority = 40,
        timeout = self.config.share(10),
        at_most = "3s",
        with = TapeRecorder::flush
    )]
    recorder: Option<Arc<TapeRecorder>>,
    /// Sees the programs out, which nobody asks any more.
    #[shutdown(priority = 40, timeout = self.config.share(15), at_most = "5s")]
    stdio: BTreeMap<String, StdioPool>,
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
    /// Saves what the next start should know.
    #[shutdown(priority = 60, timeout = self.config.share(5), at_most = "2s")]
    saved_state: Option<StateSaver>,
    /// Answers scrapers and probes until then.
    #[shutdown(priority = 70, timeout = self.config.share(5), at_most = "1s")]
    admin: Option<AdminServer>,
    /// Has told the service manager how far all this is.
    #[shutdown(priority = 80, timeout = self.config.share(1), at_most = "100ms")]
    manager: Option<Manager>,
    #[shutdown(skip)]
    config: Config,
    #[shutdown(skip)]
    sessions: SessionCount,
    #[shutdown(skip)]
    addresses: Vec<SocketAddr>,
    #[shutdown(skip)]
    tls_addresses: Vec<SocketAddr>,
    /// Where the report goes that nobody else adds.
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
    /// Begins to build a server.
    pub fn builder(config: Config) -> Builder {
        Builder::new(config)
    }

    /// Binds the addresses and begins to serve.
    ///
    /// # Errors
    ///
    /// When an address cannot be listened on. Nothing is left running then.
    pub async fn start(config: Config) -> Result<Self, BoxError> {
        Self::builder(config).start().await
    }

    /// Where it listens for HTTP.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where it listens for TLS.
    #[must_use]
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        &self.tls_addresses
    }

    /// Numbers about its connections.
    #[must_use]
    pub fn connections(&self) -> ConnectionStats {
        self.connections.stats()
    }

    /// The feeds by their routes, and where each stands.
    pub fn feeds(&self) -> impl Iterator<Item = (&str, State)> {
        let feeds = self.feeds.iter();
        feeds.map(|(route, feed)| (route.as_str(), feed.client().state()))
    }

    /// How many clients have a session, of all routes together.
    #[must_use]
    pub fn sessions(&self) -> Used {
        self.sessions.used()
    }

    /// How many clients listen to feeds.
    #[must_use]
    pub fn listeners(&self) -> usize {
        let feeds = self.feeds.values();
        feeds.map(|feed| feed.client().counts().hub.listeners).sum()
    }

    /// What it knows of its peers.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        let peers = self.discovery.peers();
        peers.as_ref().map(PeerTable::list).unwrap_or_default()
    }

    /// Whether requests go to the demo upstream.
    #[must_use]
    pub const fn is_demo(&self) -> bool {
        self.embedded.is_some()
    }

    /// Asks for the shutdown, from anywhere, and tells of it. Whoever runs the
    /// server waits for [`requested`](ShutdownHandle::requested), then calls
    /// [`shutdown_gracefully`](Self::shutdown_gracefully).
    #[must_use]
    pub fn handle(&self) -> ShutdownHandle {
        self.handle.clone()
    }

    /// Replaces this process by a new one whenever that is requested, until the
    /// shutdown is asked for, or a new one has taken over.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it kills a new process that has not taken over yet.
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
        restarts.on(requests).await
    }

    /// Shuts the server down within `timeout`, for those who embed it and run it
    /// themselves. The report goes into the audit trail, if there is one.
    ///
    /// # Errors
    ///
    /// When a step was not done; the error has the report.
    ///
    /// # Cancel safety
    ///
    /// Safe: called again it goes on where it was dropped.
    pub async fn shutdown_gracefully(
        &mut self,
        timeout: Duration,
    ) -> Result<Report, ShutdownError> {
        let report = self.shutdown().within(timeout).await;
        if let Some(path) = self.audit.take() {
            let told = report.clone();
            let recorded = tokio::task::spawn_blocking(move || audit::record(&path, &told));
            // It ends also where nobody waits for it.
            let _ = recorded.await;
        }
        report.into_result()
    }
}
