//! Connections to upstreams that record whether they have served a request before.
//!
//! An upstream may close an idle connection at the moment when the proxy sends a request over it.
//! Such a request may be sent again. A request must not be sent again if the connection was new or
//! the answer had begun: the upstream may have received the request, and could carry it out twice.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use hyper::http::Extensions;
use hyper::http::uri::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::buffers;
use crate::upstream::failure::ConnectError;

/// The record of what has passed over a connection. hyper-util's client puts it into the extensions
/// of responses and errors.
///
/// The atomic orderings are relaxed: the pool synchronizes the response to a request, which sets a
/// value, with the next request, which reads the value.
#[derive(Clone, Debug, Default)]
pub struct Life(Arc<Past>);

#[derive(Debug, Default)]
struct Past {
    /// Whether a response has come over the connection.
    served: AtomicBool,
    /// Whether a byte has come since the last byte was sent.
    heard: AtomicBool,
}

impl Life {
    /// Records that the connection has served a request.
    pub(super) fn set_served(&self) {
        self.0.served.store(true, Ordering::Relaxed);
    }

    /// Returns whether the connection has served a request.
    pub(super) fn has_served(&self) -> bool {
        self.0.served.load(Ordering::Relaxed)
    }

    /// Returns whether the connection had served a request before, and received no byte since the
    /// last byte was sent.
    pub(super) fn died_idle(&self) -> bool {
        self.has_served() && !self.0.heard.load(Ordering::Relaxed)
    }

    /// Records that a connection has served a request. The connection's [`Life`] is in the
    /// `extensions` of the response.
    pub(super) fn served(extensions: &Extensions) {
        if let Some(life) = extensions.get::<Self>() {
            life.set_served();
        }
    }

    /// Returns [`died_idle`](Self::died_idle) for the connection of an error. Returns false without
    /// a connection.
    pub(super) fn died_idle_with(connection: Option<&Connected>) -> bool {
        let mut extensions = Extensions::new();
        if let Some(connection) = connection {
            connection.get_extras(&mut extensions);
        }
        extensions.get().is_some_and(Self::died_idle)
    }

    fn hears(&self, heard: bool) {
        self.0.heard.store(heard, Ordering::Relaxed);
    }
}

/// A connector that makes [`Kept`] connections for hyper-util's client.
#[derive(Clone, Debug)]
pub struct Connector(HttpConnector);

impl Connector {
    /// Creates a connector that opens its connections with `connector`.
    #[must_use]
    pub const fn new(connector: HttpConnector) -> Self {
        Self(connector)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Kept>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Kept>, ConnectError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = self.0.call(to);
        Box::pin(async move {
            let stream = connecting.await?.into_inner();
            let life = Life::default();
            Ok(TokioIo::new(Kept::new(stream, life)))
        })
    }
}

/// A connection that records in its [`Life`] whether bytes come in.
#[derive(Debug)]
pub struct Kept {
    stream: TcpStream,
    life: Life,
}

impl Kept {
    /// Wraps a connection. Bounds what the kernel takes of requests that the upstream does not read.
    pub(super) fn new(stream: TcpStream, life: Life) -> Self {
        // An error is ignored, since the connection works without the bound, too.
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(buffers::UNSENT);
        Self { stream, life }
    }
}

impl Connection for Kept {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.life.clone())
    }
}

impl AsyncRead for Kept {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.life.hears(true);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Kept {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.life.hears(false);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.life.hears(false);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
