//! Bounds for the memory that the proxy holds for a client or an upstream that does not read: at
//! most 100 kB for a stream of an unread response, 130 kB for a stream of an unread upload, and 100
//! streams for each connection. A connection takes 10 kB besides.
//!
//! A stream of a response whose client does not read holds one piece of at most `UPSTREAM` bytes, as
//! [`Backlog`](crate::message::backlog::Backlog) and `SEND` ask the body for no more. A stream of a
//! request whose upstream does not read holds the bytes of its window, and a piece that waits to be
//! written to the upstream. The tasks and their state take 30 kB.

use hyper::client::conn::http1;
use hyper_util::client::legacy;
use lifecycle_http::Limits;

/// The number of streams that a client may have open at a time. haproxy allows as many.
const STREAMS: u32 = 100;

/// The bytes that are read from an upstream at once over HTTP/1.1. It is also the length of the
/// longest head of a response.
///
/// As large as the receive window that Linux begins with. If less were read, the upstream would have
/// to wait again and again until its window opens.
const UPSTREAM: usize = 64 * 1024;

/// The bytes that are read from a client at once over HTTP/1.1, and that may wait to be written to
/// the client. It is also the length of the longest head of a request.
const CLIENT: usize = 32 * 1024;

/// The bytes that may wait to be sent on a stream of HTTP/2, before the body is asked for more.
const SEND: usize = 16 * 1024;

/// The bytes that a sender may send on a stream of HTTP/2 while the proxy does not read from it.
const WINDOW: u32 = 64 * 1024;

/// The bytes that the kernel takes for an upstream before it has sent the earlier ones. Without a
/// bound it takes 4 MB, as for a client, where `lifecycle-http` has the same bound.
pub const UNSENT: u32 = 128 * 1024;

/// Bounds the memory of the connection of a client.
pub const fn bound_server(limits: &mut Limits) {
    limits.max_head = CLIENT;
    limits.max_streams = STREAMS;
    limits.send_buffer = SEND;
    limits.stream_window = WINDOW;
}

/// Bounds the memory of connections to upstreams in HTTP/1.1.
pub fn bound_http1(builder: &mut http1::Builder) {
    builder.read_buf_exact_size(Some(UPSTREAM));
}

/// Bounds the memory of connections to upstreams in HTTP/2.
pub fn bound_http2(builder: &mut legacy::Builder) {
    builder
        .http2_max_send_buf_size(SEND)
        .http2_initial_stream_window_size(WINDOW)
        // Very large, since the streams of many clients share the connection's window, so one
        // client could stop the others.
        .http2_initial_connection_window_size(1 << 30);
}
