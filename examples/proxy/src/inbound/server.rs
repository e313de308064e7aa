//! The HTTP servers of this proxy: for clients, for the admin listener, and for the demo upstream.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use lifecycle_http::{AmbiguousLength, HttpBuilder, HttpServer, Limits, Refusal, RequestBody};
use lifecycle_runtime::BoxError;
use pin_project_lite::pin_project;

use crate::buffers;
use crate::config::Timeouts;
use crate::inbound::body::Upload;
use crate::inbound::link::Link;
use crate::inbound::sockets::Listener;
use crate::message::request::Ambiguous;

/// The response to a client when the number of connections is at its limit.
const REFUSAL: &str = "HTTP/1.1 503 Service Unavailable\r\n\
    Connection: close\r\n\
    Retry-After: 1\r\n\
    Proxy-Status: lifecycle-proxy; error=connection_limit_reached\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 47\r\n\r\n\
    503 Service Unavailable: too many connections.\n";

/// The response to a client while the proxy is overloaded.
const OVERLOAD: &str = "HTTP/1.1 503 Service Unavailable\r\n\
    Connection: close\r\n\
    Retry-After: 1\r\n\
    Proxy-Status: lifecycle-proxy; error=proxy_internal_response\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 51\r\n\r\n\
    503 Service Unavailable: this proxy is overloaded.\n";

/// The time after which a silent HTTP/2 client gets a ping, and the time that it then has to
/// answer.
const PING: Duration = Duration::from_secs(20);

/// The longest time for which the server still reads from a connection that it closes. A client
/// that is still sending can read the response then.
const LINGER: Duration = Duration::from_secs(5);

/// A client's connection, and the handler of its requests.
///
/// The requests of a connection share it in an `Arc` that no other connection has. A reference count
/// that requests of different threads changed would slow all of them down.
#[derive(Debug)]
pub struct Served<H> {
    /// The handler.
    pub handler: H,
    /// The connection.
    pub link: Link,
}

/// A handler that answers requests. Each connection has a clone of it.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The body of the handler's responses.
    type Body: Body<Data: Send, Error: Into<BoxError>> + Send + 'static;

    /// Answers a request. A failure is also answered with a response.
    fn handle(
        served: Arc<Served<Self>>,
        request: Request<Upload>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// Returns the limits of client connections. They come from the two times in `timeouts` that
/// concern clients.
#[must_use]
pub fn limits_of(timeouts: &Timeouts) -> Limits {
    let idle = timeouts.idle.duration();
    let mut limits = Limits::default();
    limits.header_read_timeout = timeouts.client_hello.duration();
    limits.idle = idle;
    limits.silence = idle;
    // The limit for a connection with bytes in one direction only, such as HTTP/2 pings. A
    // connection without any bytes reaches the limit `silence` first.
    limits.stall = idle + Duration::from_secs(1);
    limits.min_bytes_per_second = 0;
    limits.ping = PING;
    limits.pong = PING;
    limits.linger = LINGER;
    buffers::bound_server(&mut limits);
    limits
}

/// Returns a builder of an HTTP server on these listening sockets.
pub fn listen(listeners: impl IntoIterator<Item = Listener>, limits: Limits) -> HttpBuilder {
    let sockets = listeners.into_iter().map(|listener| listener.socket.into());
    HttpServer::from_listeners(sockets)
        .limits(limits)
        .refuse_with(|refusal| {
            Bytes::from_static(match refusal {
                Refusal::Full => REFUSAL.as_bytes(),
                _ => OVERLOAD.as_bytes(),
            })
        })
        // The proxy ends event streams itself, since it counts the bytes of the closing event.
        .end_streams(false)
        .pass_ambiguous()
        // WebSocket over HTTP/2 is refused, since the proxy passes WebSocket on over HTTP/1.1 only.
        .extended_connect(false)
        .show_stages("the upstream")
}

/// Starts to accept connections, whose requests `handler` answers.
pub fn serve<H: Handler>(builder: HttpBuilder, handler: H) -> HttpServer {
    builder.serve_each(move |connection| {
        let link = Link::of(connection).ok_or("the client is gone")?;
        let handler = handler.clone();
        let served = Arc::new(Served { handler, link });
        let service = service_fn(move |request| answer(served.clone(), request));
        Ok::<_, &str>(service)
    })
}

/// Calls the handler at once and not in the future, which then contains the request only once.
fn answer<H: Handler>(
    served: Arc<Served<H>>,
    mut request: Request<RequestBody>,
) -> impl Future<Output = Result<Response<H::Body>, Infallible>> + Send {
    let extensions = request.extensions_mut();
    if extensions.remove::<AmbiguousLength>().is_some() {
        extensions.insert(Ambiguous);
    }
    Answered {
        response: H::handle(served, request.map(Upload::new)),
    }
}

pin_project! {
    /// A handler's future as that of a service that cannot fail. `map(Ok)` would do the same, but it has a state of its own,
    /// and the response would be copied twice more.
    struct Answered<F> {
        #[pin]
        response: F,
    }
}

impl<F: Future> Future for Answered<F> {
    type Output = Result<F::Output, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().response.poll(cx).map(Ok)
    }
}

/// Asks the client to close its connection after this response, because the proxy is overloaded or
/// is being replaced. `version` is that of the request.
pub fn ask_to_close<B>(version: Version, response: &mut Response<B>) {
    if version < Version::HTTP_2 && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_whole_responses() {
        for text in [REFUSAL, OVERLOAD] {
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(
                head.contains(&format!("Content-Length: {}", body.len())),
                "{text}"
            );
        }
    }
}
