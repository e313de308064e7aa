//! The service behind the layer: it admits requests, or answers them with a refusal.

use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body::Body;
use tower_service::Service;

use super::{ShutdownBody, ShutdownFuture};
use crate::{BoxError, Gate};

/// A service behind a [`ShutdownLayer`](super::ShutdownLayer).
#[derive(Clone, Debug)]
pub struct ShutdownService<S> {
    inner: S,
    gate: Gate,
    retry_after: HeaderValue,
}

impl<S> ShutdownService<S> {
    pub(super) fn new(inner: S, gate: Gate, retry_after: Duration) -> Self {
        let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
        Self {
            inner,
            gate,
            retry_after: HeaderValue::from(seconds),
        }
    }

    /// Creates the response to a refused request. A gRPC response has a status header of its own, and gRPC clients read
    /// nothing else.
    fn refusal<B>(&self, version: Version, grpc: bool) -> Response<ShutdownBody<B>> {
        let mut response = Response::new(ShutdownBody::refused(reset(version)));
        let headers = response.headers_mut();
        headers.insert(RETRY_AFTER, self.retry_after.clone());
        // The header `Connection` has no meaning over HTTP/2, and is forbidden there (RFC 9113 §8.2.2).
        if version <= Version::HTTP_11 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if grpc {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from_static("14"));
            headers.insert("grpc-message", HeaderValue::from_static("shutting down"));
        } else {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        response
    }
}

/// Returns the error with which a refusal's body fails. hyper searches the sources of a body's error for an h2 error,
/// and resets the stream with that error's reason. `REFUSED_STREAM` tells the client that the server did nothing for
/// the request, so that any request may be repeated (RFC 9113 §8.7).
#[cfg(feature = "tower-h2")]
fn reset(version: Version) -> Option<BoxError> {
    (version == Version::HTTP_2).then(|| h2::Error::from(h2::Reason::REFUSED_STREAM).into())
}

#[cfg(not(feature = "tower-h2"))]
fn reset(_: Version) -> Option<BoxError> {
    None
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let kind = request
        .headers()
        .get(CONTENT_TYPE)
        .map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

impl<S, R, B> Service<Request<R>> for ShutdownService<S>
where
    S: Service<Request<R>, Response = Response<B>>,
    B: Body,
{
    type Response = Response<ShutdownBody<B>>;
    type Error = S::Error;
    type Future = ShutdownFuture<S::Future, B>;

    /// Returns ready once the gate is closed, even if the inner service is not ready: a refusal does not need the inner
    /// service.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        if self.gate.is_closed() {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        match self.gate.enter() {
            Ok(pass) => ShutdownFuture::admitted(self.inner.call(request), pass),
            Err(_) => ShutdownFuture::refused(self.refusal(request.version(), is_grpc(&request))),
        }
    }
}
