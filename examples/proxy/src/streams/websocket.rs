//! WebSocket connections that pass through the proxy (RFC 6455), counted while they are open.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use lifecycle_http::{HttpConnection, Relayed, WebSocketRelay};
use lifecycle_runtime::{BoxError, CloseReason};

/// A counter of open WebSocket connections. Clones are cheap and share state.
#[derive(Clone, Debug, Default)]
pub struct Open(Arc<AtomicUsize>);

impl Open {
    /// Returns the number of open WebSocket connections.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self) -> OpenGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        OpenGuard(self.clone())
    }
}

/// A guard that counts one WebSocket connection until it is dropped.
struct OpenGuard(Open);

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The options of WebSocket connections.
#[derive(Clone, Debug)]
pub struct WebSocketOptions {
    /// The time after which a silent client gets a ping. If the client stays silent for the same
    /// time again, it is disconnected.
    pub ping: Duration,
    /// The counter of open WebSocket connections.
    pub open: Open,
}

/// Relays messages between a client and an upstream after both connections were upgraded. Ends when
/// the client or the upstream leaves. Once `connection` is cancelled, ends after the closing
/// handshake.
///
/// # Errors
///
/// When the connection to the client or to the upstream breaks.
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
