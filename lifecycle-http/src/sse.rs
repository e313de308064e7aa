//! Event streams that the server ends between two events when it shuts down.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use lifecycle_runtime::Connection;
use pin_project_lite::pin_project;

/// The milliseconds after which clients reconnect. Each client is told a random time in this range, so that they do not
/// all reconnect at once.
const RETRY: RangeInclusive<u64> = 500..=3_000;

pin_project! {
    /// An event stream (`text/event-stream`) that ends when its connection should close. It ends after the current
    /// event, with a last event that tells the client a random time to reconnect (`retry:`). Clients reconnect by
    /// themselves, and send the id of the last event that they saw.
    ///
    /// [`HttpServer`](crate::HttpServer) wraps responses of that type by itself, unless they have a `content-encoding`.
    /// For other servers, such as axum's own, wrap the body yourself:
    ///
    /// ```
    /// use http::{HeaderValue, Response, header::CONTENT_TYPE};
    /// use http_body::Body;
    /// use lifecycle_http::SseBody;
    /// use lifecycle_runtime::ShutdownHandle;
    ///
    /// fn events<B: Body>(handle: &ShutdownHandle, body: B) -> Response<SseBody<B>> {
    ///     let mut response = Response::new(SseBody::until(body, handle.token().cancelled_owned()));
    ///     let kind = HeaderValue::from_static("text/event-stream");
    ///     response.headers_mut().insert(CONTENT_TYPE, kind);
    ///     response
    /// }
    /// ```
    pub struct SseBody<B> {
        #[pin]
        body: B,
        closing: Pin<Box<dyn Future<Output = ()> + Send>>,
        state: State,
        tail: Tail,
        retry: RangeInclusive<u64>,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The connection should close, but the stream is in the middle of an event.
    Told,
    Ended,
}

/// The number of line ends at the end of the bytes that were sent. An event ends with two line ends.
#[derive(Clone, Copy, Debug)]
struct Tail {
    line_ends: u8,
}

impl Tail {
    /// The state before the first byte. It counts as a boundary, because no event has begun that could be cut in two.
    const START: Self = Self { line_ends: 2 };

    fn sent(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => self.line_ends = self.line_ends.saturating_add(1),
                b'\r' => {}
                _ => self.line_ends = 0,
            }
        }
    }

    fn is_boundary(self) -> bool {
        self.line_ends >= 2
    }
}

impl<B> SseBody<B> {
    /// Creates an event stream of `body` that ends when `connection` should close.
    pub fn new(body: B, connection: &Connection) -> Self {
        let connection = connection.clone();
        Self::until(body, async move {
            connection.cancelled().await;
        })
    }

    /// Creates an event stream of `body` that ends when `closing` is ready, for servers other than this crate's.
    pub fn until(body: B, closing: impl Future<Output = ()> + Send + 'static) -> Self {
        Self {
            body,
            closing: Box::pin(closing),
            state: State::Open,
            tail: Tail::START,
            retry: RETRY,
        }
    }

    /// Sets the range of times after which clients should reconnect. Each client is told a random time in this range,
    /// to the millisecond. Default: 0.5 to 3 s.
    #[must_use]
    pub fn retry(mut self, range: RangeInclusive<Duration>) -> Self {
        let millis = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.retry = millis(range.start())..=millis(range.end());
        self
    }
}

/// Returns the last event of a stream, which contains only the time to reconnect (`retry:`), random in the range.
fn farewell(retry: &RangeInclusive<u64>) -> Bytes {
    let width = retry.end().saturating_sub(*retry.start()).saturating_add(1);
    // Each `RandomState` has keys of its own, so the hash of 0 is a different number each time.
    let jitter = RandomState::new().hash_one(0) % width;
    format!("retry: {}\n\n", retry.start().saturating_add(jitter)).into()
}

impl<B: Body> Body for SseBody<B> {
    /// The bytes of the inner body, and of the last event. They are not copied if the inner body's data are `Bytes`.
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        if *this.state == State::Ended {
            return Poll::Ready(None);
        }
        if *this.state == State::Open && this.closing.as_mut().poll(cx).is_ready() {
            *this.state = State::Told;
        }
        if *this.state == State::Told && this.tail.is_boundary() {
            *this.state = State::Ended;
            return Poll::Ready(Some(Ok(Frame::data(farewell(this.retry)))));
        }
        let frame = ready!(this.body.poll_frame(cx));
        let frame = frame.map(|frame| {
            frame.map(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
        });
        if let Some(Ok(frame)) = &frame {
            if let Some(data) = frame.data_ref() {
                this.tail.sent(data);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // The stream may end before the inner body does, and then it has one event more.
        SizeHint::default()
    }
}

impl<B> fmt::Debug for SseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseBody")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_ends_with_an_empty_line_however_it_is_cut() {
        let mut tail = Tail::START;
        assert!(tail.is_boundary());
        for (bytes, boundary) in [
            ("data: a", false),
            ("\r\n", false),
            ("\r\n", true),
            ("data: b\n\n", true),
            ("\n", true),
            ("d", false),
        ] {
            tail.sent(bytes.as_bytes());
            assert_eq!(tail.is_boundary(), boundary, "after {bytes:?}");
        }
    }

    #[test]
    fn clients_are_told_different_times_in_the_range() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..100 {
            let text = farewell(&(500..=3_000));
            let text = std::str::from_utf8(&text).unwrap();
            let millis: u64 = text
                .strip_prefix("retry: ")
                .unwrap()
                .trim_end()
                .parse()
                .unwrap();
            assert!((500..=3_000).contains(&millis) && text.ends_with("\n\n"));
            seen.insert(millis);
        }
        assert!(seen.len() > 10, "{seen:?}");
        assert_eq!(farewell(&(7..=7)), "retry: 7\n\n");
    }
}
