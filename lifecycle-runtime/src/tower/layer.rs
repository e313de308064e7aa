//! The tower layer that refuses requests once a gate is closed.

use std::time::Duration;

use tower_layer::Layer;

use super::ShutdownService;
use crate::Gate;

/// The default of `Retry-After`.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A tower layer that counts requests with a [`Gate`], and refuses them once the gate is closed.
///
/// Each request holds a [`Pass`](crate::Pass) from the call of the service until the body of its response ends or is
/// dropped. A refused request never reaches the inner service. Its response is 503 with `Retry-After`, over HTTP/1 also
/// with `Connection: close`. A gRPC request gets the status `UNAVAILABLE`, which gRPC clients retry.
///
/// # HTTP/2
///
/// With the feature `tower-h2` a refused HTTP/2 stream is reset with `REFUSED_STREAM`, which tells the client that the
/// server did nothing for the request. So the client may repeat any request, even a POST (RFC 9113 §8.7), and curl and
/// gRPC clients do so by themselves.
///
/// A layer must not add errors to services that have none. So the body of the 503 causes the reset: it fails with an
/// [`h2::Error`](https://docs.rs/h2/0.4/h2/struct.Error.html), and hyper drops the response head, which is still
/// queued. If the connection is busy on another thread, the head may already have been sent. Of streams that were
/// refused a hundred at a time, one in a thousand saw the 503 before the reset, and up to four in a hundred on a
/// machine with too few processors. A client sees only the 503 if something outside the layer replaces the body, as
/// axum does for HEAD. A server other than hyper's may reset with another reason.
///
/// # What it does not do
///
/// **The layer closes no connection**, except over HTTP/1, and a client may send again on the same connection. Begin
/// the server's own graceful shutdown when the gate closes.
///
/// **The end of a body is not the end of its transfer.** The pass is dropped when the server has taken the last frame,
/// not when the client has received it. In one measurement with a body of 20 MB in one frame and a client that read 16
/// MB a second, four fifths of the body were then still in the server's buffers, and were lost when the process ended.
/// With a body in small frames, the part that the server buffers is lost. Bytes are safe only if the server also awaits
/// its connections, after the gate: `axum::serve` with `with_graceful_shutdown` does. Over HTTP/2 even that lost 2.6 MB
/// of 20: if a client continues to open its window while it reads, its connection is reset when the server closes
/// first. `lifecycle_http::HttpServer`, which needs no layer, waits for its client to close.
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
    /// Creates a layer that refuses requests once `gate` is closed. `Retry-After` is 1 s.
    pub fn new(gate: &Gate) -> Self {
        Self {
            gate: gate.clone(),
            retry_after: RETRY_AFTER,
        }
    }

    /// Sets the `Retry-After` of refusals, in whole seconds, rounded up.
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
