//! An exchange: one request and its response.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use lifecycle_runtime::{BoxError, Busy, Pass};
use pin_project_lite::pin_project;

use crate::activity::Activity;
use crate::ending::{EndingBody, Messages};
use crate::link::Common;
use crate::pace::Pace;
use crate::response_body::{BoxedBody, ResponseBody};
use crate::{HttpConnection, RequestBody, SseBody};

/// An exchange of a request and its response. It begins with the request's head. It ends when the response's body is
/// dropped, or when the request is given up before that.
pub(crate) struct Exchange {
    link: HttpConnection,
    number: usize,
    /// Whether the client has yet to take bytes of the response's body, on h2.
    owing: bool,
    answered: bool,
    upgraded: bool,
    _busy: Busy,
    // The pass is the last field, so that it is dropped last: once all passes are gone, nothing of any exchange is
    // left.
    _pass: Option<Pass>,
}

impl Exchange {
    fn begin(connection: HttpConnection, request: &Request<Incoming>) -> Self {
        let link = connection.link();
        Self {
            number: link.activity.begins(request.method(), request.uri()),
            owing: false,
            answered: false,
            upgraded: false,
            _busy: link.connection.busy(),
            // The gate is closed only when all connections have ended or are cut, and nobody asks for the number of
            // exchanges then.
            _pass: link.common.exchanges.enter().ok(),
            link: connection,
        }
    }

    fn activity(&self) -> &Activity {
        &self.link.link().activity
    }

    fn common(&self) -> &Common {
        &self.link.link().common
    }

    pub(crate) fn is_h2(&self) -> bool {
        self.activity().is_h2()
    }

    /// Records that the response begins or that the service has failed. In both cases the client did not give the
    /// request up, so the request does not count as given up.
    pub(crate) fn answers(&mut self) {
        if !self.answered {
            self.answered = true;
            self.activity().answers();
        }
    }

