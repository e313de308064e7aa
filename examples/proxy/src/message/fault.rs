//! Responses that the proxy itself makes. Each has a status and a line of text for people. A
//! response to an upstream failure also has a `Proxy-Status` for machines (RFC 9209).

use std::fmt;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use crate::message::headers::PSEUDONYM;

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// The known methods, all of which are passed on. Unknown methods are passed on, too.
pub const ALLOWED: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS, TRACE");

/// The reason why the proxy answers a request itself, instead of an upstream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The request breaks a rule of HTTP, which the text describes.
    BadRequest(&'static str),
    /// The request has an `Expect` field with a value other than `100-continue`.
    Expectation,
    /// The request's method is CONNECT, or its body has a transfer coding that the proxy does not
    /// know.
    NotImplemented(&'static str),
    /// The upstream's name does not resolve.
    UnknownHost,
    /// The upstream refused the connection.
    Refused,
    /// The connection to the upstream could not be made, for another reason.
    Unreachable,
    /// The connection to the upstream was not made in time.
    ConnectTimeout,
    /// The connection to the upstream ended before the response began.
    Terminated,
    /// The connection to the upstream had been idle, and ended before a byte of the response came.
    DiedIdle,
    /// The upstream did not answer in time.
    ResponseTimeout,
    /// The client did not send its whole request.
    BrokenOff,
    /// The upstream's response is not HTTP that can be passed on.
    BadResponse,
    /// The upstream's response is in a transfer coding that the proxy cannot decode.
    Coding,
    /// The upstream has failed too often or its health check fails, so no request was sent.
    Unavailable,
    /// The program behind the route cannot be started.
    Unstarted,
    /// No route matches the request.
    NoRoute,
    /// The proxy is overloaded and refuses the request.
    Overloaded,
    /// The request is longer than the program behind the route accepts.
    TooLarge,
    /// The program behind the route accepts POST only.
    PostOnly,
    /// The feed behind the route accepts GET only.
    GetOnly,
    /// The session that the request belongs to has ended.
    NoSession,
}

impl Fault {
    /// Returns the status that the client sees.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::BrokenOff => StatusCode::BAD_REQUEST,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::NotImplemented(_) => StatusCode::NOT_IMPLEMENTED,
            Self::ConnectTimeout | Self::ResponseTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Unavailable | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoRoute | Self::NoSession => StatusCode::NOT_FOUND,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::PostOnly | Self::GetOnly => StatusCode::METHOD_NOT_ALLOWED,
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// Returns the name of the fault, which is one of the proxy error types of RFC 9209 §2.3.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest(_)
            | Self::BrokenOff
            | Self::Expectation
            | Self::NotImplemented(_)
            | Self::TooLarge
            | Self::PostOnly
            | Self::GetOnly
            | Self::NoSession => "http_request_error",
            Self::NoRoute => "destination_not_found",
            Self::Overloaded => "proxy_internal_response",
            Self::UnknownHost => "dns_error",
            Self::Refused => "connection_refused",
            Self::Unreachable | Self::Unavailable | Self::Unstarted => "destination_unavailable",
            Self::ConnectTimeout => "connection_timeout",
            Self::Terminated | Self::DiedIdle => "connection_terminated",
            Self::ResponseTimeout => "http_response_timeout",
            Self::BadResponse => "http_protocol_error",
            Self::Coding => "http_response_transfer_coding",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::BadRequest(rule) => rule,
            Self::Expectation => "only `100-continue` can be expected",
            Self::NotImplemented(what) => what,
            Self::UnknownHost => "its name does not resolve",
            Self::Refused => "it refused the connection",
            Self::Unreachable => "it cannot be reached",
            Self::ConnectTimeout => "it did not take the connection in time",
            Self::Terminated | Self::DiedIdle => "it closed the connection before it answered",
            Self::ResponseTimeout => "it did not answer in time",
            Self::BrokenOff => "the body did not arrive",
            Self::BadResponse => "it did not answer in the HTTP that was asked of it",
            Self::Coding => "its response is in a transfer coding other than chunked",
            Self::Unavailable => "it has failed too often to be asked now",
            Self::Unstarted => "it cannot be started",
            Self::NoRoute => "no route is for this host and path",
            Self::Overloaded => "this proxy is overloaded",
            Self::TooLarge => "the request is too long",
            Self::PostOnly => "only POST is answered here",
            Self::GetOnly => "only GET is answered here",
            Self::NoSession => "there is no such session",
        }
    }

    /// Returns whether the upstream caused the fault, and neither the client nor the proxy's load.
    #[must_use]
    pub fn is_of_upstream(self) -> bool {
        self.status().is_server_error()
            && !matches!(self, Self::NotImplemented(_) | Self::Overloaded)
    }

    /// Returns whether the fault is a failure to connect. No byte of the request was sent then, so
    /// another attempt may succeed.
    #[must_use]
    pub const fn is_of_connecting(self) -> bool {
        matches!(
            self,
            Self::UnknownHost | Self::Refused | Self::Unreachable | Self::ConnectTimeout
        )
    }

    /// Returns the response that reports the fault to the client.
    #[must_use]
    pub fn response(self, upstream: Option<&str>) -> Response<Full<Bytes>> {
        let status = self.status();
        let text = match upstream {
            Some(upstream) if self.is_of_upstream() => {
                format!("{status}: upstream {upstream}: {}\n", self.text())
            }
            _ => format!("{status}: {}\n", self.text()),
        };
        let mut response = plain(status, text);
        let headers = response.headers_mut();
        if let Ok(said) = HeaderValue::try_from(format!("{PSEUDONYM}; error={}", self.name())) {
            headers.insert(PROXY_STATUS, said);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        match self {
            Self::PostOnly => headers.insert(ALLOW, HeaderValue::from_static("POST")),
            Self::GetOnly => headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD")),
            _ => None,
        };
        if !self.is_of_upstream() && status != StatusCode::NOT_FOUND {
            // Closes the connection: after a bad request it is uncertain where the next request
            // begins, and an overloaded proxy gets a file descriptor back.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Returns a response of plain text.
#[must_use]
pub fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Returns the response to an `OPTIONS` request that the proxy answers itself.
#[must_use]
pub fn options() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, ALLOWED);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_the_upstream_names_it_for_people_and_machines() {
        let response = Fault::Refused.response(Some("http://app:3000"));
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(
            response.headers()[PROXY_STATUS],
            "lifecycle-proxy; error=connection_refused"
        );
        assert!(!response.headers().contains_key(CONNECTION));
        let body = format!("{:?}", response.body());
        assert!(
            body.contains("upstream http://app:3000: it refused"),
            "{body}"
        );
    }

    #[test]
    fn after_a_fault_of_the_client_the_connection_ends() {
        let response = Fault::BadRequest("no").response(None);
        assert_eq!(response.headers()[CONNECTION], "close");
    }

    #[test]
    fn a_temporary_refusal_says_when_to_retry() {
        for fault in [Fault::Unavailable, Fault::Overloaded] {
            let response = fault.response(None);
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers()[RETRY_AFTER], "1");
        }
    }

    #[test]
    fn timeouts_are_504() {
        for fault in [Fault::ConnectTimeout, Fault::ResponseTimeout] {
            assert_eq!(fault.status(), StatusCode::GATEWAY_TIMEOUT);
            assert!(fault.is_of_upstream());
        }
    }
}
