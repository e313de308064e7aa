//! Makes a server: all that is shared once, then the parts, each with what it
//! needs in its constructor, so that none can stay unconnected.

mod entrances;
mod load;
mod routes;
mod shared;
mod sockets;

use std::sync::Arc;
use std::time::Duration;

use lifecycle_runtime::{
    BoxError, GracefulShutdown as _, Readiness, ShutdownHandle, ShutdownState,
};
use tokio_util::sync::CancellationToken;

use super::ProxyServer;
use crate::admin::{self, AdminServer};
use crate::config::{Config, Seconds};
use crate::discovery::Farewells;
use crate::inbound::sockets::{Given, Listener, Listening};
use crate::protection::load::Load;
use crate::restart::manager::Notifier;
use crate::restart::saved_state::SavedState;
use crate::routing::routes::Routes;
use crate::upstream::UpstreamPool;
use entrances::Entrances;
use routes::{routes_of, upstream_of};
use shared::{Shared, limits_of};
use sockets::Sockets;

/// Builds a [`ProxyServer`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `start`"]
pub struct Builder {
    config: Config,
    handle: ShutdownHandle,
    readiness: Readiness,
    farewells: Farewells,
    given: Given,
    notifier: Option<Notifier>,
}

impl Builder {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            handle: ShutdownHandle::new(),
            readiness: Readiness::new(),
            farewells: Farewells::default(),
            given: Given::default(),
            notifier: None,
        }
    }

    /// Has this handle begin the shutdown and tell of it; without it the server
    /// has one of its own.
    pub fn handle(mut self, handle: &ShutdownHandle) -> Self {
        self.handle = handle.clone();
        self
    }

    /// What `/readyz` answers from. Whoever runs the server keeps it in step: it is
    /// starting until it is set ready.
    pub fn readiness(mut self, readiness: &Readiness) -> Self {
        self.readiness = readiness.clone();
        self
    }

    /// Lets whoever runs the server say its goodbyes before it shuts down.
    pub fn farewells(mut self, farewells: &Farewells) -> Self {
        self.farewells = farewells.clone();
        self
    }

    /// Listens on these sockets, where they are for what the configuration names.
    pub fn sockets(mut self, given: Given) -> Self {
        self.given = given;
        self
    }

    /// Tells the service manager how it is, if there is one.
    pub fn manager(mut self, notifier: Option<Notifier>) -> Self {
        self.notifier = notifier;
        self
    }

    /// Binds the addresses and begins to serve.
    ///
    /// # Errors
    ///
    /// When an address cannot be listened on, or the tape cannot be written. Nothing is
    /// left running then.
    pub async fn start(mut self) -> Result<ProxyServer, BoxError> {
        let config = self.config;
        let listening = Listening::default();
        let sockets = Sockets::open(&config, &listening, &mut self.given).await?;
        let (upstream, embedded) = upstream_of(&config, limits_of(&config.timeouts)).await?;
        let each = if embedded.is_some() { 3 } else { 2 };
        let shared = Shared::new(config, self.handle, self.readiness, listening, each);

        let token = CancellationToken::new();
        let recorder = shared.recorder().await?;
        let (pool, client) = UpstreamPool::new(&shared.config.timeouts);
        let (routes, owned) = routes_of(&shared, upstream, &client);
        let restored = SavedState::recall(&shared.config.state).await?;
        let peers = restored.as_ref().map(|restored| restored.resume(&routes));
        let streams = shared.streams();
        let metrics = shared.metrics(&recorder, &routes, &streams);
        let forward = shared.forward(client, &routes, &streams, (&metrics, &recorder));
        let address = sockets.first();
        let discovery = shared.discovery(address, sockets.peers, peers, &self.farewells);
        let saved_state = restored.map(|state| shared.state_saver(state, &routes, &discovery));
        let entrances = Entrances::open(
            &shared,
            token.child_token(),
            (sockets.http, &forward),
            (sockets.tls, &streams.passthrough),
        );
        if self.given.is_shared() {
            // Nothing can fail any more, and whoever probes the shared address must
            // not be told by one of the two that it is starting.
            shared.readiness.set_ready();
        }
        let manager = self.notifier.map(|notifier| shared.manager(notifier));
        let (readiness, load) = (shared.readiness, shared.load);

        let mut server = ProxyServer {
            token,
            accept: entrances.accept,
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
            audit: shared.config.audit.path.clone(),
            config: shared.config,
            sessions: shared.sessions,
            addresses: entrances.addresses,
            tls_addresses: entrances.tls_addresses,
            listening: shared.listening,
            handle: shared.handle,
            state: ShutdownState::new(),
        };
        // Last, as the plan that it shows is known only now that all parts are.
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
