//! Makes a server: all that is shared once, then the parts, each with what it
//! needs in its constructor, so that none can stay unconnected.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lifecycle_runtime::{
    BoxError, Connections, GracefulShutdown as _, Readiness, ShutdownHandle, ShutdownState,
    TaskGroup,
};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::ProxyServer;
use crate::admin::{self, AdminServer};
use crate::app::embedded;
use crate::config::{self, Config, Health, PathPrefix, Seconds, Upstream};
use crate::discovery::{Discovery, Farewells};
use crate::forwarding::exchange::Accounting;
use crate::forwarding::forward::{Forward, Rules};
use crate::inbound::activity::Limits;
use crate::inbound::connections::Intake;
use crate::inbound::listener::{AcceptLoops, BindError};
use crate::inbound::side_server::SideServer;
use crate::inbound::sockets::{Given, Listener, Listening, Role};
use crate::metrics::{Metrics, Sources};
use crate::programs::sessions::{SessionCount, Sessions};
use crate::programs::stdio::StdioPool;
use crate::protection::breaker;
use crate::protection::descriptors;
use crate::protection::load::{Bounds, Counted, Each, Load, Used, measure};
use crate::restart::manager::{Manager, Notifier, View};
use crate::restart::saved_state::SavedState;
use crate::routing::group::Group;
use crate::routing::routes::{Route, Routes, Target, name_of};
use crate::routing::sticky::{Affinity, Sticky};
use crate::streams::feed::Feed;
use crate::streams::sni::Passthrough;
use crate::streams::websocket::{self, WebSocketOptions};
use crate::telemetry::recorder::{TapeError, TapeRecorder};
use crate::upstream::health;
use crate::upstream::{Client, UpstreamPool};

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
    pub async fn start(self) -> Result<ProxyServer, BoxError> {
        let Self {
            config,
            handle,
            readiness,
            farewells,
            mut given,
            notifier,
        } = self;
        let limits = Limits {
            hello: config.timeouts.client_hello.duration(),
            idle: config.timeouts.idle.duration(),
        };
        let listening = Listening::default();
        let sockets = Sockets::open(&config, &listening, &mut given).await?;
        let (upstream, embedded) = upstream_of(&config, limits).await?;

        let each = if embedded.is_some() { 3 } else { 2 };
        let most = descriptors::connections(config.max_connections, each);
        let connections = Connections::new(most);
        let background = TaskGroup::new();
        let sessions = SessionCount::default();
        let counted = counted(&connections, &sessions);
        let look = Box::new(move || measure(&counted));
        let load = Arc::new(Load::new(bounds_of(&config.limits), look));
        spawn(&background, "load", load.clone().watch());
        let recorder = recorder_of(&config, &background).await?;

        let (pool, client) = UpstreamPool::new(&config.timeouts);
        let (routes, owned) = routes_of(&config, upstream, &client, &background, &sessions);
        let saved_state = SavedState::recall(&config.state).await?;
        let known = saved_state.as_ref().map(|saved_state| {
            saved_state.resume(&routes);
            saved_state.peers()
        });
        let websocket = WebSocketOptions {
            ping: config.websocket.ping.duration(),
            open: websocket::Open::default(),
        };
        let passthrough = Passthrough::new(&config.tls.allow, &config.timeouts, load.clone());

        let sources = Sources {
            connections: Box::new({
                let acceptor = connections.acceptor();
                move || acceptor.stats()
            }),
            recorder: recorder.clone(),
            routes: routes.clone(),
            load: load.clone(),
            websockets: websocket.open.clone(),
            tls: passthrough.counts(),
            handle: handle.clone(),
        };
        let metrics = Arc::new(Metrics::new(sources, config.metrics.file.clone()));
        let rules = Rules {
            response_limit: config.timeouts.response.duration(),
            trust_forwarded: config.trust_forwarded,
            websocket,
            listening: listening.clone(),
        };
        let accounting = Accounting {
            metrics: metrics.clone(),
            recorder: recorder.clone(),
        };
        let forward = Forward::new(client, routes.clone(), load.clone(), rules, accounting);

        let discovery = match sockets.http.first().or(sockets.tls.first()) {
            Some(Listener { address, .. }) => {
                let known = known.unwrap_or_default();
                let peers = sockets.peers;
                Discovery::start(&config.discovery, *address, peers, known, &farewells)
            }
            None => Discovery::default(),
        };
        let saved_state = saved_state.map(|saved_state| {
            let saver = saved_state.of(routes.clone(), discovery.peers(), listening.left());
            let saving = saver.save_every(config.state.every.duration());
            spawn(&background, "state", saving);
            saver
        });

        let token = CancellationToken::new();
        let mut accept = AcceptLoops::new(token.child_token(), listening.left());
        let intake = Intake::new(connections.acceptor(), limits);
        let mut addresses = Vec::with_capacity(sockets.http.len());
        for Listener { socket, address } in sockets.http {
            info!(%address, "listening");
            addresses.push(address);
            accept.spawn(socket, intake.clone(), forward.clone());
        }
        let mut tls_addresses = Vec::with_capacity(sockets.tls.len());
        for Listener { socket, address } in sockets.tls {
            info!(%address, "listening for TLS");
            tls_addresses.push(address);
            accept.spawn(socket, intake.clone(), passthrough.clone());
        }
        if given.is_shared() {
            // Nothing can fail any more, and whoever probes the shared address must
            // not be told by one of the two that it is starting.
            readiness.set_ready();
        }
        let view = View {
            handle: handle.clone(),
            readiness: readiness.clone(),
            connections: Box::new({
                let acceptor = connections.acceptor();
                move || acceptor.stats()
            }),
            left: listening.left(),
        };
        let manager = notifier.map(|notifier| Manager::start(notifier, view));
        let parting = listening.clone().part_with(handle.clone());
        spawn(&background, "hand-over", parting);

        let mut server = ProxyServer {
            token,
            accept,
            connections,
            discovery,
            background,
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
            audit: config.audit.path.clone(),
            config,
            sessions,
            addresses,
            tls_addresses,
            listening,
            handle,
            state: ShutdownState::new(),
        };
        server.admin = sockets.admin.map(|listener| {
            let config = &server.config;
            let sources = admin::Sources {
                metrics: server.metrics.clone(),
                connections: server.connections.acceptor(),
                routes,
                load,
                readiness,
                handle: server.handle.clone(),
                // Known only now that all its parts are.
                plan: server.plan(),
                lame_duck: config.lame_duck.map_or(Duration::ZERO, Seconds::duration),
                actions: config.admin.secret.is_some(),
            };
            let listening = server.listening.clone();
            AdminServer::start(listener, limits, &config.admin, sources, listening)
        });
        Ok(server)
    }
}

