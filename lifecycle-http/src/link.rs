//! The handle of a connection, which the requests of the connection share.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use lifecycle_runtime::{BoxError, CloseReason, Connection, Gate, Peer};
use tokio::time::Instant;

use crate::activity::Activity;
use crate::socket::SharedSocket;
use crate::upgrade::Upgrades;
use crate::{Limits, NotUpgradable, Room};

/// The connection that a request came by. The request's extensions contain it. It gives access to the [`Connection`],
/// for example to find out who the client is, or to wait until the connection should close.
///
/// ```
/// use lifecycle_http::{HttpConnection, RequestBody};
/// # fn with(request: http::Request<RequestBody>) -> Option<()> {
/// let connection = request.extensions().get::<HttpConnection>()?.clone();
/// let stop = async move { connection.cancelled().await };
/// # drop(stop); Some(())
/// # }
/// ```
#[derive(Clone)]
pub struct HttpConnection {
    pub(crate) link: Arc<Link>,
}

impl HttpConnection {
    /// Returns the [`Connection`] inside, which has the counters, the protocol and the age.
    pub fn connection(&self) -> &Connection {
        &self.link.connection
    }

    /// Waits until the connection is told to close, and returns why: the shutdown ([`CloseReason::Drain`]), silence for
    /// `Limits::idle`, also on a WebSocket, or a call of [`close`](Self::close).
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is lost if the future is dropped.
    pub async fn cancelled(&self) -> CloseReason {
        self.link.connection.cancelled().await
    }

    /// Returns whether the connection has been told to close.
    pub fn is_cancelled(&self) -> bool {
        self.link.connection.is_cancelled()
    }

    /// Returns why the connection was told to close. Returns `None` as long as it was not told.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.link.connection.close_reason()
    }

    /// Asks the connection to close because of `reason`. If it was asked before, the first reason stays.
    pub fn close(&self, reason: CloseReason) {
        self.link.connection.close(reason);
    }

    /// Returns the client's address or name.
    pub fn peer(&self) -> &Peer {
        self.link.connection.peer()
    }

    /// Creates a connection that belongs to no server, to put into a request's extensions when testing a service.
    pub fn detached(peer: impl Into<Peer>) -> Self {
        let common = Common {
            limits: Limits::default(),
            lines: Vec::new(),
            ends_streams: true,
            passes_ambiguous: false,
            extended_connect: true,
            stages: None,
            room: None,
            exchanges: Gate::new(),
            told: AtomicU64::new(0),
        };
        Self {
            link: Arc::new(Link {
                connection: Connection::detached(peer),
                activity: Activity::new(SharedSocket::default()),
                common: Arc::new(common),
                guest: None,
                local: None,
                upgrades: Upgrades::default(),
            }),
        }
    }

    /// Returns the address that the client connected to. Returns `None` for a unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.link.local
    }

    /// Returns the time at which the last byte passed, in either direction. While an HTTP/1.1 request is answered, that
    /// byte belongs to this request or to its response. So a service that wants to know when a request arrived need not
    /// read the clock. For a [detached](Self::detached) connection, returns the time of the call.
    pub fn last_byte(&self) -> Instant {
        self.link.activity.last_byte()
    }

    /// Sends an interim response (1xx) before the final response to the request that is being answered (RFC 9110
    /// §15.2).
    ///
    /// Returns whether the interim response will be written. Otherwise it is dropped, which HTTP allows. It is dropped
    /// over HTTP/2 (hyper cannot send it), once the final response has begun, and while 16 KiB of interim responses
    /// wait for the client. A 100 and a 101 are dropped, too: the server itself sends a 100 when the service reads a
    /// body, and a 101 is a final response here. A client that speaks HTTP/1.0 must not be sent an interim response, so
    /// check [`Request::version`](http::Request::version).
    ///
    /// ```
    /// use http::{HeaderMap, HeaderValue, StatusCode, header::LINK};
    /// use lifecycle_http::HttpConnection;
    ///
    /// fn early_hints(connection: &HttpConnection) -> bool {
    ///     let link = HeaderValue::from_static("</style.css>; rel=preload");
    ///     let fields = HeaderMap::from_iter([(LINK, link)]);
    ///     connection.send_interim(StatusCode::EARLY_HINTS, &fields)
    /// }
    /// # assert!(!early_hints(&HttpConnection::detached("nobody")));
    /// ```
    pub fn send_interim(&self, status: StatusCode, fields: &HeaderMap) -> bool {
        let is_interim = status.is_informational()
            && ![StatusCode::CONTINUE, StatusCode::SWITCHING_PROTOCOLS].contains(&status);
        let activity = &self.link.activity;
        is_interim && activity.takes_interim() && activity.interim.push(status, fields)
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

impl fmt::Debug for HttpConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpConnection")
            .field(&self.link.connection)
            .finish()
    }
}

/// The parts of a connection that its requests share.
///
/// The fields that every request uses come first and in this order, so that they share few cache lines.
#[repr(C)]
pub(crate) struct Link {
    pub(crate) connection: Connection,
    pub(crate) common: Arc<Common>,
    pub(crate) activity: Activity,
    /// The number of the connection in the server's room, if the server has a room.
    pub(crate) guest: Option<u64>,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) upgrades: Upgrades,
}

impl Link {
    /// Describes what the connection is doing, for the report and for dashboards.
    pub(crate) fn description(&self) -> String {
        match self.common.stages {
            Some(service) => self.activity.doing(service),
            None => self.activity.names(),
        }
    }

    /// Runs the upgrade of the request that is being answered.
    pub(crate) fn run_upgrade(
        self: &Arc<Self>,
        upgrade: impl Future<Output = Result<(), BoxError>> + Send + 'static,
    ) -> Result<(), NotUpgradable> {
        if !self.activity.is_h2() {
            return self.upgrades.follow(upgrade);
        }
        let link = Arc::clone(self);
        let held = self.upgrades.hold();
        let stream = async move {
            let _held = held;
            if let Err(error) = upgrade.await {
                link.upgrades.fail(error);
            }
        };
        self.connection.spawn(stream).map_err(|_| NotUpgradable)
    }
}

/// The parts that all connections of a server share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) limits: Limits,
    /// The content types of response streams that are ended between two lines when their connection should close.
    pub(crate) lines: Vec<String>,
    /// Whether the server ends any streams between two messages when their connection should close.
    pub(crate) ends_streams: bool,
    /// Whether requests whose length is ambiguous are passed to the service.
    pub(crate) passes_ambiguous: bool,
    /// Whether HTTP/2 clients may ask for other protocols by a CONNECT (RFC 8441).
    #[cfg_attr(not(feature = "h2"), allow(dead_code, reason = "only h2 has it"))]
    pub(crate) extended_connect: bool,
    /// The name of the service in the descriptions of connections; `None` if descriptions do not tell what a connection
    /// waits for.
    pub(crate) stages: Option<&'static str>,
    pub(crate) room: Option<Room>,
    pub(crate) exchanges: Gate,
    /// The number of connections that were told to close for the drain.
    pub(crate) told: AtomicU64,
}

impl Common {
    /// Returns how long the next connection waits before it closes for the drain, so that many connections close one
    /// after the other.
    pub(crate) fn turn(&self) -> Duration {
        let turn = self.told.fetch_add(1, Ordering::Relaxed);
        self.limits
            .spread
            .saturating_mul(u32::try_from(turn).unwrap_or(u32::MAX))
    }
}
