//! What a server is made of.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use lifecycle_runtime::BoxError;
use tower_service::Service;

use crate::{Handshake, HttpServer, Limits, Listener, Plain, RequestBody};

/// The most connections, unless another limit is given.
const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(10_000).expect("it is not zero");

/// A server that listens and does not accept yet: [`serve`](Self::serve) begins.
#[must_use = "it accepts nothing until `serve`"]
#[derive(Debug)]
pub struct HttpBuilder<H = Plain> {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) connections: NonZeroUsize,
    pub(crate) limits: Limits,
    pub(crate) handshake: H,
    pub(crate) plain: bool,
    pub(crate) lines: Vec<String>,
}

impl HttpBuilder {
    pub(crate) fn new(listeners: Vec<Listener>) -> Self {
        Self {
            listeners,
            connections: CONNECTIONS,
            limits: Limits::default(),
            handshake: Plain,
            plain: true,
            lines: Vec::new(),
        }
    }
}

impl<H: Handshake> HttpBuilder<H> {
    /// At most this many connections at a time; others are told 503 and closed. Default: 10,000.
    pub fn connections(mut self, most: NonZeroUsize) -> Self {
        self.connections = most;
        self
    }

    /// How long clients may take. Default: [`Limits::default`].
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

    /// Shakes hands before HTTP begins, on every listener: with a `tokio_rustls::TlsAcceptor` (feature `rustls`), say.
    pub fn handshake<T: Handshake>(self, handshake: T) -> HttpBuilder<T> {
        HttpBuilder {
            listeners: self.listeners,
            connections: self.connections,
            limits: self.limits,
            handshake,
            plain: false,
            lines: self.lines,
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
