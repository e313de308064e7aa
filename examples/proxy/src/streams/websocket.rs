//! WebSocket connections that pass through the proxy (RFC 6455), counted while they are open.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use lifecycle_http::{HttpConnection, Relayed, WebSocketRelay};
use lifecycle_runtime::{BoxError, CloseReason};

/// The number of open connections. Clones are cheap and share state.
#[derive(Clone, Debug, Default)]
pub struct Open(Arc<AtomicUsize>);

impl Open {
    /// Returns the number of open connections.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self) -> OpenGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        OpenGuard(self.clone())
    }
}

/// A guard that counts one connection.
struct OpenGuard(Open);

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The options of WebSocket connections.
#[derive(Clone, Debug)]
pub struct WebSocketOptions {
    /// The time after which a silent client gets a ping. A client that stays silent for as long
    /// again is disconnected.
    pub ping: Duration,
    /// The counter of open connections.
    pub open: Open,
}

/// Relays between a client and an upstream after both have upgraded. Ends when either side leaves,
/// or after the closing handshake once `connection` is cancelled.
///
/// # Errors
///
/// When the connection of either side breaks.
pub async fn relay(
    client: TokioIo<Upgraded>,
    upstream: OnUpgrade,
    options: WebSocketOptions,
    connection: HttpConnection,
) -> Result<(), BoxError> {
    let _guard = options.open.add();
    let upstream = TokioIo::new(upstream.await?);
    let relay = WebSocketRelay::new().ping(options.ping);
    if relay.run(client, upstream, connection.connection()).await? == Relayed::Expired {
        connection.close(CloseReason::Idle);
    }
    Ok(())
}
