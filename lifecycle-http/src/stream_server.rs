//! A server for streams that are not HTTP.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use lifecycle_runtime::{
    Acceptor, BoxError, Component, Connection, ConnectionStats, Context, MustClean, TaskOutcome,
};
use tokio::net::{TcpListener, ToSocketAddrs};
use tokio::runtime::Handle;

use crate::accept::Serve;
use crate::entrance::{Accepting, Entrance, Refusal};
use crate::listener::tune_writes;
use crate::{Listener, RawStream};

/// A server that hands each accepted stream to a service unchanged: for protocols other than HTTP, or to relay TLS
/// without decrypting it.
///
/// It accepts and drains like an [`HttpServer`](crate::HttpServer). It stops accepting, serves the connections in the
/// kernel's accept queue, tells every connection to close, and waits for them. At the soft deadline it cuts the
/// connections that are left, and the report names them. A dropped server cuts its connections at once.
///
/// ```
/// use lifecycle_http::{RawStream, StreamServer};
/// use lifecycle_runtime::{Component, Connection, Context, Reason};
/// use std::time::Duration;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use tokio::net::TcpStream;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), lifecycle_runtime::BoxError> {
/// let mut server = StreamServer::bind("127.0.0.1:0").await?.serve(
///     async |mut stream: RawStream, _: Connection| stream.write_all(b"hello").await,
/// );
///
/// let mut client = TcpStream::connect(server.addresses()[0]).await?;
/// let mut text = String::new();
/// client.read_to_string(&mut text).await?;
/// assert_eq!(text, "hello");
///
/// server.cleanup(&Context::new(Reason::Requested, Duration::from_secs(5))).await
/// # }
/// ```
#[doc(alias("tcp", "raw", "sni", "passthrough"))]
pub struct StreamServer {
    accepting: Accepting,
}

/// A [`StreamServer`] that listens and does not accept yet: [`serve`](Self::serve) begins to accept.
#[must_use = "it accepts nothing until `serve`"]
#[derive(Debug)]
pub struct StreamBuilder {
    entrance: Entrance,
    idle: Option<Duration>,
}

impl StreamServer {
    /// Listens on a TCP address, as [`HttpServer::bind`](crate::HttpServer::bind) does.
    ///
    /// # Errors
    ///
    /// When the address cannot be had: it is taken, not of this machine, or not allowed.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<StreamBuilder> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self::from_listeners([listener.into()]))
    }

    /// Takes listening sockets that are already bound.
    pub fn from_listeners(listeners: impl IntoIterator<Item = Listener>) -> StreamBuilder {
        StreamBuilder {
            entrance: Entrance::new(listeners, |_| Bytes::new()),
            idle: None,
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

    /// Stops accepting, and returns at once. Connections in the kernel's accept queue are still accepted. Open
    /// connections go on until the shutdown tells them to close.
    pub fn close(&self) {
        self.accepting.close();
    }
}

impl StreamBuilder {
    /// Sets how many connections there may be at a time. Further connections are refused. Default: 10,000.
    pub fn connections(mut self, most: NonZeroUsize) -> Self {
        self.entrance.connections(most);
        self
    }

    /// Sets for how long a connection may go without a [touch](Connection::touch). After that time the server tells the
    /// connection to close, and cuts it after as long again. Default: for ever.
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = Some(idle);
        self
    }

    /// Spawns connections into the given [`Connections`](lifecycle_runtime::Connections), which are drained by a step
    /// of their own, instead of into connections that belong to the server.
    ///
    /// The limit and the idle time of those `Connections` apply then. Several servers can share them. The shutdown of
    /// the server only stops accepting.
    pub fn acceptor(mut self, acceptor: Acceptor) -> Self {
        self.entrance.acceptor(acceptor);
        self
    }

    /// Asks `admit` about each new connection, and refuses the connection if it returns `false`, for example while load
    /// is shed. Default: always `true`.
    pub fn admit(mut self, admit: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.entrance.admit(admit);
        self
    }

    /// Sets the bytes that a refused client is sent before its connection is closed. They are sent only as far as the
    /// socket takes them at once. Default: none.
    pub fn refuse_with(
        mut self,
        refusal: impl Fn(Refusal) -> Bytes + Send + Sync + 'static,
    ) -> Self {
        self.entrance.refuse_with(refusal);
        self
    }

    /// Stops accepting when `end` is ready, or at the shutdown, whichever comes first. Connections in the kernel's
    /// accept queue are still accepted, and open connections go on.
    pub fn accept_until(mut self, end: impl Future<Output = ()> + Send + 'static) -> Self {
        self.entrance.accept_until(end);
        self
    }

    /// Serves each connection on the one of these runtimes that has the fewest tasks, as
    /// [`HttpBuilder::runtimes`](crate::HttpBuilder::runtimes) does. Default: the runtime in which
    /// [`serve`](Self::serve) is called.
    pub fn runtimes(mut self, runtimes: &[Handle]) -> Self {
        self.entrance.runtimes(runtimes);
        self
    }

    /// Begins to accept, and runs `serve` for each stream, on a task of its own.
    ///
    /// `serve` should end soon after [`Connection::cancelled`]; at the deadline it is aborted. An error that it returns
    /// is logged, and counted in [`ConnectionStats::failed`].
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn serve<F, O>(
        self,
        serve: impl Fn(RawStream, Connection) -> F + Clone + Send + 'static,
    ) -> StreamServer
    where
        F: Future<Output = O> + Send + 'static,
        O: TaskOutcome,
    {
        StreamServer {
            accepting: Accepting::start(self.entrance, self.idle, Function(serve)),
        }
    }
}

/// A closure that serves streams.
#[derive(Clone)]
struct Function<S>(S);

impl<S, F, O> Serve for Function<S>
where
    S: Fn(RawStream, Connection) -> F + Clone + Send + 'static,
    F: Future<Output = O> + Send + 'static,
    O: TaskOutcome,
{
    type Outcome = O;

    fn serve(
        self,
        stream: RawStream,
        connection: Connection,
    ) -> impl Future<Output = O> + Send + 'static {
        tune_writes(&stream);
        (self.0)(stream, connection)
    }
}

impl MustClean for StreamServer {}
impl MustClean for &StreamServer {}

impl Component for &StreamServer {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        self.accepting.cleanup(cx).await
    }

    fn abort(&mut self) {
        self.accepting.cut();
    }
}

impl Component for StreamServer {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        self.accepting.cleanup(cx).await
    }

    fn abort(&mut self) {
        self.accepting.cut();
    }

    fn release(&mut self) {
        self.accepting.cut();
    }
}

impl fmt::Debug for StreamServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamServer")
            .field("addresses", &self.addresses())
            .field("connections", &self.stats())
            .finish_non_exhaustive()
    }
}
