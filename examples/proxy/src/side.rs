//! A small HTTP server beside the proxy: the admin listener, the demo upstream.

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use lifecycle_runtime::{Connections, GracefulShutdown};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::activity::Limits;
use crate::connection::Handler;
use crate::connections::Intake;
use crate::listener::{self, AcceptLoops, BindError};

/// A listener, its accept loop and its connections.
#[derive(Debug, GracefulShutdown)]
#[shutdown(part, strict, timeout = "1s")]
pub struct SideServer {
    #[shutdown(skip)]
    address: SocketAddr,
    #[shutdown(priority = 0, timeout = "50ms")]
    accept: AcceptLoops,
    #[shutdown(priority = 10, timeout = "150ms", best_effort)]
    connections: Connections,
}

impl SideServer {
    /// Listens on `address`, and answers with `handler`.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on.
    pub async fn start<H: Handler>(
        address: SocketAddr,
        most: NonZeroUsize,
        limits: Limits,
        handler: H,
    ) -> Result<Self, BindError> {
        let bound = listener::bind(address).await?;
        Ok(Self::serve(bound, most, limits, handler))
    }

    /// Answers with `handler` where it listens already.
    #[must_use]
    pub fn serve<H: Handler>(
        (listener, address): (TcpListener, SocketAddr),
        most: NonZeroUsize,
        limits: Limits,
        handler: H,
    ) -> Self {
        let connections = Connections::new(most);
        // Told by its own cleanup only: it serves until the others have ended.
        let mut accept = AcceptLoops::new(CancellationToken::new());
        let intake = Intake::new(connections.acceptor(), limits);
        accept.spawn(listener, intake, handler);
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
