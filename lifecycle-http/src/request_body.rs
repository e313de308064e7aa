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
pub struct RequestBody(Option<Arriving>);

/// A body that has not ended.
struct Arriving {
    body: Incoming,
    /// The connection's activity; `None` if the body came by no server of this crate.
    activity: Option<Arc<Activity>>,
    /// The limits for a client that is waited for; `None` if it may be silent for as long as it likes.
    pace: Option<Pace>,
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
        if ended {
            return Self::empty();
        }
        Self(Some(Arriving {
            body,
            activity: Some(activity),
            pace,
        }))
    }

    /// Makes a body without a byte: for requests that a service makes itself.
    pub const fn empty() -> Self {
        Self(None)
    }

    fn ends(&mut self) {
        let activity = self.0.take().and_then(|it| it.activity);
        if let Some(activity) = activity.filter(|it| !it.is_h2()) {
            activity.unread(false);
        }
    }
}

/// Takes a body that came by another server. Nothing limits how long it waits.
impl From<Incoming> for RequestBody {
    fn from(body: Incoming) -> Self {
        Self(Some(Arriving {
            body,
            activity: None,
            pace: None,
        }))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(this) = &mut self.0 else {
            return Poll::Ready(None);
        };
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
                if let Some(activity) = &this.activity {
                    activity.moved();
                }
                // A body of known length is not asked again after its last byte.
                if this.body.is_end_stream() {
                    self.ends();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                self.ends();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyError::Broken(error)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|it| it.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Some(arriving) => arriving.body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody")
            .field("ended", &self.is_end_stream())
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