/// All that is listened on.
struct Sockets {
    http: Vec<Listener>,
    tls: Vec<Listener>,
    admin: Option<Listener>,
    peers: Option<Listener<UdpSocket>>,
}

impl Sockets {
    async fn open(
        config: &Config,
        listening: &Listening,
        given: &mut Given,
    ) -> Result<Self, BindError> {
        let http = &config.listen_addrs;
        let tls = &config.tls.listen_addrs;
        // Whoever passes a socket for it wants it.
        let passed = given.has(Role::Admin).then(|| config.admin_place());
        let admin: Vec<_> = config.admin_address().or(passed).into_iter().collect();
        let peers = match &config.discovery.peers {
            Some(peers) => Some(listening.listen_to_peers(given, peers.listen).await?),
            None => None,
        };
        let mut admin = listening.listen(given, Role::Admin, &admin).await?;
        Ok(Self {
            http: listening.listen(given, Role::Http, http).await?,
            tls: listening.listen(given, Role::Tls, tls).await?,
            admin: admin.pop(),
            peers,
        })
    }
}

/// Where requests go that no route is for.
async fn upstream_of(
    config: &Config,
    limits: Limits,
) -> Result<(Option<Upstream>, Option<SideServer>), BindError> {
    if let Some(upstream) = &config.upstream {
        info!(%upstream, "passing requests on");
        return Ok((Some(upstream.clone()), None));
    }
    if !config.routes.is_empty() {
        return Ok((None, None));
    }
    let embedded = embedded::start(limits).await?;
    let upstream = Upstream::from(embedded.address());
    warn!(%upstream, "no upstream is configured: passing requests on to the built-in demo");
    Ok((Some(upstream), Some(embedded)))
}

/// What belongs to single routes, by their names.
#[derive(Default)]
struct Owned {
    stdio: BTreeMap<String, StdioPool>,
    feeds: BTreeMap<String, Feed>,
    sticky: BTreeMap<String, Sessions<Affinity>>,
}

