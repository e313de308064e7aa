//! The entrances for clients: HTTP, and TLS that is passed on as it is.

use std::net::SocketAddr;
use std::sync::Arc;

use lifecycle_http::{HttpServer, StreamServer};
use lifecycle_runtime::{BoxError, Component, Connections, Context};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::Timeouts;
use crate::forwarding::forward::Forward;
use crate::inbound::server;
use crate::inbound::sockets::Listener;
use crate::protection::load::Load;
use crate::streams::sni::Passthrough;

/// The servers that accept. Their cleanup closes the listening sockets; the connections are a step of their own.
#[derive(Debug)]
pub(super) struct Entrances {
    http: HttpServer,
    tls: StreamServer,
}

/// The parts that the connections of all entrances share.
pub(super) struct Common<'a> {
    pub(super) connections: &'a Connections,
    pub(super) timeouts: &'a Timeouts,
    pub(super) load: &'a Arc<Load>,
    /// Cancelled when the shutdown begins.
    pub(super) stop: CancellationToken,
    /// Cancelled when another process accepts.
    pub(super) left: CancellationToken,
}

impl Common<'_> {
    /// Ready when this process is to accept no more.
    fn end(&self) -> impl Future<Output = ()> + Send + use<> {
        let (stop, left) = (self.stop.clone(), self.left.clone());
        async move {
            left.run_until_cancelled(stop.cancelled()).await;
        }
    }

    /// Whether the load allows for another connection.
    fn admit(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let load = self.load.clone();
        move || load.admits()
    }

    fn http(&self, listeners: Vec<Listener>, forward: Forward) -> HttpServer {
        let builder = server::listen(listeners, server::limits_of(self.timeouts))
            .acceptor(self.connections.acceptor())
            .admit(self.admit())
            .accept_until(self.end());
        server::serve(builder, forward)
    }

    fn tls(&self, listeners: Vec<Listener>, passthrough: Passthrough) -> StreamServer {
        let sockets = listeners.into_iter().map(|listener| listener.socket.into());
        StreamServer::from_listeners(sockets)
            .acceptor(self.connections.acceptor())
            .admit(self.admit())
            .accept_until(self.end())
            .serve(move |stream, connection| passthrough.clone().serve(stream, connection))
    }
}

impl Entrances {
    /// Begins to accept.
    pub(super) fn open(
        common: &Common<'_>,
        (http, forward): (Vec<Listener>, Forward),
        (tls, passthrough): (Vec<Listener>, Passthrough),
    ) -> Self {
        for Listener { address, .. } in &http {
            info!(%address, "listening");
        }
        for Listener { address, .. } in &tls {
            info!(%address, "listening for TLS");
        }
        Self {
            http: common.http(http, forward),
            tls: common.tls(tls, passthrough),
        }
    }

    pub(super) fn http(&self) -> &[SocketAddr] {
        self.http.addresses()
    }

    pub(super) fn tls(&self) -> &[SocketAddr] {
        self.tls.addresses()
    }
}

impl Component for Entrances {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        self.http.close();
        self.tls.close();
        self.http.cleanup(cx).await?;
        self.tls.cleanup(cx).await
    }

    fn abort(&mut self) {
        self.http.abort();
        self.tls.abort();
    }

    fn release(&mut self) {
        self.http.release();
        self.tls.release();
    }
}