    pub(crate) fn owes(&mut self, owes: bool) {
        if self.owing != owes && self.is_h2() {
            self.owing = owes;
            self.activity().owes(owes);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.owes(false);
        if !self.answered {
            self.activity().abandons();
        }
        self.activity().ends(self.number, self.upgraded);
    }
}

/// Answers a request with the response of `service`. `shows_connection` is whether the request's extensions contain the
/// connection.
///
/// The service is called at once and not in the future, which then contains no request. hyper moves the future.
pub(crate) fn answer<S, B>(
    service: &S,
    mut request: Request<Incoming>,
    connection: &HttpConnection,
    shows_connection: bool,
) -> Answer<S::Future>
where
    S: Service<Request<RequestBody>, Response = Response<B>>,
{
    let exchange = Exchange::begin(connection.clone(), &request);
    let connects = request.method() == Method::CONNECT;
    let version = request.version();
    let ambiguous = !exchange.is_h2() && exchange.activity().is_ambiguous();
    if ambiguous && !exchange.common().passes_ambiguous {
        return Answer {
            called: None,
            exchange: Some(exchange),
            connects,
            version,
            ambiguous,
        };
    }
    if ambiguous {
        request.extensions_mut().insert(AmbiguousLength(()));
    }
    if shows_connection {
        request.extensions_mut().insert(connection.clone());
    }
    let link = connection.link();
    let paced = !request.body().is_end_stream() && !is_grpc(request.headers());
    let pace = || paced.then(|| Pace::new(&link.common.limits));
    Answer {
        called: Some(service.call(request.map(|body| RequestBody::new(body, link, pace)))),
        exchange: Some(exchange),
        connects,
        version,
        ambiguous,
    }
}

pin_project! {
    /// The future of the response to a request.
    pub(crate) struct Answer<F> {
        // The future of the service; `None` if the request is refused.
        #[pin]
        called: Option<F>,
        // Taken out by the response.
        exchange: Option<Exchange>,
        connects: bool,
        version: Version,
        ambiguous: bool,
    }
}

impl<F, B, E> Future for Answer<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
    E: Into<BoxError>,
{
    type Output = Result<Response<BoxedBody<B>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let after = || BoxError::from("polled after the response");
        let Some(called) = this.called.as_pin_mut() else {
            return Poll::Ready(this.exchange.take().map(bad_request).ok_or_else(after));
        };
        let answered = ready!(called.poll(cx));
        let mut exchange = this.exchange.take().ok_or_else(after)?;
        let mut response = match answered {
            Ok(response) => response,
            Err(error) => {
                exchange.answers();
                return Poll::Ready(Err(error.into()));
            }
        };
        exchange.upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS
            || (*this.connects && response.status().is_success());
        if exchange.upgraded && !exchange.is_h2() {
            // hyper gives the socket away once it has written this response.
            exchange.activity().wire.share();
        }
        let last = *this.ambiguous || exchange.link.close_reason().is_some();
        if !exchange.upgraded && *this.version <= Version::HTTP_11 && last {
            // The header is set here, because hyper sets it only once the connection's graceful shutdown has begun,
            // which may come too late.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        Poll::Ready(Ok(with_exchange(response, exchange)))
    }
}

/// Adds the exchange to the response's body, with whose drop it ends.
fn with_exchange<B: Body>(response: Response<B>, exchange: Exchange) -> Response<BoxedBody<B>> {
    let common = exchange.common();
    if !common.ends_streams {
        return response.map(|body| ResponseBody::plain(body, exchange));
    }
    let limits = common.limits;
    let events = is_event_stream(response.headers());
    let messages = messages(response.headers(), exchange.is_h2(), &common.lines);
    response.map(|body| {
        let connection = exchange.link.connection();
        if events {
            let events = SseBody::new(body, connection);
            ResponseBody::events(events, exchange)
        } else if let Some(messages) = messages {
            let ending = EndingBody::new(body, messages, connection, &limits);
            ResponseBody::ending(ending, exchange)
        } else {
            ResponseBody::plain(body, exchange)
        }
    })
}

/// A mark in the extensions of an HTTP/1.1 request. It says that the length of this request, or of an earlier one on
/// the connection, is ambiguous: see [`HttpBuilder::pass_ambiguous`](crate::HttpBuilder::pass_ambiguous).
#[derive(Clone, Copy, Debug)]
pub struct AmbiguousLength(());

/// Refuses a request whose length is ambiguous (RFC 9112 §6.1, §11.2). Closes the connection, because it is uncertain
/// where the next request begins.
fn bad_request<B: Body>(exchange: Exchange) -> Response<BoxedBody<B>> {
    let mut response = Response::new(ResponseBody::empty(exchange));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

/// Returns whether a request is a gRPC call, whose streams may be silent for as long as they like.
fn is_grpc(headers: &HeaderMap) -> bool {
    begins(headers, "application/grpc")
}

/// Returns the kind of a response's messages, if the server may end the response between two of them. A response with a
/// content length cannot end early, and a content coding would hide where messages end.
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

/// Returns whether the content is of type `kind`, with or without a suffix and parameters: `application/grpc+proto` is
/// of type `application/grpc`, but `application/grpc-web` is not.
fn is_kind(headers: &HeaderMap, kind: &str) -> bool {
    let value = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let next = value.and_then(|value| value.get(kind.len()));
    begins(headers, kind) && next.is_none_or(|next| b"+; \t".contains(next))
}

/// Returns whether a response is an event stream without a content coding.
fn is_event_stream(headers: &HeaderMap) -> bool {
    begins(headers, "text/event-stream") && !headers.contains_key(CONTENT_ENCODING)
}

fn begins(headers: &HeaderMap, kind: &str) -> bool {
    let value = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    value
        .and_then(|value| value.get(..kind.len()))
        .is_some_and(|value| value.eq_ignore_ascii_case(kind.as_bytes()))
}
