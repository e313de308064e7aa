//! The body of a request. Reading it fails when its client stops sending, so nothing waits for that client for ever.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::link::Link;
use crate::pace::Pace;

/// The body of a request, as it arrives.
///
/// Reading the body fails if the client stops sending it: see [`Limits::stall`](crate::Limits::stall).
pub struct RequestBody(Option<Box<Arriving>>);

/// A request's body that has not ended. It is boxed, since requests are moved often and most have no body.
struct Arriving {
    body: Incoming,
    /// The connection; `None` if another server than this crate's received the body.
    link: Option<Arc<Link>>,
    /// The limits on how long the body waits for its client; `None` if the client may be silent for as long as it
    /// likes.
    pace: Option<Pace>,
}

/// The reason why a request's body could not be read to its end.
#[derive(Debug)]
#[non_exhaustive]
pub enum BodyError {
    /// The client stopped sending the body, or sent it too slowly.
    Stalled,
    /// The connection broke, or the client violated the protocol.
    Broken(hyper::Error),
}

impl RequestBody {
    pub(crate) fn new(
        body: Incoming,
        link: &Arc<Link>,
        pace: impl FnOnce() -> Option<Pace>,
    ) -> Self {
        let ended = body.is_end_stream();
        if !link.activity.is_h2() {
            link.activity.unread(!ended);
        }
        if ended {
            return Self::empty();
        }
        Self(Some(Box::new(Arriving {
            body,
            link: Some(Arc::clone(link)),
            pace: pace(),
        })))
    }

    /// Creates an empty body, for requests that a service makes itself.
    pub const fn empty() -> Self {
        Self(None)
    }

    fn ends(&mut self) {
        let link = self.0.take().and_then(|it| it.link);
        if let Some(link) = link.filter(|it| !it.activity.is_h2()) {
            link.activity.unread(false);
        }
    }
}

/// Takes a body that another server than this crate's received. Nothing limits how long this body waits for its client.
impl From<Incoming> for RequestBody {
    fn from(body: Incoming) -> Self {
        if body.is_end_stream() {
            return Self::empty();
        }
        Self(Some(Box::new(Arriving {
            body,
            link: None,
            pace: None,
        })))
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
                if let Some(link) = &this.link {
                    link.activity.moved();
                }
                // hyper does not ask a body of known length again after its last byte, so the end of the body is
                // noticed here.
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
