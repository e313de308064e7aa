//! The body: holds the pass to its end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::Pass;

pin_project! {
    /// The body of a response that came through a [`ShutdownService`](super::ShutdownService): the inner one, or the empty
    /// one of a refusal.
    #[derive(Debug)]
    pub struct ShutdownBody<B> {
        #[pin]
        body: Option<B>,
        // Last, so that the body is dropped before it.
        pass: Option<Pass>,
    }
}

impl<B> ShutdownBody<B> {
    pub(super) fn empty() -> Self {
        Self {
            body: None,
            pass: None,
        }
    }
}

impl<B: Body> ShutdownBody<B> {
    pub(super) fn admitted(body: B, pass: Pass) -> Self {
        // One that is empty is not asked for its end.
        let pass = (!body.is_end_stream()).then_some(pass);
        Self {
            body: Some(body),
            pass,
        }
    }
}

impl<B> Default for ShutdownBody<B> {
    fn default() -> Self {
        Self::empty()
    }
}

impl<B: Body> Body for ShutdownBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let Some(mut body) = this.body.as_pin_mut() else {
            return Poll::Ready(None);
        };
        let frame = ready!(body.as_mut().poll_frame(cx));
        // A body of known length is not asked again after its last frame.
        if !matches!(frame, Some(Ok(_))) || body.is_end_stream() {
            *this.pass = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
