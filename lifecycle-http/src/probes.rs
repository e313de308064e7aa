//! The answers to the probes `/livez` and `/readyz`.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use lifecycle_runtime::Readiness;
use tower_service::Service;

/// A tower service that answers `/livez` and `/readyz` from a [`Readiness`], to mount beside other services.
///
/// `/livez` is always 200, also while the server drains: a server that drains must not be killed for it. `/readyz` is
/// 200 while the server is ready. While the server starts, is set unready or drains, `/readyz` is 503 and says why.
///
/// ```
/// use lifecycle_http::Probes;
/// use lifecycle_runtime::Readiness;
///
/// let readiness = Readiness::new();
/// let probes = Probes::new(&readiness);
/// assert_eq!(probes.answer("/livez").unwrap().status(), 200);
/// assert_eq!(probes.answer("/readyz").unwrap().status(), 503);
/// readiness.set_ready();
/// assert_eq!(probes.answer("/readyz").unwrap().status(), 200);
/// assert!(probes.answer("/").is_none());
/// ```
#[derive(Clone, Debug)]
pub struct Probes {
    readiness: Readiness,
}

/// The body of an answer of [`Probes`]: a few words of text.
#[derive(Clone, Debug, Default)]
pub struct ProbeBody(Option<Bytes>);

impl Probes {
    /// Creates the service, which answers by the state of `readiness`.
    pub fn new(readiness: &Readiness) -> Self {
        Self {
            readiness: readiness.clone(),
        }
    }

    /// Returns the response if `path` is `/livez` or `/readyz`, otherwise `None`. Handlers of your own can call this.
    pub fn answer(&self, path: &str) -> Option<Response<ProbeBody>> {
        match path {
            "/livez" => Some(text(StatusCode::OK, "live".into())),
            "/readyz" if self.readiness.is_ready() => Some(text(StatusCode::OK, "ready".into())),
            "/readyz" => {
                let state = self.readiness.state();
                Some(text(StatusCode::SERVICE_UNAVAILABLE, state.to_string()))
            }
            _ => None,
        }
    }
}

fn text(status: StatusCode, text: String) -> Response<ProbeBody> {
    let mut response = Response::new(ProbeBody(Some(text.into())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Answers paths other than `/livez` and `/readyz` with 404, and methods other than GET and HEAD with 405.
impl<B> Service<Request<B>> for Probes {
    type Response = Response<ProbeBody>;
    type Error = Infallible;
    type Future = Ready<Result<Response<ProbeBody>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = self.answer(request.uri().path());
        ready(Ok(match answer {
            None => text(StatusCode::NOT_FOUND, "not found".into()),
            Some(answer) if [Method::GET, Method::HEAD].contains(request.method()) => answer,
            Some(_) => text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD".into()),
        }))
    }
}

impl Body for ProbeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|text| Ok(Frame::data(text))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |text| text.len() as u64))
    }
}
