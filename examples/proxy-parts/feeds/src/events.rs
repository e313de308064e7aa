//! Server-sent events that pass through a proxy. Such a stream has no end of its own. So a shutdown
//! ends it between two events, and sends a `retry` to the client first.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::Response;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use lifecycle_runtime::{CloseReason, Connection};

/// The shortest reconnection time for clients, in milliseconds. The random addition to it is below
/// the same number.
const RETRY: u64 = 1000;

/// A watcher of a stream that passes, which tells when the stream may end between two events.
pub struct Events {
    closing: Pin<Box<dyn Future<Output = CloseReason> + Send>>,
    /// The last bytes of the stream that passed.
    tail: [u8; 4],
    ended: bool,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl Events {
    /// Creates a watcher if `response` is an event stream that the proxy can append to.
    #[must_use]
    pub fn of<B>(response: &Response<B>, connection: &Connection) -> Option<Self> {
        is_event_stream(response.headers()).then(|| {
            let connection = connection.clone();
            Self {
                closing: Box::pin(async move { connection.cancelled().await }),
                // Line ends, since a stream may end before its first event.
                tail: *b"\n\n\n\n",
                ended: false,
            }
        })
    }

    /// Records the last of the bytes that pass.
    pub fn pass(&mut self, bytes: &[u8]) {
        for byte in &bytes[bytes.len().saturating_sub(self.tail.len())..] {
            self.tail.rotate_left(1);
            self.tail[3] = *byte;
        }
    }

    /// Becomes ready with the closing event once the connection closes and the stream is between
    /// two events. The next poll returns `None`.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if !self.is_between_events() || self.closing.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.ended = true;
        Poll::Ready(Some(closing_event()))
    }

    /// Returns whether the bytes that passed end with an empty line, in any form of line end.
    fn is_between_events(&self) -> bool {
        self.tail.ends_with(b"\n\n")
            || self.tail.ends_with(b"\r\r")
            || self.tail.ends_with(b"\r\n\r\n")
    }
}

/// Returns the closing event of a stream that ends early: a `retry` with a random time, so that
/// clients do not all reconnect at once.
#[must_use]
pub fn closing_event() -> Bytes {
    let jitter = RandomState::new().hash_one(0) % RETRY;
    format!("retry: {}\n\n", RETRY + jitter).into()
}

/// Returns whether `headers` are the headers of an event stream.
#[must_use]
pub fn is_kind(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// Returns whether `headers` are the headers of an event stream to which the proxy can append an
/// event. It cannot if the stream is encoded or has a fixed length.
fn is_event_stream(headers: &HeaderMap) -> bool {
    is_kind(headers)
        && !headers.contains_key(CONTENT_ENCODING)
        && !headers.contains_key(CONTENT_LENGTH)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt as _;

    use super::*;

    fn events(connection: &Connection) -> Events {
        let response =
            Response::builder().header("content-type", "text/event-stream; charset=utf-8");
        Events::of(&response.body(()).unwrap(), connection).unwrap()
    }

    fn end(events: &mut Events) -> Option<Option<Bytes>> {
        poll_fn(|cx| events.poll_end(cx)).now_or_never()
    }

    #[test]
    fn a_stream_ends_between_events_only_and_once() {
        let connection = Connection::detached("client");
        let mut events = events(&connection);
        assert_eq!(end(&mut events), None);
        connection.close(CloseReason::Drain);
        events.pass(b"data: half");
        assert_eq!(end(&mut events), None);
        events.pass(b"\r");
        events.pass(b"\n\r");
        assert_eq!(end(&mut events), None);
        events.pass(b"\n");
        let words = end(&mut events).unwrap().unwrap();
        assert!(
            words.starts_with(b"retry: 1") && words.ends_with(b"\n\n"),
            "{words:?}"
        );
        assert_eq!(end(&mut events), Some(None));
    }

    #[test]
    fn only_plain_event_streams_are_watched() {
        for (name, value) in [
            ("content-type", "text/plain"),
            ("content-encoding", "gzip"),
            ("content-length", "7"),
        ] {
            let response = Response::builder().header("content-type", "text/event-stream");
            let mut response = response.body(()).unwrap();
            let value = hyper::header::HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
            assert!(
                Events::of(&response, &Connection::detached("client")).is_none(),
                "{name}"
            );
        }
    }
}
