//! The HTTP servers of this proxy: for clients, for the admin listener, and for the demo upstream.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use lifecycle_http::{AmbiguousLength, HttpBuilder, HttpServer, Limits, Refusal, RequestBody};
use lifecycle_runtime::BoxError;

use crate::buffers;
use crate::config::Timeouts;
use crate::inbound::body::Upload;
use crate::inbound::link::Link;
use crate::inbound::sockets::Listener;
use crate::message::request::Ambiguous;

/// The answer to a client above the limit.
const REFUSAL: &str = "HTTP/1.1 503 Service Unavailable\r\n\
    Connection: close\r\n\
    Retry-After: 1\r\n\
    Proxy-Status: lifecycle-proxy; error=connection_limit_reached\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 47\r\n\r\n\
    503 Service Unavailable: too many connections.\n";

/// The answer to a client while load is shed.
const OVERLOAD: &str = "HTTP/1.1 503 Service Unavailable\r\n\
    Connection: close\r\n\
    Retry-After: 1\r\n\
    Proxy-Status: lifecycle-proxy; error=proxy_internal_response\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 51\r\n\r\n\
    503 Service Unavailable: this proxy is overloaded.\n";

/// The time in which an HTTP/2 client must answer a ping.
const PING: Duration = Duration::from_secs(20);

/// The time for which a closed connection is still read, when its client was sending.
const LINGER: Duration = Duration::from_secs(5);

/// A handler that answers requests.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The body of the handler's responses.
    type Body: Body<Data: Send, Error: Into<BoxError>> + Send + 'static;

    /// Answers a request. Failures are responses, too.
    fn handle(
        &self,
        request: Request<Upload>,
        link: Link,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// Returns whether a connection should be closed after this request.
    fn is_pressed(&self) -> bool {
        false
    }
}

/// Returns the limits of client connections, from the two configured times.
#[must_use]
pub fn limits_of(timeouts: &Timeouts) -> Limits {
    let idle = timeouts.idle.duration();
    let mut limits = Limits::default();
    limits.header_read_timeout = timeouts.client_hello.duration();
    limits.idle = idle;
    limits.silence = idle;
    // The limit for bytes in one direction only, such as HTTP/2 pings. Without them `silence` ends
    // the connection first.
    limits.stall = idle + Duration::from_secs(1);
    limits.min_bytes_per_second = 0;
    limits.ping = PING;
    limits.pong = PING;
    limits.linger = LINGER;
    buffers::bound_server(&mut limits);
    limits
}

/// Prepares an HTTP server on these listeners.
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
        // The proxy ends event streams itself, and counts what it adds.
        .end_streams(false)
        .pass_ambiguous()
        // WebSocket connections are passed on over HTTP/1.1 only.
        .extended_connect(false)
        .show_stages("the upstream")
}

/// Starts to accept connections, whose requests `handler` answers.
pub fn serve<H: Handler>(builder: HttpBuilder, handler: H) -> HttpServer {
    builder.serve_hyper(service_fn(move |request| answer(handler.clone(), request)))
}

async fn answer<H: Handler>(
    handler: H,
    mut request: Request<RequestBody>,
) -> Result<Response<H::Body>, BoxError> {
    let link = Link::of(&request).ok_or("the client is gone")?;
    let version = request.version();
    if request
        .extensions_mut()
        .remove::<AmbiguousLength>()
        .is_some()
    {
        request.extensions_mut().insert(Ambiguous);
    }
    let mut response = handler.handle(request.map(Upload::new), link).await;
    let upgrades = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if handler.is_pressed() && version < Version::HTTP_2 && !upgrades {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    Ok(response)
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
