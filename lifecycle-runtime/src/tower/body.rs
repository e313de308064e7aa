//! The response body, which holds the pass until it ends.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{BoxError, Pass};

pin_project! {
    /// The body of a response from a [`ShutdownService`](super::ShutdownService): the inner body, or the body of a
    /// refusal. A refusal's body is empty, or fails so that its stream is reset.
    #[derive(Debug)]
    pub struct ShutdownBody<B> {
        #[pin]
        body: Option<B>,
        reset: Option<BoxError>,
        // Last, so that the body is dropped first.
        pass: Option<Pass>,
    }
}

impl<B> ShutdownBody<B> {
    /// Creates the body of a refusal, which fails with this error, or is empty.
    pub(super) fn refused(reset: Option<BoxError>) -> Self {
        Self {
            body: None,
            reset,
            pass: None,
        }
    }
}

impl<B: Body> ShutdownBody<B> {
    pub(super) fn admitted(body: B, pass: Pass) -> Self {
        // An empty body may never be polled to its end.
        let pass = (!body.is_end_stream()).then_some(pass);
        Self {
            body: Some(body),
            reset: None,
            pass,
        }
    }
}

impl<B> Default for ShutdownBody<B> {
    fn default() -> Self {
        Self::refused(None)
    }
}

impl<B> Body for ShutdownBody<B>
where
    B: Body<Error: Into<BoxError>>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let this = self.project();
        let Some(mut body) = this.body.as_pin_mut() else {
            return Poll::Ready(this.reset.take().map(Err));
        };
        let frame = ready!(body.as_mut().poll_frame(cx));
        // A body of known length may not be polled again after its last frame.
        if !matches!(frame, Some(Ok(_))) || body.is_end_stream() {
            *this.pass = None;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Some(body) => body.is_end_stream(),
            None => self.reset.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            // No exact size, or the server would announce a length that never comes.
            None if self.reset.is_some() => SizeHint::default(),
            None => SizeHint::with_exact(0),
        }
    }
}
