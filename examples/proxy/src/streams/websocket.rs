//! WebSocket connections on their way through (RFC 6455), counted while they are open.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use lifecycle_http::{HttpConnection, Relayed, WebSocketRelay};
use lifecycle_runtime::{BoxError, CloseReason};

/// Connections that are open now. A cheap clone.
#[derive(Clone, Debug, Default)]
pub struct Open(Arc<AtomicUsize>);

impl Open {
    /// Returns how many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn enter(&self) -> Entered {
        self.0.fetch_add(1, Ordering::Relaxed);
        Entered(self.clone())
    }
}

/// An open connection, which is counted until this is dropped.
struct Entered(Open);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How a connection is kept.
#[derive(Clone, Debug)]
pub struct WebSocketOptions {
    /// After so long without a byte of the client it is sent a ping; after as
    /// long again it is gone.
    pub ping: Duration,
    /// The count of open connections.
    pub open: Open,
}

/// Relays between a client and an upstream that have both agreed to it, until
/// either is gone, or `connection` is told to close and the client has said goodbye.
///
/// # Errors
///
/// When either side broke.
pub async fn relay(
    client: TokioIo<Upgraded>,
    upstream: OnUpgrade,
    options: WebSocketOptions,
    connection: HttpConnection,
) -> Result<(), BoxError> {
    let _entered = options.open.enter();
    let upstream = TokioIo::new(upstream.await?);
    let relay = WebSocketRelay::new().ping(options.ping);
    if relay.run(client, upstream, connection.connection()).await? == Relayed::Expired {
        connection.close(CloseReason::Idle);
    }
    Ok(())
}
