//! The response body for one client of a feed.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::broadcast::Subscription;
use crate::events;

/// A comment, which clients skip. It shows the client that the connection works, and shows the
/// proxy when the connection is broken.
const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");

/// A stream of events for one client. Dropping the stream ends the client's subscription.
#[derive(Debug)]
pub struct Listener {
    events: Subscription,
    heartbeat: Interval,
    ended: bool,
}

impl Listener {
    /// Creates a stream of `events`. It sends a comment whenever no event came for `heartbeat`.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(events: Subscription, heartbeat: Duration) -> Self {
        let mut heartbeat = interval(heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            events,
            heartbeat,
            ended: false,
        }
    }

    /// Returns the next event, a comment, or the closing event of a client that was too slow.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.heartbeat.poll_tick(cx).is_ready() {
            return Poll::Ready(Some(HEARTBEAT));
        }
        let Poll::Ready(event) = self.events.poll_next(cx) else {
            return Poll::Pending;
        };
        self.heartbeat.reset();
        self.ended = event.is_none();
        if self.ended && self.events.can_resume() {
            return Poll::Ready(Some(events::closing_event()));
        }
        Poll::Ready(event)
    }
}

impl Body for Listener {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.poll_next(cx);
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