/// The routes, with what they need and the health checks of their upstreams.
fn routes_of(
    config: &Config,
    upstream: Option<Upstream>,
    client: &Client,
    background: &TaskGroup,
    sessions: &SessionCount,
) -> (Arc<Routes>, Owned) {
    let settings = breaker::Settings {
        failures: config.breaker.failures.get(),
        open: config.breaker.open.duration(),
    };
    let mut owned = Owned::default();
    let mut routes = Vec::with_capacity(config.routes.len() + 1);
    for route in &config.routes {
        let name = name_of(route.host.as_ref(), &route.path);
        let target = match &route.target {
            config::Target::Upstreams(upstreams, health) => {
                let sticky = route.sticky.as_ref().map(|sticky| {
                    let (clients, sticky) = Sticky::new(sticky, &route.path, sessions);
                    owned.sticky.insert(name.clone(), clients);
                    sticky
                });
                let group = Arc::new(Group::new(upstreams, settings).with(sticky));
                info!(route = name, upstreams = %group, "passing requests on");
                watch(&group, health.as_ref(), client, background);
                Target::Http(group)
            }
            config::Target::Stdio(stdio) => {
                let (pool, program) = StdioPool::new(stdio, &config.timeouts, sessions);
                info!(route = name, %program, "passing requests on");
                owned.stdio.insert(name, pool);
                Target::Stdio(program)
            }
            config::Target::Feed(feed) => {
                let feed = Feed::start(feed, &config.timeouts, client.clone());
                let listening = feed.client();
                info!(route = name, feed = %listening, "listening to events");
                owned.feeds.insert(name, feed);
                Target::Feed(listening)
            }
        };
        routes.push(Route {
            host: route.host.clone(),
            path: route.path.clone(),
            target,
        });
    }
    routes.extend(upstream.map(|upstream| Route {
        host: None,
        path: PathPrefix::default(),
        target: Target::Http(Arc::new(Group::new(&[upstream], settings))),
    }));
    (Arc::new(Routes::new(routes)), owned)
}

fn watch(group: &Group, health: Option<&Health>, client: &Client, background: &TaskGroup) {
    let Some(health) = health else { return };
    for member in group.members() {
        let asked = health::watch(member.clone(), health.clone(), client.clone());
        spawn(background, format!("health of {}", member.upstream), asked);
    }
}

/// Has a task run that has no end of its own.
fn spawn(
    background: &TaskGroup,
    name: impl Into<Cow<'static, str>>,
    task: impl Future<Output = ()> + Send + 'static,
) {
    // It is refused only while the server shuts down, which it cannot before it is built.
    let _ = background.spawn_until_stop(name, task);
}

async fn recorder_of(
    config: &Config,
    background: &TaskGroup,
) -> Result<Option<Arc<TapeRecorder>>, TapeError> {
    let Some(recorder) = TapeRecorder::new(&config.recorder) else {
        return Ok(None);
    };
    recorder.open().await?;
    let recorder = Arc::new(recorder);
    let writer = recorder.clone();
    spawn(background, "recorder", async move { writer.run().await });
    Ok(Some(recorder))
}

fn bounds_of(limits: &config::Limits) -> Each<Bounds> {
    let bounds = |given: Option<config::Bounds>, unit: u64, default: Bounds| {
        given.map_or(default, |config::Bounds { soft, hard }| Bounds {
            soft: soft.saturating_mul(unit),
            hard: hard.saturating_mul(unit),
        })
    };
    let files = descriptors::allowed().map_or(Bounds::NONE, |most| Bounds {
        soft: most.saturating_mul(85) / 100,
        hard: most.saturating_mul(95) / 100,
    });
    [
        bounds(limits.open_files, 1, files),
        bounds(limits.memory_mib, 1 << 20, Bounds::NONE),
        bounds(limits.tasks, 1, Bounds::NONE),
        bounds(limits.connections, 1, Bounds::NONE),
        bounds(limits.sessions, 1, Bounds::NONE),
    ]
}

/// What the load is told of what others count.
fn counted(connections: &Connections, sessions: &SessionCount) -> Counted {
    let (acceptor, sessions) = (connections.acceptor(), sessions.clone());
    Counted {
        connections: Box::new(move || {
            let stats = acceptor.stats();
            Used {
                active: stats.active as u64,
                peak: stats.peak as u64,
            }
        }),
        sessions: Box::new(move || sessions.used()),
    }
}
