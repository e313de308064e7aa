//! The part that servers of HTTP and of plain streams share: listeners, admission, and the end of accepting.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lifecycle_runtime::{Acceptor, BoxError, Component, Connections, Context, Gate, TaskGroup};

use crate::Listener;
use crate::accept::{AcceptLoop, Serve};
use crate::throttle::Throttle;

/// The most connections, unless another limit is given.
const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(10_000).expect("it is not zero");

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The server has as many connections as it may have.
    Full,
    /// The server's `admit` said no.
    NotAdmitted,
}

/// The rules of admission, and the refusals.
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

/// The state of a server before it accepts.
pub(crate) struct Entrance {
    listeners: Vec<Listener>,
    most: NonZeroUsize,
    acceptor: Option<Acceptor>,
    until: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    policy: Policy,
}

impl Entrance {
    /// Refused clients are told what `refusal` returns.
    pub(crate) fn new(
        listeners: impl IntoIterator<Item = Listener>,
        refusal: impl Fn(Refusal) -> Bytes + Send + Sync + 'static,
    ) -> Self {
        Self {
            listeners: listeners.into_iter().collect(),
            most: CONNECTIONS,
            acceptor: None,
            until: None,
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

/// Accept loops that run, and the connections that they made, unless those belong to somebody else.
#[derive(Debug)]
pub(crate) struct Accepting {
    loops: TaskGroup,
    /// Once this is closed, no loop accepts any more.
    open: Gate,
    own: Option<Connections>,
    acceptor: Acceptor,
    addresses: Vec<SocketAddr>,
}

impl Accepting {
    /// Begins to accept. Connections of its own are told to close when they were idle for so long.
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
        // The group is open: only `close` closes it.
        for listener in entrance.listeners {
            let accept = AcceptLoop {
                acceptor: accepting.acceptor.clone(),
                service: service.clone(),
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

    /// Stops accepting. Waits for nobody.
    pub(crate) fn close(&self) {
        self.open.close();
        self.loops.close();
    }

    /// Stops accepting, and drains the connections that are its own.
    pub(crate) async fn cleanup(&self, cx: &Context) -> Result<(), BoxError> {
        self.close();
        // This takes no time: a loop ends when it is polled next.
        self.loops.drained().await;
        match &self.own {
            Some(own) => Component::cleanup(&mut &*own, cx).await,
            None => Ok(()),
        }
    }

    /// Whether the connections are its own.
    pub(crate) fn owns_connections(&self) -> bool {
        self.own.is_some()
    }

    /// Cuts the connections that are its own, and stops accepting, at once.
    pub(crate) fn cut(&self) {
        Component::abort(&mut &self.loops);
        if let Some(own) = &self.own {
            Component::abort(&mut &*own);
        }
    }
}
