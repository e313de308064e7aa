//! One client of a feed: a response's body, of whole events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::hub::Hub;
use crate::streams::events;

/// A comment, which clients skip: it shows both sides that the other is there.
const BEAT: Bytes = Bytes::from_static(b":\n\n");

/// A stream of events. Dropping it is to leave.
pub struct Listener {
    hub: Arc<Hub>,
    number: u64,
    missed: VecDeque<Bytes>,
    live: mpsc::Receiver<Bytes>,
    beat: Interval,
    ended: bool,
}

impl Listener {
    pub(super) fn new(
        hub: Arc<Hub>,
        number: u64,
        missed: VecDeque<Bytes>,
        live: mpsc::Receiver<Bytes>,
        beat: Duration,
    ) -> Self {
        let mut beat = interval(beat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            hub,
            number,
            missed,
            live,
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
        if let Some(event) = self.missed.pop_front() {
            return Poll::Ready(Some(event));
        }
        let Poll::Ready(event) = self.live.poll_recv(cx) else {
            return Poll::Pending;
        };
        self.beat.reset();
        self.ended = event.is_none();
        if self.ended && !self.hub.has_ended() {
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

impl Drop for Listener {
    fn drop(&mut self) {
        self.hub.leave(self.number);
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
