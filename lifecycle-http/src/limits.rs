//! How long clients may take, and how much their connections hold.

use std::time::Duration;

/// The limits of connections: how long clients may take, and how much they can make the server hold. Each has a default
/// that suits the open internet.
///
/// `Duration::MAX` is "never", which is taken as ten years. Zero is a millisecond where nothing would be served
/// otherwise: for [`header_read_timeout`](Self::header_read_timeout), [`idle`](Self::idle), [`stall`](Self::stall),
/// [`silence`](Self::silence), [`ping`](Self::ping) and [`pong`](Self::pong). Elsewhere it is "at once".
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
    /// Without a byte in either direction during a request, unless the service has the whole request and has not begun
    /// to answer; the connection is cut then. It bounds the service as well: one that stops reading a body, or stops in
    /// the middle of an answer. Over HTTP/2 it counts while all requests in flight have been answered in part, and pings
    /// are bytes, too. Default: never.
    pub silence: Duration,
    /// The slowest client, in bytes a second, in either direction; counted only while it is waited for, and on top of
    /// one [`stall`](Self::stall). Zero is no such limit. Default: 128.
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
    /// The longest head of a request over HTTP/1.1, in bytes. As many are read at once, and as many may wait to be written.
    /// At least 8 KiB. Default: 64 KiB.
    pub max_head: usize,
    /// How many HTTP/2 streams a client may have open at a time. At least one. Default: 100.
    pub max_streams: u32,
    /// How many bytes an HTTP/2 stream has waiting to be sent before the response's body is asked for more.
    /// Default: 32 KiB.
    pub send_buffer: usize,
    /// How many bytes a client may send on an HTTP/2 stream before the service reads them. A connection may have as much
    /// of each of its streams at once, so that one whose service does not read holds up no other. Default: 64 KiB.
    pub stream_window: u32,
}

/// Times can be added to this without an overflow.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
const SHORTEST: Duration = Duration::from_millis(1);

/// The least that hyper takes for a head.
const SHORTEST_HEAD: usize = 8 * 1024;

/// The largest window of HTTP/2 (RFC 9113 §6.9.1).
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

impl Limits {
    /// Returns limits that can be computed with.
    pub(crate) fn sane(self) -> Self {
        let some = |limit: Duration| limit.clamp(SHORTEST, NEVER);
        Self {
            header_read_timeout: some(self.header_read_timeout),
            idle: some(self.idle),
            stall: some(self.stall),
            silence: some(self.silence),
            min_bytes_per_second: self.min_bytes_per_second,
            ping: some(self.ping),
            pong: some(self.pong),
            keep_alive_after_drain: self.keep_alive_after_drain.min(NEVER),
            close_ack_timeout: self.close_ack_timeout.min(NEVER),
            linger: self.linger.min(NEVER),
            spread: self.spread.min(NEVER),
            max_head: self.max_head.max(SHORTEST_HEAD),
            max_streams: self.max_streams.max(1),
            send_buffer: self.send_buffer.min(LARGEST_WINDOW as usize),
            stream_window: self.stream_window.min(LARGEST_WINDOW),
        }
    }

    /// Returns the window of a whole HTTP/2 connection.
    #[cfg(feature = "h2")]
    pub(crate) fn connection_window(&self) -> u32 {
        self.max_streams
            .saturating_mul(self.stream_window)
            .min(LARGEST_WINDOW)
    }

    /// Whether silence is limited at all.
    pub(crate) fn limits_silence(&self) -> bool {
        self.silence < NEVER
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_read_timeout: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            silence: NEVER,
            min_bytes_per_second: 128,
            ping: Duration::from_secs(20),
            pong: Duration::from_secs(10),
            keep_alive_after_drain: Duration::from_millis(250),
            close_ack_timeout: Duration::from_secs(2),
            linger: Duration::from_secs(2),
            spread: Duration::from_micros(20),
            max_head: 64 * 1024,
            max_streams: 100,
            send_buffer: 32 * 1024,
            stream_window: 64 * 1024,
        }
    }
}
