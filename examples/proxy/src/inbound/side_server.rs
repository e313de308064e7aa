//! A small HTTP server beside the proxy: the metrics listener, the demo upstream.

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use lifecycle_runtime::{Connections, GracefulShutdown};
use tokio_util::sync::CancellationToken;

use crate::inbound::activity::Limits;
use crate::inbound::connection::Serve;
use crate::inbound::connections::Intake;
use crate::inbound::listener::AcceptLoops;
use crate::inbound::sockets::Listener;

/// A listener, its accept loop and its connections.
#[derive(Debug, GracefulShutdown)]
#[shutdown(part, strict, timeout = "1s")]
pub struct SideServer {
    #[shutdown(skip)]
    address: SocketAddr,
    #[shutdown(priority = 0, timeout = "250ms")]
    accept: AcceptLoops,
    #[shutdown(priority = 10, timeout = "250ms", best_effort)]
    connections: Connections,
}

impl SideServer {
    /// Accepts from `listener` until another process does, which `left` tells, and
    /// serves connections with `server`.
    pub fn start<S: Serve>(
        listener: Listener,
        left: CancellationToken,
        most: NonZeroUsize,
        limits: Limits,
        server: S,
    ) -> Self {
        let Listener { socket, address } = listener;
        let connections = Connections::new(most);
        // Told by its own cleanup only: it serves until the others have ended.
        let mut accept = AcceptLoops::new(CancellationToken::new(), left);
        let intake = Intake::new(connections.acceptor(), limits);
        accept.spawn(socket, intake, server);
        Self {
            address,
            accept,
            connections,
        }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}
