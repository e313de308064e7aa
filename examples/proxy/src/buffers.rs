//! Bounds what a client or an upstream that does not read can make the proxy hold: at
//! most 100 kB a stream of an unread response, 130 kB of an unread upload, and 100 streams a connection.
//!
//! On the way down a stream has, when nothing moves: what hyper's sending side was given
//! (`SEND`, and the piece that went beyond), a piece that waits to be taken, and the
//! one that is being read: `SEND + 3 * UPSTREAM`, 64 KiB. On the way up it has its window
//! and what waits to be written to the upstream. Tasks and what belongs to them are 30 kB.

use hyper::client::conn::http1;
use hyper_util::client::legacy;
use lifecycle_http::Limits;

/// The number of streams that a client may have at a time, as in haproxy.
const STREAMS: u32 = 100;

/// The bytes that are read of an upstream at once over HTTP/1.1; also the length of its longest head.
const UPSTREAM: usize = 16 * 1024;

/// The bytes that are read of a client at once over HTTP/1.1, and that may wait to be written
/// to it; also the length of its longest head.
const CLIENT: usize = 32 * 1024;

/// The bytes that wait to be sent on a stream of HTTP/2 before more are asked for.
const SEND: usize = 16 * 1024;

/// The bytes that may be sent to a stream of HTTP/2 that is not read from.
const WINDOW: u32 = 64 * 1024;

/// Bounds what the connection of a client holds.
pub const fn bound_server(limits: &mut Limits) {
    limits.max_head = CLIENT;
    limits.max_streams = STREAMS;
    limits.send_buffer = SEND;
    limits.stream_window = WINDOW;
}

/// Bounds what connections to upstreams in HTTP/1.1 hold.
pub fn bound_http1(builder: &mut http1::Builder) {
    builder.max_buf_size(UPSTREAM);
}

/// Bounds what connections to upstreams in HTTP/2 hold.
pub fn bound_http2(builder: &mut legacy::Builder) {
    builder
        .http2_max_send_buf_size(SEND)
        .http2_initial_stream_window_size(WINDOW)
        // The streams of many clients share it, so it must never hold them up.
        .http2_initial_connection_window_size(1 << 30);
}
