//! One client of a feed: a response's body, of whole events.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::hub::Subscription;
use crate::streams::events;

/// A comment, which clients skip: it shows both sides that the other is there.
const BEAT: Bytes = Bytes::from_static(b":\n\n");

/// A stream of events. Dropping it is to leave.
#[derive(Debug)]
pub struct Listener {
    events: Subscription,
    beat: Interval,
    ended: bool,
}

impl Listener {
    /// Sends `events`, and a comment whenever there was none for a `beat`.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(events: Subscription, beat: Duration) -> Self {
        let mut beat = interval(beat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            events,
            beat,
            ended: false,
        }
    }

    /// The next part of the stream.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        // The first beat is at once: it tells the client that the stream began.
        if self.ended {
            return Poll::Ready(None);
        }
        if self.beat.poll_tick(cx).is_ready() {
            return Poll::Ready(Some(BEAT));
        }
        let Poll::Ready(event) = self.events.poll_next(cx) else {
            return Poll::Pending;
        };
        self.beat.reset();
        self.ended = event.is_none();
        if self.ended && self.events.can_resume() {
            return Poll::Ready(Some(events::farewell()));
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
