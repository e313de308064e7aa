//! The part that HTTP servers and stream servers share: the listeners, the admission of connections, and the end of
//! accepting.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lifecycle_runtime::{Acceptor, BoxError, Component, Connections, Context, Gate, TaskGroup};
use tokio::runtime::Handle;

use crate::Listener;
use crate::accept::{AcceptLoop, Serve};
use crate::throttle::Throttle;

/// The limit on the number of connections, unless the builder sets another one.
const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(10_000).expect("it is not zero");

/// The reason why a server refuses a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The server has as many connections as it may have.
    Full,
    /// The server's `admit` returned `false`.
    NotAdmitted,
}

/// The rules by which connections are admitted, and the bytes that refused clients are sent.
pub(crate) struct Policy {
    admit: Option<Box<dyn Fn() -> bool + Send + Sync>>,
    refusal: Box<dyn Fn(Refusal) -> Bytes + Send + Sync>,
    pub(crate) refusals: Throttle,
    pub(crate) failures: Throttle,
}

impl Policy {
    pub(crate) fn admits(&self) -> bool {
        self.admit.as_ref().is_none_or(|admit| admit())
    }

    pub(crate) fn refusal(&self, why: Refusal) -> Bytes {
        (self.refusal)(why)
    }
}

/// The settings of a server that listens and does not accept yet.
pub(crate) struct Entrance {
    listeners: Vec<Listener>,
    most: NonZeroUsize,
    acceptor: Option<Acceptor>,
    until: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    runtimes: Runtimes,
    policy: Policy,
}

/// The runtimes that connections are served on. If there is none, they are served where they are accepted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runtimes(Arc<[Handle]>);

impl Runtimes {
    /// Returns the runtime with the fewest tasks.
    pub(crate) fn least_busy(&self) -> Option<&Handle> {
        let tasks = |runtime: &&Handle| runtime.metrics().num_alive_tasks();
        self.0.iter().min_by_key(tasks)
    }
}

impl Entrance {
    /// Creates the settings for `listeners`. Refused clients are sent the bytes that `refusal` returns.
    pub(crate) fn new(
        listeners: impl IntoIterator<Item = Listener>,
        refusal: impl Fn(Refusal) -> Bytes + Send + Sync + 'static,
    ) -> Self {
        Self {
            listeners: listeners.into_iter().collect(),
            most: CONNECTIONS,
            acceptor: None,
            until: None,
            runtimes: Runtimes::default(),
            policy: Policy {
                admit: None,
                refusal: Box::new(refusal),
                refusals: Throttle::default(),
                failures: Throttle::default(),
            },
        }
    }

    pub(crate) fn connections(&mut self, most: NonZeroUsize) {
        self.most = most;
    }

    pub(crate) fn acceptor(&mut self, acceptor: Acceptor) {
        self.acceptor = Some(acceptor);
    }

    pub(crate) fn admit(&mut self, admit: impl Fn() -> bool + Send + Sync + 'static) {
        self.policy.admit = Some(Box::new(admit));
    }

    pub(crate) fn refuse_with(
        &mut self,
        refusal: impl Fn(Refusal) -> Bytes + Send + Sync + 'static,
    ) {
        self.policy.refusal = Box::new(refusal);
    }

    pub(crate) fn runtimes(&mut self, runtimes: &[Handle]) {
        self.runtimes = Runtimes(runtimes.into());
    }

    pub(crate) fn accept_until(&mut self, end: impl Future<Output = ()> + Send + 'static) {
        self.until = Some(Box::pin(end));
    }
}

impl fmt::Debug for Entrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entrance")
            .field("listeners", &self.listeners)
            .field("connections", &self.most)
            .finish_non_exhaustive()
    }
}

/// The running accept loops of a server, and the connections that they spawned, unless those belong to somebody else.
#[derive(Debug)]
pub(crate) struct Accepting {
    loops: TaskGroup,
    /// The gate that ends all accept loops when it is closed.
    open: Gate,
    own: Option<Connections>,
    acceptor: Acceptor,
    addresses: Vec<SocketAddr>,
}

impl Accepting {
    /// Begins to accept. If the connections are the server's own, each is told to close once it was idle for `idle`.
    pub(crate) fn start<S: Serve>(entrance: Entrance, idle: Option<Duration>, service: S) -> Self {
        let (own, acceptor) = match entrance.acceptor {
            Some(acceptor) => (None, acceptor),
            None => {
                let own = match idle {
                    Some(idle) => Connections::with_idle_timeout(entrance.most, idle),
                    None => Connections::new(entrance.most),
                };
                let acceptor = own.acceptor();
                (Some(own), acceptor)
            }
        };
        let accepting = Self {
            loops: TaskGroup::new(),
            open: Gate::new(),
            own,
            acceptor,
            addresses: entrance
                .listeners
                .iter()
                .filter_map(Listener::local_addr)
                .collect(),
        };
        let policy = Arc::new(entrance.policy);
        // `spawn` cannot fail here, because only `close` closes the task group.
        for listener in entrance.listeners {
            let accept = AcceptLoop {
                acceptor: accepting.acceptor.clone(),
                service: service.clone(),
                runtimes: entrance.runtimes.clone(),
                policy: Arc::clone(&policy),
                open: accepting.open.clone(),
            };
            let _ = accepting.loops.spawn("accept", accept.run(listener));
        }
        if let Some(until) = entrance.until {
            let open = accepting.open.clone();
            let _ = accepting
                .loops
                .spawn_until_stop("accept until", async move {
                    until.await;
                    open.close();
                });
        }
        accepting
    }

    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(crate) fn acceptor(&self) -> &Acceptor {
        &self.acceptor
    }

    /// Stops accepting, and returns at once.
    pub(crate) fn close(&self) {
        self.open.close();
        self.loops.close();
    }

    /// Stops accepting. Then drains the connections if they are the server's own.
    pub(crate) async fn cleanup(&self, cx: &Context) -> Result<(), BoxError> {
        self.close();
        // This wait is short, because a loop ends when it is polled next.
        self.loops.drained().await;
        match &self.own {
            Some(own) => Component::cleanup(&mut &*own, cx).await,
            None => Ok(()),
        }
    }

    /// Returns whether the connections are the server's own.
    pub(crate) fn owns_connections(&self) -> bool {
        self.own.is_some()
    }

    /// Stops accepting, and cuts the connections if they are the server's own, at once.
    pub(crate) fn cut(&self) {
        Component::abort(&mut &self.loops);
        if let Some(own) = &self.own {
            Component::abort(&mut &*own);
        }
    }
}
