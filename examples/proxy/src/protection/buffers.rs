//! Bounds what a client or an upstream that does not read can make the proxy hold: at
//! most 100 kB a stream in either direction, and 100 streams a connection.
//!
//! On the way down a stream has, when nothing moves: what hyper's sending side was given
//! (`SEND`, and the piece that went beyond), a piece that waits to be taken, and the
//! one that is being read: `SEND + 3 * UPSTREAM`, 64 KiB. On the way up it has its window
//! and what waits to be written to the upstream. Tasks and what belongs to them are 30 kB.

use hyper::client::conn::http1;
use hyper_util::client::legacy;
use lifecycle_http::Limits;

/// Streams that a client may have at a time, which is what haproxy allows.
const STREAMS: u32 = 100;

/// What is read of an upstream at once over HTTP/1.1, which is also its longest head.
const UPSTREAM: usize = 16 * 1024;

/// What is read of a client at once over HTTP/1.1, which is also its longest head, and
/// what waits to be written to it.
const CLIENT: usize = 32 * 1024;

/// What a stream of HTTP/2 has waiting to be sent before more is asked for.
const SEND: usize = 16 * 1024;

/// What may be sent to a stream of HTTP/2 that is not read from.
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
        // It is shared by the streams of many clients, so it never is what holds them up.
        .http2_initial_connection_window_size(1 << 30);
}
