//! The body of a response, from an upstream, a feed, or the proxy itself.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use lifecycle_proxy_feeds::listener::Listener;
use lifecycle_runtime::BoxError;

use crate::message::trailers;
use crate::upstream::body::ResponseBody;

/// The body of a response, by its source.
#[derive(Debug)]
pub enum Content {
    /// The body of an upstream's response.
    Upstream(ResponseBody),
    /// A text that the proxy writes itself, such as the description of a fault.
    Own(Full<Bytes>),
    /// A stream of server-sent events from a feed or a program.
    Events(Listener),
}

impl Content {
    /// Creates an empty body.
    #[must_use]
    pub fn empty() -> Self {
        Self::Own(Full::default())
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Upstream(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                let frame = frame.map(|frame| frame.map(trailers::purify));
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Self::Own(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(|never| match never {})))
            }
            Self::Events(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(|never| match never {})))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Upstream(body) => body.is_end_stream(),
            Self::Own(body) => body.is_end_stream(),
            Self::Events(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Upstream(body) => body.size_hint(),
            Self::Own(body) => body.size_hint(),
            Self::Events(body) => body.size_hint(),
        }
    }
}
