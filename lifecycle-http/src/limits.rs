//! How long clients may take.

use std::time::Duration;

/// The time limits of connections. Each has a default that suits the open internet.
///
/// `Duration::MAX` is "never", which is taken as ten years. Zero is a millisecond where nothing would be served
/// otherwise: for [`header_read_timeout`](Self::header_read_timeout), [`idle`](Self::idle), [`stall`](Self::stall), [`ping`](Self::ping) and
/// [`pong`](Self::pong). Elsewhere it is "at once".
///
/// ```
/// use lifecycle_http::Limits;
/// use std::time::Duration;
///
/// let mut limits = Limits::default();
/// limits.idle = Duration::from_secs(15);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// From the connect to the first byte of HTTP, a TLS handshake included; and from the first byte of a request's
    /// head to its last, however it trickles. Default: 10 s.
    pub header_read_timeout: Duration,
    /// Without a request, or on an upgraded connection without a byte, until the connection is told to close; one that
    /// stays is cut after as long again. Default: 60 s.
    pub idle: Duration,
    /// Without progress, on a request body that is waited for or a response that the client does not take.
    /// Default: 30 s. gRPC requests are exempt, since their streams may be silent; pings watch over those.
    pub stall: Duration,
    /// The slowest client, in bytes a second, in either direction; counted only while it is waited for, and on top of
    /// one [`stall`](Self::stall). Zero is one. Default: 128.
    pub min_bytes_per_second: u32,
    /// Between the pings on h2, and TCP keep-alive probes. Default: 20 s.
    pub ping: Duration,
    /// Until an unanswered h2 ping ends the connection. Default: 10 s.
    pub pong: Duration,
    /// While draining: how long an h1 client that was answered or accepted a moment ago has for its next request,
    /// counted from then. It is answered, and told to close; without this, a busy client's next request would meet a
    /// closed socket. Also how long a stream of gRPC or of lines must be quiet to be ended. Default: 250 ms.
    pub keep_alive_after_drain: Duration,
    /// While draining: for a client to finish a half-sent request head, and for an h2 client to acknowledge that the
    /// connection ends, unless it was sent much lately: then it has the [`stall`](Self::stall) to take that first.
    /// Also after how long a stream of gRPC or of lines is ended though it is not quiet. Default: 2 s.
    pub close_ack_timeout: Duration,
    /// After the last response, until a client that is still sending is no longer read from (RFC 9112 §9.6), and until an
    /// h2 client has closed, too; one that was sent much lately has the [`stall`](Self::stall). Default: 2 s.
    pub linger: Duration,
    /// While draining: how far apart idle connections are closed, so that their clients do not all come back at once.
    /// All of them should have their turn before the deadline, at which the rest is cut.
    /// Default: 20 µs, which spreads 10,000 over 200 ms.
    pub spread: Duration,
}

/// Times can be added to this without an overflow.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
const SHORTEST: Duration = Duration::from_millis(1);

impl Limits {
    /// What can be reckoned with.
    pub(crate) fn sane(self) -> Self {
        let some = |limit: Duration| limit.clamp(SHORTEST, NEVER);
        Self {
            header_read_timeout: some(self.header_read_timeout),
            idle: some(self.idle),
            stall: some(self.stall),
            min_bytes_per_second: self.min_bytes_per_second.max(1),
            ping: some(self.ping),
            pong: some(self.pong),
            keep_alive_after_drain: self.keep_alive_after_drain.min(NEVER),
            close_ack_timeout: self.close_ack_timeout.min(NEVER),
            linger: self.linger.min(NEVER),
            spread: self.spread.min(NEVER),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_read_timeout: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            min_bytes_per_second: 128,
            ping: Duration::from_secs(20),
            pong: Duration::from_secs(10),
            keep_alive_after_drain: Duration::from_millis(250),
            close_ack_timeout: Duration::from_secs(2),
            linger: Duration::from_secs(2),
            spread: Duration::from_micros(20),
        }
    }
}
