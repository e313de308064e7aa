//! The builder of a server. It first creates the state that the parts share, and then the parts.
//! Each part gets everything that it needs in its constructor, so no part can stay unconnected.

mod load;
mod routes;
mod shared;
mod sockets;

use std::sync::Arc;
use std::time::Duration;

use lifecycle_proxy_discovery::Goodbyes;
use lifecycle_proxy_overload::load::Load;
use lifecycle_proxy_systemd::Notifier;
use lifecycle_runtime::{
    BoxError, GracefulShutdown as _, Readiness, ShutdownHandle, ShutdownState, Workers,
};
use tokio_util::sync::CancellationToken;

use super::ProxyServer;
use super::listeners::{Listeners, SharedOptions};
use crate::admin::{self, AdminServer};
use crate::config::{Config, Seconds};
use crate::inbound::server::limits_of;
use crate::inbound::sockets::{InheritedSockets, Listener, Listening};
use crate::restart::saved_state::SavedState;
use crate::routing::routes::Routes;
use crate::upstream::UpstreamPool;
use routes::{routes_of, upstream_of};
use shared::Shared;
use sockets::Sockets;

/// A builder of a [`ProxyServer`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `start`"]
pub struct Builder {
    config: Config,
    handle: ShutdownHandle,
    readiness: Readiness,
    goodbyes: Goodbyes,
    given: InheritedSockets,
    notifier: Option<Notifier>,
    has_workers: bool,
}

impl Builder {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            handle: ShutdownHandle::new(),
            readiness: Readiness::new(),
            goodbyes: Goodbyes::default(),
            given: InheritedSockets::default(),
            notifier: None,
            has_workers: false,
        }
    }

    /// Sets the handle that begins the shutdown and reports its progress. Without it, the server
    /// creates a handle of its own.
    pub fn handle(mut self, handle: &ShutdownHandle) -> Self {
        self.handle = handle.clone();
        self
    }

    /// Sets the readiness that `/readyz` reports. The caller sets the readiness to ready once the
    /// server serves.
    pub fn readiness(mut self, readiness: &Readiness) -> Self {
        self.readiness = readiness.clone();
        self
    }

    /// Sets the goodbyes of service discovery, so that the caller can send them before the
    /// shutdown.
    pub fn goodbyes(mut self, goodbyes: &Goodbyes) -> Self {
        self.goodbyes = goodbyes.clone();
        self
    }

    /// Sets inherited sockets. The server listens on the sockets that match a configured address.
    pub fn sockets(mut self, given: InheritedSockets) -> Self {
        self.given = given;
        self
    }

    /// Sets the service manager to notify, if there is one.
    pub fn manager(mut self, notifier: Option<Notifier>) -> Self {
        self.notifier = notifier;
        self
    }

    /// Serves clients on [`Config::worker_threads`] threads, each with a runtime of its own. Without
    /// it, clients are served on the runtime in which the server starts.
    pub fn workers(mut self) -> Self {
        self.has_workers = true;
        self
    }

    /// Binds the addresses and starts to serve.
    ///
    /// # Errors
    ///
    /// When an address cannot be bound, a file (the traffic tape, the saved state) cannot be opened,
    /// or a thread cannot be started. Nothing is left running then.
    pub async fn start(mut self) -> Result<ProxyServer, BoxError> {
        let config = self.config;
        let listening = Listening::default();
        let sockets = Sockets::open(&config, &listening, &mut self.given).await?;
        let (upstream, embedded) = upstream_of(&config, limits_of(&config.timeouts)).await?;
        let each = if embedded.is_some() { 3 } else { 2 };
        let threads = self.has_workers.then_some(config.worker_threads);
        let workers = threads.map(Workers::start).transpose()?;
        let runtimes: Vec<_> = workers.iter().flat_map(Workers::handles).cloned().collect();
        let shared = Shared::new(
            config,
            self.handle,
            self.readiness,
            (listening, each),
            runtimes,
        );

        let token = CancellationToken::new();
        let recorder = shared.recorder().await?;
        let (pool, client) = UpstreamPool::new(&shared.config.timeouts);
        let (routes, owned) = routes_of(&shared, upstream, &client);
        let restored = SavedState::load(&shared.config.state).await?;
        let peers = restored.as_ref().map(|restored| restored.resume(&routes));
        let streams = shared.streams();
        let metrics = shared.metrics(&recorder, &routes, &streams);
        let forward = shared.forward(client, &routes, &streams, (&metrics, &recorder));
        let address = sockets.first();
        let discovery = shared.discovery(address, sockets.peers, peers, &self.goodbyes);
        let saved_state = restored.map(|state| shared.state_saver(state, &routes, &discovery));
        let options = SharedOptions {
            connections: &shared.connections,
            timeouts: &shared.config.timeouts,
            load: &shared.load,
            runtimes: &shared.runtimes,
            stop: token.child_token(),
            left: shared.listening.left(),
        };
        let accept = Listeners::open(
            &options,
            (sockets.http, forward),
            (sockets.tls, streams.passthrough),
        );
        if self.given.is_shared() {
            // Sets the readiness here, since the start cannot fail from here on. If this process
            // was started by another process, probes reach either of them on the shared address. So
            // this process must not report any more that it is starting.
            shared.readiness.set_ready();
        }
        let manager = self.notifier.map(|notifier| shared.manager(notifier));
        let (readiness, load) = (shared.readiness, shared.load);

        let mut server = ProxyServer {
            token,
            accept,
            connections: shared.connections,
            discovery,
            background: shared.background,
            feeds: owned.feeds,
            sticky: owned.sticky,
            recorder,
            stdio: owned.stdio,
            pool,
            embedded,
            metrics,
            saved_state,
            admin: None,
            manager,
            workers,
            audit: shared.config.audit.path.clone(),
            config: shared.config,
            sessions: shared.sessions,
            listening: shared.listening,
            handle: shared.handle,
            state: ShutdownState::new(),
        };
        // Created last, since the admin page shows the shutdown plan, which is complete only with
        // all parts.
        let admin = |listener| admin_of(&server, listener, (routes, load, readiness));
        server.admin = sockets.admin.map(admin);
        Ok(server)
    }
}

fn admin_of(
    server: &ProxyServer,
    listener: Listener,
    (routes, load, readiness): (Arc<Routes>, Arc<Load>, Readiness),
) -> AdminServer {
    let config = &server.config;
    let sources = admin::Sources {
        metrics: server.metrics.clone(),
        connections: server.connections.acceptor(),
        routes,
        load,
        readiness,
        handle: server.handle.clone(),
        plan: server.plan(),
        lame_duck: config.lame_duck.map_or(Duration::ZERO, Seconds::duration),
        actions: config.admin.secret.is_some(),
    };
    let limits = limits_of(&config.timeouts);
    let listening = server.listening.clone();
    AdminServer::start(listener, limits, &config.admin, sources, listening)
}
