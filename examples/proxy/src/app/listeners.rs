//! The servers that accept clients: an HTTP server, and a TLS server that passes connections on
//! undecrypted.

use std::net::SocketAddr;
use std::sync::Arc;

use lifecycle_http::{HttpServer, StreamServer};
use lifecycle_proxy_overload::load::Load;
use lifecycle_proxy_passthrough::Passthrough;
use lifecycle_runtime::{BoxError, Component, Connections, Context};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::Timeouts;
use crate::forwarding::forward::Forward;
use crate::inbound::server;
use crate::inbound::sockets::Listener;

/// The accepting servers. Their cleanup closes the listening sockets only. The client connections
/// are drained in another step.
#[derive(Debug)]
pub(super) struct Listeners {
    http: HttpServer,
    tls: StreamServer,
}

/// The options that the HTTP server and the TLS server share.
pub(super) struct SharedOptions<'a> {
    pub(super) connections: &'a Connections,
    pub(super) timeouts: &'a Timeouts,
    pub(super) load: &'a Arc<Load>,
    /// The runtimes that serve the connections. If there is none, the runtime in which the server
    /// starts serves them.
    pub(super) runtimes: &'a [Handle],
    /// The token that is cancelled when the shutdown begins.
    pub(super) stop: CancellationToken,
    /// The token that is cancelled when another process accepts connections instead.
    pub(super) left: CancellationToken,
}

impl SharedOptions<'_> {
    /// Waits until this process must stop accepting: its shutdown begins, or another process
    /// accepts.
    fn end(&self) -> impl Future<Output = ()> + Send + use<> {
        let (stop, left) = (self.stop.clone(), self.left.clone());
        async move {
            left.run_until_cancelled(stop.cancelled()).await;
        }
    }

    /// Returns a function that tells whether the load allows another connection.
    fn admit(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let load = self.load.clone();
        move || load.admits()
    }

    fn http(&self, listeners: Vec<Listener>, forward: Forward) -> HttpServer {
        let builder = server::listen(listeners, server::limits_of(self.timeouts))
            .acceptor(self.connections.acceptor())
            .admit(self.admit())
            .accept_until(self.end())
            .runtimes(self.runtimes);
        server::serve(builder, forward)
    }

    fn tls(&self, listeners: Vec<Listener>, passthrough: Passthrough) -> StreamServer {
        let sockets = listeners.into_iter().map(|listener| listener.socket.into());
        StreamServer::from_listeners(sockets)
            .acceptor(self.connections.acceptor())
            .admit(self.admit())
            .accept_until(self.end())
            .runtimes(self.runtimes)
            .serve(move |stream, connection| passthrough.clone().serve(stream, connection))
    }
}

impl Listeners {
    /// Starts to accept connections on the HTTP and the TLS sockets.
    pub(super) fn open(
        options: &SharedOptions<'_>,
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
            http: options.http(http, forward),
            tls: options.tls(tls, passthrough),
        }
    }

    pub(super) fn http(&self) -> &[SocketAddr] {
        self.http.addresses()
    }

    pub(super) fn tls(&self) -> &[SocketAddr] {
        self.tls.addresses()
    }
}

impl Component for Listeners {
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
