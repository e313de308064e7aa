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

use crate::app::{App, AppBody};
use crate::connection::Http;
use crate::entrance::Accepting;
use crate::link::Common;
use crate::{Handshake, HttpBuilder, Listener};

/// An HTTP server. See the [crate](crate) for how it drains.
///
/// It accepts from the moment it is made, on tasks of its own: make it in [`Runner::build`](lifecycle_runtime::Runner::build),
/// so that signals are heard before the first client can come. An accept that fails for want of descriptors or memory is
/// tried again after 5 ms, then twice as long each time, up to 1 s; that is logged, at most every 5 s. As a component it stops accepting, serves what the
/// kernel had queued, tells every connection to close and waits for them; at the soft deadline those that are left are
/// cut, and named in the report. Dropping it cuts them at once.
///
/// Handlers find the [`HttpConnection`](crate::HttpConnection) that a request came by in its extensions.
#[doc(alias("graceful", "shutdown", "drain", "with_graceful_shutdown"))]
pub struct HttpServer {
    accepting: Accepting,
    exchanges: Gate,
}

impl HttpServer {
    /// Listens on a TCP address: the first of those `address` stands for that can be had, as
    /// [`TcpListener::bind`](tokio::net::TcpListener::bind) does.
    ///
    /// # Errors
    ///
    /// When none can: taken, not of this machine, or not allowed.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<HttpBuilder> {
        Ok(Self::from_listener(TcpListener::bind(address).await?))
    }

    /// Takes a listening socket that somebody bound: TCP or unix, or an inherited one through
    /// `Listener::try_from(std_listener)`.
    ///
    /// Close other descriptors of the same socket in this process, unless a successor is to inherit it: while anybody has
    /// one, the kernel completes connections that nobody will serve.
    pub fn from_listener(listener: impl Into<Listener>) -> HttpBuilder {
        Self::from_listeners([listener.into()])
    }

    /// [`from_listener`](Self::from_listener) for several.
    pub fn from_listeners(listeners: impl IntoIterator<Item = Listener>) -> HttpBuilder {
        HttpBuilder::new(listeners.into_iter().collect())
    }

    pub(crate) fn start<H, S, B>(builder: HttpBuilder<H>, service: S) -> Self
    where
        H: Handshake,
        S: App<B>,
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

    /// The addresses it listens on, those of unix sockets aside.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.accepting.addresses()
    }

    /// Numbers about its connections.
    pub fn stats(&self) -> ConnectionStats {
        self.accepting.acceptor().stats()
    }

    /// Its connections, the oldest first: who, which protocol, what they are in, for how long.
    pub fn connections(&self) -> impl Iterator<Item = Connection> + use<> {
        self.accepting.acceptor().list()
    }

    /// How many requests are being answered.
    pub fn in_flight(&self) -> usize {
        self.exchanges.in_flight()
    }

    /// Stops accepting. Connections that the kernel had completed are still taken in, and those there are go on until
    /// the shutdown tells them. Waits for nobody.
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
            // h2 runs exchanges on tasks of their own, which end when their connection is gone.
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
