//! The response future: the inner service's future with its pass, or a refusal that is ready.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;

use super::ShutdownBody;
use crate::Pass;

pin_project! {
    /// The response future of a [`ShutdownService`](super::ShutdownService).
    #[derive(Debug)]
    pub struct ShutdownFuture<F, B> {
        #[pin]
        state: State<F, B>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<F, B> {
        // The fields are dropped in this order: first the inner future, then the pass.
        Admitted { #[pin] inner: F, pass: Option<Pass> },
        Refused { response: Option<Response<ShutdownBody<B>>> },
    }
}

impl<F, B> ShutdownFuture<F, B> {
    pub(super) fn admitted(inner: F, pass: Pass) -> Self {
        let pass = Some(pass);
        Self {
            state: State::Admitted { inner, pass },
        }
    }

    pub(super) fn refused(response: Response<ShutdownBody<B>>) -> Self {
        let response = Some(response);
        Self {
            state: State::Refused { response },
        }
    }
}

/// Polling the future again after it was ready returns `Pending` for ever.
impl<F, B, E> Future for ShutdownFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: http_body::Body,
{
    type Output = Result<Response<ShutdownBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Admitted { inner, pass } => {
                let Some(held) = pass.take() else {
                    return Poll::Pending;
                };
                let polled = inner.poll(cx);
                if polled.is_pending() {
                    *pass = Some(held);
                    return Poll::Pending;
                }
                let response = ready!(polled)?;
                Poll::Ready(Ok(response.map(|body| ShutdownBody::admitted(body, held))))
            }
            StateProjection::Refused { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response)),
                None => Poll::Pending,
            },
        }
    }
}
