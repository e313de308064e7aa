//! Limits on how long clients may take, and on how much memory their connections hold.

use std::time::Duration;

/// The limits of connections: how long clients may take, and how much they can make the server hold. Each has a default
/// that suits the open internet.
///
/// `Duration::MAX` means "never", which is taken as ten years. Zero means "at once". For
/// [`header_read_timeout`](Self::header_read_timeout), [`idle`](Self::idle), [`stall`](Self::stall),
/// [`silence`](Self::silence), [`ping`](Self::ping) and [`pong`](Self::pong), zero is taken as one millisecond, because
/// nothing would be served otherwise.
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
    /// The time from the accept to a client's first byte of HTTP, including a TLS handshake. Also the time from the
    /// first byte of a request's head to its last, however slowly its bytes come. A connection that takes longer is
    /// closed. Default: 10 s.
    pub header_read_timeout: Duration,
    /// The time that a connection may be without a request, or an upgraded connection without a byte, before the server
    /// tells it to close. A connection that stays is cut after as long again. Default: 60 s.
    pub idle: Duration,
    /// The time that the server waits for the next bytes of a request's body, or for the client to take bytes of a
    /// response. After that time, reading the body fails, or the connection is cut. Default: 30 s. The bodies of gRPC
    /// requests are exempt, because their streams may be silent; pings watch over their connections.
    pub stall: Duration,
    /// The time that a connection may be without a byte in either direction during a request, before the connection is
    /// cut. It does not count while the service has the whole request and has not begun to answer. It bounds the
    /// service, too: one that stops reading a body, or stops in the middle of an answer. Over HTTP/2 it counts only
    /// while all requests in flight have been answered in part, and pings count as bytes. Default: never.
    pub silence: Duration,
    /// The lowest rate of bytes a second at which a client may send or take bytes. Only time in which the server waits
    /// for the client counts, and one [`stall`](Self::stall) of such time is allowed in addition. Zero means no such
    /// limit. Default: 128.
    pub min_bytes_per_second: u32,
    /// The time between two pings over HTTP/2, and between two TCP keep-alive probes. Default: 20 s.
    pub ping: Duration,
    /// The time after which an unanswered ping ends an HTTP/2 connection. Default: 10 s.
    pub pong: Duration,
    /// While draining: the time in which an HTTP/1.1 client may still send a request, counted from the end of its last
    /// response or from its accept. The server answers that request, and tells the client to close. Without this time,
    /// the next request of a busy client would meet a closed socket. Also the time that a stream of gRPC messages or of
    /// lines must be quiet before it is ended. Default: 250 ms.
    pub keep_alive_after_drain: Duration,
    /// While draining: the time in which a client must finish a half-sent request head, or in which an HTTP/2 client
    /// must acknowledge that the connection ends. An HTTP/2 client that was sent much lately has the
    /// [`stall`](Self::stall) to take that first. Also the time after which a stream of gRPC messages or of lines is
    /// ended even if it is not quiet. Default: 2 s.
    pub close_ack_timeout: Duration,
    /// After the last response: the time for which the server still reads from a client that is sending (RFC 9112
    /// §9.6), and waits for an HTTP/2 client to close the connection. An HTTP/2 client that was sent much lately has
    /// the [`stall`](Self::stall) instead. Default: 2 s.
    pub linger: Duration,
    /// While draining: the time between the closing of one idle connection and of the next, so that their clients do
    /// not all reconnect at once. All idle connections should have their turn before the deadline, at which the
    /// connections that are left are cut. Default: 20 µs, which spreads 10,000 connections over 200 ms.
    pub spread: Duration,
    /// The longest incomplete head of an HTTP/1.1 request, in bytes: a client that sends more gets a 431. A head that
    /// arrives in one read can be somewhat longer, since hyper checks the length between reads. It also bounds how many
    /// bytes the server reads at once, and how many may wait to be written. At least 8 KiB. Default: 64 KiB.
    pub max_head: usize,
    /// The number of HTTP/2 streams that a client may have open at a time. At least one. Default: 100.
    pub max_streams: u32,
    /// The number of bytes that may wait to be sent on an HTTP/2 stream before the server stops asking the response's
    /// body for more. Default: 32 KiB.
    pub send_buffer: usize,
    /// The number of bytes that a client may send on an HTTP/2 stream before the service reads them. A connection has
    /// room for as many bytes of each of its streams, so that a stream whose service does not read holds up no other
    /// stream. Default: 64 KiB.
    pub stream_window: u32,
}

/// The duration that stands for "never". It is short enough that the sum with another time does not overflow.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
const SHORTEST: Duration = Duration::from_millis(1);

/// The lowest limit that hyper accepts for the length of a head, in bytes.
const SHORTEST_HEAD: usize = 8 * 1024;

/// The largest flow-control window that HTTP/2 allows, in bytes (RFC 9113 §6.9.1).
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

impl Limits {
    /// Returns the limits, each brought within the bounds that the server can work with.
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

    /// Returns the flow-control window of a whole HTTP/2 connection, in bytes.
    #[cfg(feature = "h2")]
    pub(crate) fn connection_window(&self) -> u32 {
        self.max_streams
            .saturating_mul(self.stream_window)
            .min(LARGEST_WINDOW)
    }

    /// Returns whether `silence` has a limit other than "never".
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
