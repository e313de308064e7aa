//! State that several parts of the server share, and the parts that are created from it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use lifecycle_proxy_discovery::{Discovery, Goodbyes, Peer};
use lifecycle_proxy_overload::descriptors::{self, Need};
use lifecycle_proxy_overload::load::{Load, measure};
use lifecycle_proxy_passthrough::{Passthrough, Times};
use lifecycle_proxy_records::tape::{TapeError, TapeRecorder};
use lifecycle_proxy_sessions::SessionCount;
use lifecycle_proxy_systemd::{Manager, Notifier, View};
use lifecycle_runtime::{
    Acceptor, ConnectionStats, Connections, Readiness, ShutdownHandle, TaskGroup,
};
use tokio::net::UdpSocket;
use tokio::runtime::Handle;

use super::load::{bounds_of, counted};
use crate::config::Config;
use crate::forwarding::forward::{Accounting, Forward, Rules};
use crate::inbound::sockets::{Listener, Listening};
use crate::metrics::{Metrics, Sources};
use crate::restart::saved_state::{SavedState, StateSaver};
use crate::routing::routes::Routes;
use crate::streams::websocket::{self, WebSocketOptions};
use crate::upstream::Client;

/// The state that is created before the parts. The parts take clones of it.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) handle: ShutdownHandle,
    pub(super) readiness: Readiness,
    pub(super) listening: Listening,
    pub(super) connections: Connections,
    pub(super) background: TaskGroup,
    pub(super) sessions: SessionCount,
    pub(super) load: Arc<Load>,
    /// The runtimes that serve clients, if they are not served on the current one.
    pub(super) runtimes: Vec<Handle>,
}

/// The handlers of WebSocket connections and TLS connections.
pub(super) struct Streams {
    pub(super) websocket: WebSocketOptions,
    pub(super) passthrough: Passthrough,
}

impl Shared {
    /// Creates the state, and starts to watch the load. Each client connection needs `sockets` file
    /// descriptors, so the limit of open files bounds the number of connections.
    pub(super) fn new(
        config: Config,
        handle: ShutdownHandle,
        readiness: Readiness,
        (listening, sockets): (Listening, u64),
        runtimes: Vec<Handle>,
    ) -> Self {
        let need = Need {
            each: sockets,
            runtimes: runtimes.len(),
        };
        let most = descriptors::connections(config.max_connections, need);
        let idle = config.timeouts.idle.duration();
        let connections = Connections::with_idle_timeout(most, idle);
        let background = TaskGroup::new();
        let sessions = SessionCount::default();
        let counted = counted(&runtimes, &connections, &sessions);
        let measure_now = Box::new(move || measure(&counted));
        let load = Arc::new(Load::new(bounds_of(&config.limits), measure_now));
        spawn(&background, "load", load.clone().watch());
        let parting = listening.clone().part_with(handle.clone());
        spawn(&background, "hand-over", parting);
        Self {
            config,
            handle,
            readiness,
            listening,
            connections,
            background,
            sessions,
            load,
            runtimes,
        }
    }

    /// Opens the traffic tape, if one is configured, and starts its writer.
    pub(super) async fn recorder(&self) -> Result<Option<Arc<TapeRecorder>>, TapeError> {
        let Some(recorder) = TapeRecorder::new(&self.config.recorder) else {
            return Ok(None);
        };
        recorder.open().await?;
        let recorder = Arc::new(recorder);
        let writer = recorder.clone();
        let writing = async move { writer.run().await };
        spawn(&self.background, "recorder", writing);
        Ok(Some(recorder))
    }

    pub(super) fn streams(&self) -> Streams {
        let Config { tls, timeouts, .. } = &self.config;
        let times = Times {
            connect: timeouts.connect.duration(),
            hello: timeouts.client_hello.duration(),
            idle: timeouts.idle.duration(),
        };
        Streams {
            websocket: WebSocketOptions {
                ping: self.config.websocket.ping.duration(),
                open: websocket::Open::default(),
            },
            passthrough: Passthrough::new(&tls.allow, times),
        }
    }

    pub(super) fn metrics(
        &self,
        recorder: &Option<Arc<TapeRecorder>>,
        routes: &Arc<Routes>,
        streams: &Streams,
    ) -> Arc<Metrics> {
        let sources = Sources {
            connections: Box::new(stats(self.connections.acceptor())),
            recorder: recorder.clone(),
            routes: routes.clone(),
            load: self.load.clone(),
            websockets: streams.websocket.open.clone(),
            tls: streams.passthrough.counts(),
            handle: self.handle.clone(),
        };
        Arc::new(Metrics::new(sources, self.config.metrics.file.clone()))
    }

    pub(super) fn forward(
        &self,
        client: Client,
        routes: &Arc<Routes>,
        streams: &Streams,
        (metrics, recorder): (&Arc<Metrics>, &Option<Arc<TapeRecorder>>),
    ) -> Forward {
        let accounting = Accounting {
            metrics: metrics.clone(),
            recorder: recorder.clone(),
        };
        let rules = Rules {
            response_limit: self.config.timeouts.response.duration(),
            trust_forwarded: self.config.trust_forwarded,
            websocket: streams.websocket.clone(),
            listening: self.listening.clone(),
        };
        let (routes, load) = (routes.clone(), self.load.clone());
        Forward::new(client, routes, load, rules, accounting)
    }

    /// Starts to announce this proxy at `address`, with `peers` as the known peers.
    pub(super) fn discovery(
        &self,
        address: Option<SocketAddr>,
        datagrams: Option<Listener<UdpSocket>>,
        peers: Option<Vec<Peer>>,
        goodbyes: &Goodbyes,
    ) -> Discovery {
        let Some(address) = address else {
            return Discovery::default();
        };
        let known = peers.unwrap_or_default();
        let socket = datagrams.map(|Listener { socket, address }| (socket, address));
        Discovery::start(&self.config.discovery, address, socket, known, goodbyes)
    }

    /// Starts a task that saves changes of the state. `restored` contains the file, and the state
    /// that the file had at the start.
    pub(super) fn state_saver(
        &self,
        restored: SavedState,
        routes: &Arc<Routes>,
        discovery: &Discovery,
    ) -> StateSaver {
        let saver = restored.into_saver(routes.clone(), discovery.peers(), self.listening.left());
        let saving = saver.save_every(self.config.state.every.duration());
        spawn(&self.background, "state", saving);
        saver
    }

    pub(super) fn manager(&self, notifier: Notifier) -> Manager {
        let view = View {
            handle: self.handle.clone(),
            readiness: self.readiness.clone(),
            connections: Box::new(stats(self.connections.acceptor())),
            left: self.listening.left(),
        };
        Manager::start(notifier, view)
    }
}

fn stats(acceptor: Acceptor) -> impl Fn() -> ConnectionStats {
    move || acceptor.stats()
}

/// Spawns a background task, which runs until the shutdown stops it.
pub(super) fn spawn(
    background: &TaskGroup,
    name: impl Into<Cow<'static, str>>,
    task: impl Future<Output = ()> + Send + 'static,
) {
    // Ignores the error: `spawn_until_stop` fails only during a shutdown, which cannot have begun
    // yet.
    let _ = background.spawn_until_stop(name, task);
}
