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
/// # HTTP/2
///
/// With the feature `tower-h2` a refused HTTP/2 stream is reset with `REFUSED_STREAM`, which says that nothing was done:
/// a client may send any request again, a POST too (RFC 9113 §8.7), and curl and gRPC clients do so by themselves.
///
/// A layer must not add errors to services that have none. So it is the body of the 503 that asks for the reset, by
/// failing with an [`h2::Error`](https://docs.rs/h2/0.4/h2/struct.Error.html), and hyper drops the head, which is still
/// queued. A connection that is busy on another thread may have sent it: of streams that were refused a hundred at a
/// time, one in a thousand saw the 503 before the reset, and up to four in a hundred on a machine short of processors. A
/// client sees the 503 alone if something outside of the layer replaces the body, as axum does for HEAD; a server that is
/// not hyper's may reset for another reason.
///
/// # What it does not do
///
/// **It ends no connection**, HTTP/1 aside, and a client may ask again on the same one: begin the server's own graceful
/// shutdown when the gate closes.
///
/// **The end of a body is not the end of the wire.** The pass is given back when the server has taken the last frame, not
/// when the client has it. Of a body of 20 MB in one frame, four fifths were still in the server's buffers then, with a
/// client that took 16 MB a second, and were lost when the process ended; of one in small frames, it is what the server
/// buffers. Bytes are safe only if the server awaits its connections too, after the gate: `axum::serve` with
/// `with_graceful_shutdown` does. Over HTTP/2 even that lost 2.6 MB of 20: a client that goes on opening its window while
/// it reads has the connection reset when its server closes first. `lifecycle_http::HttpServer`, which needs no layer,
/// waits for its client to close.
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
