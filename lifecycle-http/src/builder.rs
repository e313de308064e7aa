//! The builder of a server of HTTP.

use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use lifecycle_runtime::{Acceptor, BoxError};
use tower_service::Service;

use crate::entrance::{Entrance, Refusal};
use crate::{Handshake, HttpServer, Limits, Listener, Plain, RequestBody, Room};

/// The answer to a client that is refused, if it listens.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    connection: close\r\n\
    retry-after: 1\r\n\
    content-length: 0\r\n\r\n";

/// A server that listens and does not accept yet: [`serve`](Self::serve) begins.
#[must_use = "it accepts nothing until `serve`"]
#[derive(Debug)]
pub struct HttpBuilder<H = Plain> {
    pub(crate) entrance: Entrance,
    pub(crate) limits: Limits,
    pub(crate) handshake: H,
    pub(crate) lines: Vec<String>,
    pub(crate) ends_streams: bool,
    pub(crate) passes_ambiguous: bool,
    pub(crate) extended_connect: bool,
    pub(crate) stages: Option<&'static str>,
    pub(crate) room: Option<Room>,
}

impl HttpBuilder {
    pub(crate) fn new(listeners: Vec<Listener>) -> Self {
        Self {
            entrance: Entrance::new(listeners, |_| Bytes::from_static(REFUSAL)),
            limits: Limits::default(),
            handshake: Plain,
            lines: Vec::new(),
            ends_streams: true,
            passes_ambiguous: false,
            extended_connect: true,
            stages: None,
            room: None,
        }
    }
}

impl<H: Handshake> HttpBuilder<H> {
    /// Sets how many connections there may be at a time; others are told 503 and closed. Default: 10,000.
    pub fn connections(mut self, most: NonZeroUsize) -> Self {
        self.entrance.connections(most);
        self
    }

    /// Spawns connections into these [`Connections`](lifecycle_runtime::Connections), which are drained by a step of
    /// their own, instead of into some of the server's.
    ///
    /// The limit and the idle time are theirs then (so make them with
    /// [`with_idle_timeout`](lifecycle_runtime::Connections::with_idle_timeout)), several servers can share them, and the
    /// shutdown of the server only stops accepting. Their step comes after the server's.
    ///
    /// ```
    /// use lifecycle_http::HttpServer;
    /// use lifecycle_runtime::{Connections, GracefulShutdown, ShutdownState};
    /// # use std::{num::NonZeroUsize, time::Duration};
    /// # use http::{Request, Response};
    /// # use lifecycle_http::RequestBody;
    ///
    /// #[derive(GracefulShutdown)]
    /// #[shutdown(strict, timeout = "25s")]
    /// struct Server {
    ///     #[shutdown(priority = 10, timeout = "1s")]
    ///     accept: HttpServer,
    ///     #[shutdown(priority = 20, best_effort)]
    ///     connections: Connections,
    ///     #[shutdown(state)]
    ///     state: ShutdownState,
    /// }
    ///
    /// # async fn hello(_: Request<RequestBody>) -> Result<Response<String>, std::convert::Infallible> {
    /// #     Ok(Response::new("hello".into()))
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let limit = NonZeroUsize::new(1_000).expect("not zero");
    /// let connections = Connections::with_idle_timeout(limit, Duration::from_secs(60));
    /// let accept = HttpServer::bind("127.0.0.1:0").await?
    ///     .acceptor(connections.acceptor())
    ///     .serve_hyper(hyper::service::service_fn(hello));
    /// let mut server = Server { accept, connections, state: ShutdownState::new() };
    /// assert!(server.shutdown().await.is_clean());
    /// # Ok(())
    /// # }
    /// ```
    pub fn acceptor(mut self, acceptor: Acceptor) -> Self {
        self.entrance.acceptor(acceptor);
        self
    }

    /// Asks `admit` for each connection, and tells the client 503 if that returns `false`: while load is shed, say.
    /// Default: always `true`.
    ///
    /// It is called by the accept loops, so it should return at once.
    pub fn admit(mut self, admit: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.entrance.admit(admit);
        self
    }

    /// Sets what a refused client is sent, best effort, before its connection is closed: a whole response, as bytes.
    /// Default: a 503 without a body. A client of a server with a [`handshake`](Self::handshake) is sent nothing.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use lifecycle_http::{HttpServer, Refusal};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let builder = HttpServer::bind("127.0.0.1:0").await?.refuse_with(|why| match why {
    ///     Refusal::Full => Bytes::from_static(
    ///         b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 4\r\n\r\nfull",
    ///     ),
    ///     _ => Bytes::from_static(
    ///         b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbusy",
    ///     ),
    /// });
    /// # drop(builder);
    /// # Ok(())
    /// # }
    /// ```
    pub fn refuse_with(
        mut self,
        refusal: impl Fn(Refusal) -> Bytes + Send + Sync + 'static,
    ) -> Self {
        self.entrance.refuse_with(refusal);
        self
    }

