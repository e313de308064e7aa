//! The way of one request: judged, rewritten, sent on, its response sent back.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::{PathAndQuery, Scheme, Uri};
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use crate::activity::Activity;
use crate::body::Upload;
use crate::config::Upstream;
use crate::connection::{Handler, Link};
use crate::exchange::{Books, Download, Exchange};
use crate::fault::Fault;
use crate::headers::{self, Origin};
use crate::logging::Throttle;
use crate::request::{Verdict, judge};
use crate::upstream::Client;

/// Passes requests on to the upstream. A cheap clone.
#[derive(Clone, Debug)]
pub struct Forward(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    route: Route,
    books: Arc<Books>,
    complaints: Throttle,
}

/// Where requests go, and under which rules.
#[derive(Clone, Debug)]
pub struct Route {
    /// Where.
    pub upstream: Upstream,
    /// From the last byte of a request to the head of its response.
    pub response_limit: Duration,
    /// Whether an earlier proxy's word on host and scheme is kept.
    pub trust_forwarded: bool,
}

impl Forward {
    /// Sends requests along `route`, and enters them in `books`.
    #[must_use]
    pub fn new(client: Client, route: Route, books: Books) -> Self {
        Self(Arc::new(Inner {
            client,
            route,
            books: Arc::new(books),
            complaints: Throttle::default(),
        }))
    }
}

impl Handler for Forward {
    type Body = Download;

    async fn handle(&self, mut request: Request<Upload>, link: Link) -> Response<Download> {
        let exchange = Exchange::begin(&self.0.books, &request, &link);
        let response = match judge(&mut request) {
            Verdict::Pass(host) => self.0.pass(request, host, &link).await,
            Verdict::Answer(response) => Ok(response.map(Either::Right)),
            Verdict::Refuse(fault) => Err(fault),
        };
        exchange.answer(response.unwrap_or_else(|fault| self.0.fail(fault)))
    }
}

impl Inner {
    async fn pass(
        &self,
        request: Request<Upload>,
        host: Option<HeaderValue>,
        link: &Link,
    ) -> Result<Response<Either<Incoming, Full<Bytes>>>, Fault> {
        let (mut parts, body) = request.into_parts();
        self.readdress(&mut parts, host, link)?;
        let mut response = self.send(parts, body, &link.activity).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // No upgrade was asked for, so none can be meant.
            return Err(Fault::BadResponse);
        }
        let version = response.version();
        headers::for_client(response.headers_mut(), version);
        *response.version_mut() = Version::HTTP_11;
        Ok(response.map(Either::Left))
    }

    /// Makes the client's request this proxy's own.
    fn readdress(
        &self,
        parts: &mut Parts,
        host: Option<HeaderValue>,
        link: &Link,
    ) -> Result<(), Fault> {
        let origin = Origin {
            peer: link.peer,
            local: link.local,
            host: host.as_ref(),
        };
        let trust = self.route.trust_forwarded;
        headers::for_upstream(&mut parts.headers, parts.version, &origin, trust);
        let authority = self.route.upstream.authority();
        let host = match host {
            Some(host) => host,
            None => HeaderValue::try_from(authority.as_str()).map_err(|_| Fault::Unreachable)?,
        };
        parts.headers.insert(HOST, host);
        parts.version = Version::HTTP_11;
        let path = parts.uri.path_and_query().cloned();
        parts.uri = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(authority.clone())
            .path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("/")))
            .build()
            .map_err(|_| Fault::BadRequest("the target is not a path"))?;
        Ok(())
    }

    /// Sends the request, and once more if it may be repeated and the connection
    /// turned out to be dead: a kept connection can end while it is taken up.
    async fn send(
        &self,
        parts: Parts,
        body: Upload,
        activity: &Activity,
    ) -> Result<Response<Incoming>, Fault> {
        let again = may_repeat(&parts.method, &body).then(|| parts.clone());
        let first = self.attempt(Request::from_parts(parts, body), activity);
        match (first.await, again) {
            (Err(Fault::Terminated), Some(parts)) => {
                let request = Request::from_parts(parts, Upload::empty());
                self.attempt(request, activity).await
            }
            (result, _) => result,
        }
    }

    async fn attempt(
        &self,
        request: Request<Upload>,
        activity: &Activity,
    ) -> Result<Response<Incoming>, Fault> {
        let limit = self.route.response_limit;
        let mut response = pin!(self.client.request(request));
        let mut timer = pin!(sleep(limit));
        loop {
            tokio::select! {
                biased;
                response = response.as_mut() => return response.map_err(|error| {
                    let cause: &dyn std::error::Error = &error;
                    debug!(cause, "the upstream did not answer");
                    Fault::of_upstream(&error)
                }),
                () = timer.as_mut() => {
                    // The limit counts from the end of a request that takes long itself.
                    let due = activity.last_byte() + limit;
                    if due <= Instant::now() {
                        return Err(Fault::ResponseTimeout);
                    }
                    timer.as_mut().reset(due);
                }
            }
        }
    }

    fn fail(&self, fault: Fault) -> Response<Either<Incoming, Full<Bytes>>> {
        let upstream = &self.route.upstream;
        if fault.is_of_upstream() {
            let failures = self.books.metrics.upstream_failed(fault);
            if self.complaints.allows() {
                warn!(%upstream, %fault, failures, "the upstream failed");
            }
        }
        fault.response(upstream).map(Either::Right)
    }
}

/// Safe methods, without a body that is gone once it was sent.
fn may_repeat(method: &Method, body: &Upload) -> bool {
    method.is_safe() && body.is_end_stream()
}
