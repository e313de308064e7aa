//! An exchange: one request and its response.

use std::future::poll_fn;
use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use lifecycle_runtime::{BoxError, Busy, Pass};
use tower_service::Service;

use crate::activity::Activity;
use crate::ending::{EndingBody, Messages};
use crate::link::Link;
use crate::pace::Pace;
use crate::response_body::ResponseBody;
use crate::{HttpConnection, RequestBody, SseBody};

/// The time from a request's head to the end of its response's body, or to when nobody works on it any more.
pub(crate) struct Exchange {
    activity: Arc<Activity>,
    number: usize,
    /// The client has yet to take what it was sent, on h2.
    owing: bool,
    answered: bool,
    upgraded: bool,
    _busy: Busy,
    // Last, so that once all passes have left nothing of an exchange is left.
    _pass: Option<Pass>,
}

impl Exchange {
    fn begin(link: &Link, request: &Request<Incoming>) -> Self {
        Self {
            number: link.activity.begins(request.method(), request.uri()),
            activity: Arc::clone(&link.activity),
            owing: false,
            answered: false,
            upgraded: false,
            _busy: link.connection.busy(),
            // Closed once all connections have ended: nobody asks then.
            _pass: link.common.exchanges.enter().ok(),
        }
    }

    pub(crate) fn is_h2(&self) -> bool {
        self.activity.is_h2()
    }

    /// The answer begins, or the service has failed: in any case the client did not give up.
    pub(crate) fn answers(&mut self) {
        if !self.answered {
            self.answered = true;
            self.activity.answers();
        }
    }

    pub(crate) fn owes(&mut self, owes: bool) {
        if self.owing != owes && self.is_h2() {
            self.owing = owes;
            self.activity.owes(owes);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.owes(false);
        if !self.answered {
            self.activity.abandons();
        }
        self.activity.ends(self.number, self.upgraded);
    }
}

/// Answers a request.
pub(crate) async fn answer<S, B>(
    mut service: S,
    request: Request<Incoming>,
    link: HttpConnection,
) -> Result<Response<ResponseBody<B>>, BoxError>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error: Into<BoxError>>,
    B: Body,
{
    let mut exchange = Exchange::begin(link.link(), &request);
    let connects = request.method() == Method::CONNECT;
    let version = request.version();
    let common = &link.link().common;
    let ambiguous = !exchange.is_h2() && link.link().activity.is_ambiguous();
    let mut request = prepare(request, &link);
    if ambiguous {
        if !common.passes_ambiguous {
            return Ok(bad_request(exchange));
        }
        request.extensions_mut().insert(AmbiguousLength(()));
    }
    let called = async {
        poll_fn(|cx| service.poll_ready(cx)).await?;
        service.call(request).await
    };
    let mut response = called.await.map_err(|error| {
        exchange.answers();
        error.into()
    })?;

    exchange.upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS
        || (connects && response.status().is_success());
    let last = ambiguous || link.close_reason().is_some();
    if !exchange.upgraded && version <= Version::HTTP_11 && last {
        // Said here, as the connection itself may not have been told yet.
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if !common.ends_streams {
        return Ok(response.map(|body| ResponseBody::plain(body, exchange)));
    }
    let events = is_event_stream(response.headers());
    let messages = messages(response.headers(), exchange.is_h2(), &common.lines);
    Ok(response.map(|body| {
        if events {
            ResponseBody::events(SseBody::new(body, link.connection()), exchange)
        } else if let Some(messages) = messages {
            let ending = EndingBody::new(body, messages, link.connection(), &common.limits);
            ResponseBody::ending(ending, exchange)
        } else {
            ResponseBody::plain(body, exchange)
        }
    }))
}

/// A mark in the extensions of a request over HTTP/1.1 whose length is ambiguous, or that came after such a one on its
/// connection: see [`HttpBuilder::pass_ambiguous`](crate::HttpBuilder::pass_ambiguous).
#[derive(Clone, Copy, Debug)]
pub struct AmbiguousLength(());

/// Refuses a request whose length is ambiguous (RFC 9112 §6.1, §11.2). Closes the connection, since it is not certain either
/// where the next request begins.
fn bad_request<B: Body>(exchange: Exchange) -> Response<ResponseBody<B>> {
    let mut response = Response::new(ResponseBody::empty(exchange));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

fn prepare(request: Request<Incoming>, link: &HttpConnection) -> Request<RequestBody> {
    let pace = (!is_grpc(request.headers())).then(|| Pace::new(&link.link().common.limits));
    let (mut head, body) = request.into_parts();
    head.extensions.insert(link.clone());
    Request::from_parts(
        head,
        RequestBody::new(body, Arc::clone(&link.link().activity), pace),
    )
}

/// Whether a request is one of gRPC, whose streams may be silent for as long as they like.
fn is_grpc(headers: &HeaderMap) -> bool {
    begins(headers, "application/grpc")
}

/// Returns the kind of a response's messages, if it is a stream that may be ended between two of them. It has neither a
/// length nor a coding, which would hide them.
fn messages(headers: &HeaderMap, h2: bool, lines: &[String]) -> Option<Messages> {
    if headers.contains_key(CONTENT_ENCODING) || headers.contains_key(CONTENT_LENGTH) {
        return None;
    }
    if h2 && is_kind(headers, "application/grpc") {
        return Some(Messages::grpc());
    }
    let is_lines = lines.iter().any(|kind| is_kind(headers, kind));
    is_lines.then(Messages::lines)
}

/// Whether the content is of a type, with a suffix and parameters or without: `application/grpc+proto`, but not
/// `application/grpc-web`.
fn is_kind(headers: &HeaderMap, kind: &str) -> bool {
    let value = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let next = value.and_then(|value| value.get(kind.len()));
    begins(headers, kind) && next.is_none_or(|next| b"+; \t".contains(next))
}

/// Whether a response is an event stream whose bytes are not encoded.
fn is_event_stream(headers: &HeaderMap) -> bool {
    begins(headers, "text/event-stream") && !headers.contains_key(CONTENT_ENCODING)
}

fn begins(headers: &HeaderMap, kind: &str) -> bool {
    let value = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    value
        .and_then(|value| value.get(..kind.len()))
        .is_some_and(|value| value.eq_ignore_ascii_case(kind.as_bytes()))
}
