//! A request's body that does not wait for its client for ever.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::activity::Activity;
use crate::pace::Pace;

/// The body of a request, as it arrives.
///
/// A client that stops sending it fails it: see [`Limits::stall`](crate::Limits::stall).
pub struct RequestBody {
    body: Incoming,
    activity: Arc<Activity>,
    /// None: it may be silent for as long as it likes.
    pace: Option<Pace>,
    ended: bool,
}

/// A request's body that could not be read to its end.
#[derive(Debug)]
#[non_exhaustive]
pub enum BodyError {
    /// The client stopped sending it, or sent it too slowly.
    Stalled,
    /// The connection or the protocol broke.
    Broken(hyper::Error),
}

impl RequestBody {
    pub(crate) fn new(body: Incoming, activity: Arc<Activity>, pace: Option<Pace>) -> Self {
        let ended = body.is_end_stream();
        if !activity.is_h2() {
            activity.unread(!ended);
        }
        Self {
            body,
            activity,
            pace,
            ended,
        }
    }

    fn ends(&mut self) {
        if !self.ended {
            self.ended = true;
            if !self.activity.is_h2() {
                self.activity.unread(false);
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending => match this.pace.as_mut().map(|pace| pace.poll_overdue(cx)) {
                Some(Poll::Ready(())) => Poll::Ready(Some(Err(BodyError::Stalled))),
                _ => Poll::Pending,
            },
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                if let Some(pace) = &mut this.pace {
                    pace.moved(length);
                }
                this.activity.moved();
                // A body of known length is not asked again after its last byte.
                if this.body.is_end_stream() {
                    this.ends();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                this.ends();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyError::Broken(error)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody")
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stalled => f.write_str("the client stopped sending the request's body"),
            Self::Broken(_) => f.write_str("the request's body broke"),
        }
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Stalled => None,
            Self::Broken(error) => Some(error),
        }
    }
}
