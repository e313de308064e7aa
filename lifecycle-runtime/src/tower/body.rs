//! The response body. It holds the request's pass until the body ends.

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
        // The pass is the last field, so that the body is dropped before it.
        pass: Option<Pass>,
    }
}

impl<B> ShutdownBody<B> {
    /// Creates the body of a refusal. With an error in `reset` the body fails with that error; otherwise the body is
    /// empty.
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
        // The pass is dropped at once with an empty body, since a server may never poll such a body to its end.
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
        // The pass is also dropped after the last frame, since a server may not poll a body of known length again after
        // that.
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
            // There is no exact size here, or the server would announce a length of a body that then fails.
            None if self.reset.is_some() => SizeHint::default(),
            None => SizeHint::with_exact(0),
        }
    }
}