    /// Stops accepting when `end` is ready, or at the shutdown, whichever comes first: when a successor process accepts
    /// on the same sockets, say. Connections that the kernel had completed are still taken in, and those there are go
    /// on.
    pub fn accept_until(mut self, end: impl Future<Output = ()> + Send + 'static) -> Self {
        self.entrance.accept_until(end);
        self
    }

    /// Sets how long clients may take, and how much their connections may hold. Default: [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits.sane();
        self
    }

    /// Ends response streams of this content type after a line when their connection should close:
    /// `application/x-ndjson`, say. Each call adds a type. Default: none.
    ///
    /// A stream is ended once it is quiet for [`Limits::keep_alive_after_drain`], or after [`Limits::close_ack_timeout`]; its body ends as if the
    /// service had ended it. Not ended are responses with a `content-length` or a `content-encoding`. Event streams
    /// and gRPC need no call of this.
    pub fn end_lines_of(mut self, content_type: impl Into<String>) -> Self {
        self.lines.push(content_type.into());
        self
    }

    /// Sets whether event streams, gRPC streams and those of [`end_lines_of`](Self::end_lines_of) are ended between two
    /// messages when their connection should close. Default: `true`. A service that ends its streams itself, with
    /// [`SseBody`](crate::SseBody) say, turns it off.
    pub fn end_streams(mut self, end: bool) -> Self {
        self.ends_streams = end;
        self
    }

    /// Passes a request whose length is ambiguous (RFC 9112 §11.2) to the service, with [`AmbiguousLength`] in its
    /// extensions: for a service that refuses it in its own words. Without this call it is answered with 400, and the
    /// service does not see it. Either way its connection is closed after the answer.
    ///
    /// [`AmbiguousLength`]: crate::AmbiguousLength
    pub fn pass_ambiguous(mut self) -> Self {
        self.passes_ambiguous = true;
        self
    }

    /// Sets whether clients over HTTP/2 are told that they may ask for other protocols, such as WebSockets, by a CONNECT
    /// (RFC 8441). Default: `true`. A service that cannot serve those turns it off, so that clients use HTTP/1.1 for them.
    pub fn extended_connect(mut self, enable: bool) -> Self {
        self.extended_connect = enable;
        self
    }

    /// Shows, beside the requests of a connection, what it waits for and since when, and calls the service by this name:
    /// `GET /slow, waiting for the upstream for 1.5 s`, say, where `service` is "the upstream". Default: only the requests.
    pub fn show_stages(mut self, service: &'static str) -> Self {
        self.stages = Some(service);
        self
    }

    /// Closes connections in favour of new ones, as [`Room`] says, so that clients that ask briefly are always answered.
    /// Default: none is closed, and those beyond [`connections`](Self::connections) are refused.
    pub fn room(mut self, room: &Room) -> Self {
        self.room = Some(room.clone());
        self
    }

    /// Shakes hands before HTTP begins, on every listener: with a `tokio_rustls::TlsAcceptor` (feature `rustls`), say.
    pub fn handshake<T: Handshake>(mut self, handshake: T) -> HttpBuilder<T> {
        // A refusal cannot be said in plain text.
        self.entrance.refuse_with(|_| Bytes::new());
        HttpBuilder {
            entrance: self.entrance,
            limits: self.limits,
            handshake,
            lines: self.lines,
            ends_streams: self.ends_streams,
            passes_ambiguous: self.passes_ambiguous,
            extended_connect: self.extended_connect,
            stages: self.stages,
            room: self.room,
        }
    }

    /// Accepts from now on, and serves with a tower service: an axum `Router`, tonic's `Routes`.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn serve<S, B>(self, service: S) -> HttpServer
    where
        S: Service<
                Request<RequestBody>,
                Response = Response<B>,
                Error: Into<BoxError>,
                Future: Send,
            > + Clone
            + Send
            + 'static,
        B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        HttpServer::start(self, service)
    }

    /// [`serve`](Self::serve) with a service of hyper: `hyper::service::service_fn`, say.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn serve_hyper<S, B>(self, service: S) -> HttpServer
    where
        S: hyper::service::Service<
                Request<RequestBody>,
                Response = Response<B>,
                Error: Into<BoxError>,
                Future: Send,
            > + Send
            + Sync
            + 'static,
        B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        self.serve(Hyper(Arc::new(service)))
    }
}

/// A service of hyper as one of tower.
struct Hyper<S>(Arc<S>);

impl<S> Clone for Hyper<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R, S: hyper::service::Service<R>> Service<R> for Hyper<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> S::Future {
        self.0.call(request)
    }
}

impl<S> fmt::Debug for Hyper<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hyper")
    }
}
