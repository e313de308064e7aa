//! Bodies on their way through, never held in memory: they tell the clock of
//! their connection where it stands.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::Version;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::inbound::activity::Activity;
use crate::message::trailers;

/// A request's body as its client sends it. The connection's [`Activity`] hears
/// of its end.
#[derive(Debug)]
pub struct Upload(Option<(Incoming, Arc<Activity>)>);

impl Upload {
    /// The body of the request that `activity` is in.
    #[must_use]
    pub fn new(body: Incoming, activity: Arc<Activity>) -> Self {
        if body.is_end_stream() {
            activity.request_ended();
            return Self::empty();
        }
        Self(Some((body, activity)))
    }

    /// No body.
    #[must_use]
    pub const fn empty() -> Self {
        Self(None)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some((body, activity)) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        // A body of known length is not asked again after its last byte.
        if !matches!(frame, Some(Err(_))) && body.is_end_stream() {
            activity.request_ended();
            self.0 = None;
        }
        let frame = frame.map(|frame| frame.map(trailers::purify));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Some((body, _)) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

/// The time from a request's head to the end of its response, or to when nobody
/// works on it any more.
#[derive(Debug)]
pub struct InExchange {
    activity: Arc<Activity>,
    /// Others go on at the same time, on the same connection.
    multiplexed: bool,
    answered: bool,
}

impl InExchange {
    /// Begins.
    #[must_use]
    pub fn begin(activity: Arc<Activity>, version: Version) -> Self {
        let multiplexed = version >= Version::HTTP_2;
        if multiplexed {
            activity.stream_begins();
        } else {
            activity.exchange_begins();
        }
        Self {
            activity,
            multiplexed,
            answered: false,
        }
    }

    fn answered(&mut self) {
        self.answered = true;
        if self.multiplexed {
            self.activity.stream_answered();
        } else {
            self.activity.answered();
        }
    }
}

impl Drop for InExchange {
    fn drop(&mut self) {
        match (self.multiplexed, self.answered) {
            (false, _) => self.activity.exchange_ended(),
            (true, false) => self.activity.stream_abandoned(),
            (true, true) => {}
        }
    }
}

/// A response's body, with the exchange that ends with it.
#[derive(Debug)]
pub struct Answer<B> {
    body: B,
    _exchange: InExchange,
}

impl<B> Answer<B> {
    /// The response begins.
    pub fn new(body: B, mut exchange: InExchange) -> Self {
        exchange.answered();
        Self {
            body,
            _exchange: exchange,
        }
    }
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
