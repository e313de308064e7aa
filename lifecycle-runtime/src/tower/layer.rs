//! The layer.

use std::time::Duration;

use tower_layer::Layer;

use super::ShutdownService;
use crate::Gate;

/// What a refused client is told to wait, unless something else is said.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A tower layer that holds a [`Pass`](crate::Pass) of a [`Gate`] for each request, from its call to the end or the drop of
/// its response's body, and refuses requests once the gate is closed.
///
/// A refused request never reaches the inner service. It is answered with 503 and `Retry-After`, over HTTP/1 with
/// `Connection: close` too, and gRPC with the status `UNAVAILABLE`, which its clients retry.
///
/// # What it does not do
///
/// **The end of a body is not the end of the wire.** The pass is given back when the server has taken the last frame, not
/// when the client has it: with a body of 20 MB and a slow client, four fifths of it were still in the server's buffers
/// then. Bytes are safe only if the server awaits its connections too, after the gate: `axum::serve` with
/// `with_graceful_shutdown` does, and so does `lifecycle_http::HttpServer`, which needs no layer.
///
/// # Examples
///
/// ```
/// use lifecycle_runtime::{Gate, ShutdownLayer};
/// use std::time::Duration;
///
/// let gate = Gate::new(); // a field of the server: `#[shutdown(priority = 10)] requests: Gate`
/// let layer = ShutdownLayer::new(&gate).retry_after(Duration::from_secs(5));
/// // Router::new().route(…).layer(layer), or ServiceBuilder::new().layer(layer)
/// # drop(layer);
/// ```
#[derive(Clone, Debug)]
pub struct ShutdownLayer {
    gate: Gate,
    retry_after: Duration,
}

impl ShutdownLayer {
    /// Refuses once this gate is closed. `Retry-After` is 1 s.
    pub fn new(gate: &Gate) -> Self {
        Self {
            gate: gate.clone(),
            retry_after: RETRY_AFTER,
        }
    }

    /// Tells refused clients to wait this long, in whole seconds, rounded up.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = wait;
        self
    }
}

impl<S> Layer<S> for ShutdownLayer {
    type Service = ShutdownService<S>;

    fn layer(&self, inner: S) -> ShutdownService<S> {
        ShutdownService::new(inner, self.gate.clone(), self.retry_after)
    }
}
