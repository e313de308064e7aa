//! The server: its parts, and the order in which they end.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use lifecycle_runtime::{
    BoxError, Component, Connection, ConnectionStats, Context, Gate, MustClean,
};
use tokio::net::{TcpListener, ToSocketAddrs};

use crate::app::{AppBody, MakeApp};
use crate::connection::Http;
use crate::entrance::Accepting;
use crate::link::Common;
use crate::{Handshake, HttpBuilder, Listener};

/// An HTTP server. See the [crate](crate) for how it drains.
///
/// The server accepts as soon as it is created, on tasks of its own. So create it in
/// [`Runner::build`](lifecycle_runtime::Runner::build), where signals are registered before the first client can come.
/// An accept that fails for want of descriptors or memory is retried after 5 ms, then after twice as long each time, up
/// to 1 s. These failures are logged at most every 5 s.
///
/// As a component, the server stops accepting, serves the connections in the kernel's accept queue, tells every
/// connection to close, and waits for them. At the soft deadline it cuts the connections that are left, and the report
/// names them. A dropped server cuts its connections at once.
///
/// The extensions of a request contain the [`HttpConnection`](crate::HttpConnection) that received it, except with
/// [`HttpBuilder::serve_each`].
#[doc(alias("graceful", "shutdown", "drain", "with_graceful_shutdown"))]
pub struct HttpServer {
    accepting: Accepting,
    exchanges: Gate,
}

impl HttpServer {
    /// Listens on a TCP address. If `address` stands for several addresses, the server listens on the first that can be
    /// bound, as [`TcpListener::bind`](tokio::net::TcpListener::bind) does.
    ///
    /// # Errors
    ///
    /// When no address can be bound, because each is taken, not of this machine, or not allowed.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<HttpBuilder> {
        Ok(Self::from_listener(TcpListener::bind(address).await?))
    }

    /// Takes a listening socket that is already bound, TCP or unix. Convert an inherited socket by
    /// `Listener::try_from(std_listener)`.
    ///
    /// Close other descriptors of the same socket in this process, unless a successor process is to inherit the socket.
    /// As long as a descriptor is open, the kernel queues connections that nobody will serve.
    pub fn from_listener(listener: impl Into<Listener>) -> HttpBuilder {
        Self::from_listeners([listener.into()])
    }

    /// Takes several listening sockets, each as [`from_listener`](Self::from_listener) does.
    pub fn from_listeners(listeners: impl IntoIterator<Item = Listener>) -> HttpBuilder {
        HttpBuilder::new(listeners.into_iter().collect())
    }

    pub(crate) fn start<H, M, B>(builder: HttpBuilder<H>, service: M) -> Self
    where
        H: Handshake,
        M: MakeApp<B>,
        B: AppBody,
    {
        let exchanges = Gate::new();
        let idle = builder.limits.idle;
        let common = Arc::new(Common {
            limits: builder.limits,
            lines: builder.lines,
            ends_streams: builder.ends_streams,
            passes_ambiguous: builder.passes_ambiguous,
            extended_connect: builder.extended_connect,
            stages: builder.stages,
            room: builder.room,
            exchanges: exchanges.clone(),
            told: AtomicU64::new(0),
        });
        let service = Http {
            handshake: builder.handshake,
            service,
            common,
            body: PhantomData,
        };
        Self {
            accepting: Accepting::start(builder.entrance, Some(idle), service),
            exchanges,
        }
    }

    /// Returns the addresses that the server listens on, without those of unix sockets.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.accepting.addresses()
    }

    /// Returns the counts of the server's connections, such as how many are active and how many were rejected.
    pub fn stats(&self) -> ConnectionStats {
        self.accepting.acceptor().stats()
    }

    /// Returns the server's connections, the oldest first. Each tells its peer, its protocol, its requests in flight
    /// and its age.
    pub fn connections(&self) -> impl Iterator<Item = Connection> + use<> {
        self.accepting.acceptor().list()
    }

    /// Returns the number of requests in flight.
    pub fn in_flight(&self) -> usize {
        self.exchanges.in_flight()
    }

    /// Stops accepting, and returns at once. Connections in the kernel's accept queue are still accepted. Open
    /// connections go on until the shutdown tells them to close.
    pub fn close(&self) {
        self.accepting.close();
    }

    fn cut(&self) {
        self.accepting.cut();
        self.exchanges.close();
    }
}

impl MustClean for HttpServer {}
impl MustClean for &HttpServer {}

impl Component for &HttpServer {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let drained = self.accepting.cleanup(cx).await;
        if self.accepting.owns_connections() {
            self.exchanges.close();
            // hyper runs h2 exchanges on tasks of their own. They end when their connection is gone, and this waits for
            // that.
            self.exchanges.drained().await;
        }
        drained
    }

    fn abort(&mut self) {
        self.cut();
    }
}

impl Component for HttpServer {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        Component::cleanup(&mut &*self, cx).await
    }

    fn abort(&mut self) {
        self.cut();
    }

    fn release(&mut self) {
        self.cut();
    }
}

impl fmt::Debug for HttpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpServer")
            .field("addresses", &self.addresses())
            .field("in_flight", &self.in_flight())
            .field("connections", &self.stats())
            .finish_non_exhaustive()
    }
}
