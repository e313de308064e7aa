//! The builder of an HTTP server.

use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper_util::service::TowerToHyperService;
use lifecycle_runtime::{Acceptor, BoxError};
use tokio::runtime::Handle;
use tower_service::Service;

use crate::app::{Each, Shared};
use crate::entrance::{Entrance, Refusal};
use crate::{Handshake, HttpConnection, HttpServer, Limits, Listener, Plain, RequestBody, Room};

/// The response to a client that is refused because the server is full or sheds load.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    connection: close\r\n\
    retry-after: 1\r\n\
    content-length: 0\r\n\r\n";

/// An [`HttpServer`] that listens and does not accept yet: [`serve`](Self::serve) begins to accept.
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
    /// Sets how many connections there may be at a time. Further clients are sent a 503, and their connections are
    /// closed. Default: 10,000.
    pub fn connections(mut self, most: NonZeroUsize) -> Self {
        self.entrance.connections(most);
        self
    }

    /// Spawns connections into the given [`Connections`](lifecycle_runtime::Connections), which are drained by a step
    /// of their own, instead of into connections that belong to the server.
    ///
    /// The limit and the idle time of those `Connections` apply then, so make them with
    /// [`with_idle_timeout`](lifecycle_runtime::Connections::with_idle_timeout). Several servers can share them. The
    /// shutdown of the server only stops accepting, and the step of the `Connections` must come after the server's
    /// step.
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

    /// Asks `admit` about each new connection, and sends the client a 503 if it returns `false`, for example while load
    /// is shed. Default: always `true`.
    ///
    /// The accept loops call `admit`, so it should return at once.
    pub fn admit(mut self, admit: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.entrance.admit(admit);
        self
    }

    /// Sets the bytes of the response that a refused client is sent before its connection is closed. They are sent only
    /// as far as the socket takes them at once. Default: a 503 without a body. On a server with a
    /// [`handshake`](Self::handshake), the default is to send nothing.
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

    /// Stops accepting when `end` is ready, or at the shutdown, whichever comes first: for example when a successor
    /// process accepts on the same sockets. Connections in the kernel's accept queue are still accepted, and open
    /// connections go on.
    pub fn accept_until(mut self, end: impl Future<Output = ()> + Send + 'static) -> Self {
        self.entrance.accept_until(end);
        self
    }

    /// Serves each connection on the one of these runtimes that has the fewest tasks. The service is called there, and a
    /// task that it spawns belongs to that runtime. Default: connections are served on the runtime in which
    /// [`serve`](Self::serve) is called.
    ///
    /// Meant for [`Workers`](lifecycle_runtime::Workers), on whose threads connections stay. The runtimes must not end
    /// before the connections.
    ///
    /// ```
    /// use lifecycle_http::HttpServer;
    /// use lifecycle_runtime::{GracefulShutdown, ShutdownState, Workers};
    /// use std::thread::available_parallelism;
    ///
    /// #[derive(GracefulShutdown)]
    /// struct Server {
    ///     #[shutdown(priority = 10, best_effort)]
    ///     http: HttpServer,
    ///     #[shutdown(priority = 20, timeout = "1s")]
    ///     workers: Workers,
    ///     #[shutdown(state)]
    ///     state: ShutdownState,
    /// }
    ///
    /// # use http::{Request, Response};
    /// # async fn hello(_: Request<lifecycle_http::RequestBody>) -> Result<Response<String>, std::io::Error> {
    /// #     Ok(Response::new("hello".into()))
    /// # }
    /// # async fn start() -> std::io::Result<Server> {
    /// let workers = Workers::start(available_parallelism()?)?;
    /// let http = HttpServer::bind("127.0.0.1:8080").await?.runtimes(workers.handles());
    /// Ok(Server {
    ///     http: http.serve_hyper(hyper::service::service_fn(hello)),
    ///     workers,
    ///     state: ShutdownState::new(),
    /// })
    /// # }
    /// ```
    pub fn runtimes(mut self, runtimes: &[Handle]) -> Self {
        self.entrance.runtimes(runtimes);
        self
    }

    /// Sets the limits on how long clients may take, and on how much their connections may hold. Default:
    /// [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits.sane();
        self
    }

    /// Ends response streams of this content type between two lines when their connection should close, for example
    /// those of `application/x-ndjson`. Each call adds a content type. Default: none.
    ///
    /// A stream is ended once it is quiet for [`Limits::keep_alive_after_drain`], or after
    /// [`Limits::close_ack_timeout`] even if it is not. Its body ends as if the service had ended it. Responses with a
    /// `content-length` or a `content-encoding` are not ended. Event streams and gRPC streams are ended without a call
    /// of this.
    pub fn end_lines_of(mut self, content_type: impl Into<String>) -> Self {
        self.lines.push(content_type.into());
        self
    }

    /// Sets whether the server ends streams between two messages when their connection should close: event streams,
    /// gRPC streams and streams of [`end_lines_of`](Self::end_lines_of). Default: `true`. Pass `false` if the service
    /// ends its streams itself, for example with [`SseBody`](crate::SseBody).
    pub fn end_streams(mut self, end: bool) -> Self {
        self.ends_streams = end;
        self
    }

    /// Passes a request whose length is ambiguous (RFC 9112 §11.2) to the service, with [`AmbiguousLength`] in its
    /// extensions, so that the service can refuse it in its own words. Without this call, the server answers such a
    /// request with 400, and the service does not see it. In both cases the connection is closed after the answer.
    ///
    /// [`AmbiguousLength`]: crate::AmbiguousLength
    pub fn pass_ambiguous(mut self) -> Self {
        self.passes_ambiguous = true;
        self
    }

    /// Sets whether the server tells HTTP/2 clients that they may ask for other protocols, such as WebSockets, by a
    /// CONNECT (RFC 8441). Default: `true`. Pass `false` if the service cannot serve those protocols, so that clients
    /// use HTTP/1.1 for them.
    pub fn extended_connect(mut self, enable: bool) -> Self {
        self.extended_connect = enable;
        self
    }

    /// Shows in the description of a connection what its requests wait for and since when, and calls the service by the
    /// name `service`: `GET /slow, waiting for the upstream for 1.5 s`, where `service` is "the upstream". Default: the
    /// description shows only the requests.
    pub fn show_stages(mut self, service: &'static str) -> Self {
        self.stages = Some(service);
        self
    }

    /// Closes old connections in favour of new ones, as [`Room`] describes, so that clients that ask briefly are always
    /// answered. Default: old connections stay, and clients beyond [`connections`](Self::connections) are refused.
    pub fn room(mut self, room: &Room) -> Self {
        self.room = Some(room.clone());
        self
    }

    /// Shakes hands on every connection before HTTP begins, for example with a `tokio_rustls::TlsAcceptor` (feature
    /// `rustls`).
    pub fn handshake<T: Handshake>(mut self, handshake: T) -> HttpBuilder<T> {
        // A client that expects a handshake cannot read a refusal in plain text, so it is sent no bytes.
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

    /// Begins to accept, and answers requests with a tower service, such as an axum `Router` or tonic's `Routes`.
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
        HttpServer::start(self, Shared(TowerToHyperService::new(service)))
    }

    /// Begins to accept, and answers requests with a hyper service, such as `hyper::service::service_fn`.
    /// [`serve`](Self::serve) takes tower services.
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
        HttpServer::start(self, Shared(Arc::new(service)))
    }

    /// Begins to accept, and answers the requests of each connection with a hyper service of its own, which `make`
    /// creates.
    ///
    /// `make` is called when a connection's first bytes of HTTP have arrived. Its service can keep the
    /// [`HttpConnection`] and what belongs to it, which saves each request the search for them. State that its requests
    /// share is best kept in an `Arc` for each connection: if the requests of several threads change one reference count,
    /// each waits for the others. The extensions of its requests do not contain the connection: insert a clone before
    /// [`upgrade_tracked`](crate::upgrade_tracked) or [`Upgrade::take`](crate::Upgrade::take).
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use http::{Request, Response};
    /// use hyper::service::service_fn;
    /// use lifecycle_http::{HttpConnection, HttpServer, RequestBody};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let http = HttpServer::bind("127.0.0.1:0").await?.serve_each(|connection| {
    ///     let client = connection.peer().to_string();
    ///     Ok::<_, Infallible>(service_fn(move |_: Request<RequestBody>| {
    ///         let text = format!("hello, {client}");
    ///         async move { Ok::<_, Infallible>(Response::new(text)) }
    ///     }))
    /// });
    /// # drop(http);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// An error of `make` ends the connection, is logged, and is counted in
    /// [`ConnectionStats::failed`](lifecycle_runtime::ConnectionStats::failed).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn serve_each<F, S, E, B>(self, make: F) -> HttpServer
    where
        F: Fn(&HttpConnection) -> Result<S, E> + Send + Sync + 'static,
        S: hyper::service::Service<
                Request<RequestBody>,
                Response = Response<B>,
                Error: Into<BoxError>,
                Future: Send,
            > + Send
            + 'static,
        E: Into<BoxError>,
        B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        HttpServer::start(self, Each(Arc::new(make)))
    }
}
