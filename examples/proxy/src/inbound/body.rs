//! The body of a request, which passes through without being buffered.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use lifecycle_http::{BodyError, RequestBody};

use crate::message::trailers;

/// The body of a request. It yields no trailers that must not be passed on.
#[derive(Debug)]
pub struct Upload(RequestBody);

impl Upload {
    /// Wraps the body of a request.
    #[must_use]
    pub const fn new(body: RequestBody) -> Self {
        Self(body)
    }

    /// Creates an empty body.
    #[must_use]
    pub const fn empty() -> Self {
        Self(RequestBody::empty())
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.0).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map(trailers::purify)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
