//! The check whether a request may be passed on (RFC 9110, RFC 9112), and the responses to requests
//! that are meant for the proxy itself.

use std::fmt::Write as _;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST, HeaderMap, HeaderValue,
    MAX_FORWARDS, PROXY_AUTHORIZATION, TRANSFER_ENCODING,
};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode, Version};
use lifecycle_proxy_common::is_plain;

use crate::message::fault::{self, Fault};
use crate::message::headers::list_members;

/// The decision about a request.
#[derive(Debug)]
pub enum Verdict {
    /// Pass the request on. The value is the authority that the request names, if it names one.
    Pass(Option<HeaderValue>),
    /// Answer the request with this response, and do not pass it on.
    Answer(Response<Full<Bytes>>),
    /// Refuse the request because of this fault.
    Refuse(Fault),
}

/// A mark in a request's extensions: two servers could read the request's length or target
/// differently.
#[derive(Clone, Copy, Debug)]
pub struct Ambiguous;

/// Decides about a request by its head. Decrements `Max-Forwards` if the request has it and is
/// passed on.
pub fn judge<B>(request: &mut Request<B>) -> Verdict {
    let checked = check_framing(request)
        .and_then(|()| check_path(request.uri().path()))
        .and_then(|()| check_method(request.method()))
        .and_then(|()| check_expectation(request.headers()))
        .and_then(|()| asked_authority(request));
    match checked {
        Ok(host) => ends_here(request).map_or(Verdict::Pass(host), Verdict::Answer),
        Err(fault) => Verdict::Refuse(fault),
    }
}

/// Checks the parts of a request that two servers could read differently: its length and its host.
///
/// # Errors
///
/// [`Fault::BadRequest`] in general, and [`Fault::NotImplemented`] for an unknown transfer coding.
pub fn check<B>(request: &Request<B>) -> Result<(), Fault> {
    check_framing(request)?;
    check_path(request.uri().path())?;
    asked_authority(request).map(drop)
}

/// Checks that a body's length can be read in one way only. An attacker can use a message with two
/// lengths to smuggle a second message past a proxy. A coding other than `chunked` would be lost,
/// since the proxy removes `Transfer-Encoding`.
///
/// hyper removes a length beside a coding. So the server finds that case earlier, and adds the mark
/// [`Ambiguous`].
fn check_framing<B>(request: &Request<B>) -> Result<(), Fault> {
    if request.extensions().get::<Ambiguous>().is_some() {
        return Err(TWO_WAYS);
    }
    let headers = request.headers();
    if headers.get_all(CONTENT_LENGTH).iter().count() > 1 {
        return Err(TWO_WAYS);
    }
    let mut lines = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(line) = lines.next() else {
        return Ok(());
    };
    if line.as_bytes().eq_ignore_ascii_case(b"chunked") && lines.next().is_none() {
        return Ok(());
    }
    let mut codings = list_members(headers, &TRANSFER_ENCODING);
    if codings.all(|coding| coding.eq_ignore_ascii_case("chunked")) {
        // The body is chunked twice, which hyper would decode once only (RFC 9112 §6.1), or the
        // list has an empty member.
        return Err(Fault::BadRequest("a body is chunked once"));
    }
    Err(Fault::NotImplemented(
        "the only transfer coding known here is chunked",
    ))
}

const TWO_WAYS: Fault = Fault::BadRequest("its length or its target can be read in two ways");

/// Checks that two hexadecimal digits follow each percent sign of the path (RFC 3986 §2.1). Refuses
/// `%00`, since some servers take it for the end of the path. Does not check the query, which is
/// often less strict, and which no server decodes as a whole.
fn check_path(path: &str) -> Result<(), Fault> {
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let mut digit = || bytes.next().filter(u8::is_ascii_hexdigit);
        if byte == b'%'
            && !matches!((digit(), digit()), (Some(high), Some(low)) if (high, low) != (b'0', b'0'))
        {
            return Err(Fault::BadRequest(
                "the path has a percent sign that encodes nothing",
            ));
        }
    }
    Ok(())
}

fn check_method(method: &Method) -> Result<(), Fault> {
    if method == Method::CONNECT {
        return Err(Fault::NotImplemented(
            "CONNECT is for forward proxies; this is a reverse proxy",
        ));
    }
    Ok(())
}

fn check_expectation(headers: &HeaderMap) -> Result<(), Fault> {
    let known = list_members(headers, &EXPECT).all(|it| it.eq_ignore_ascii_case("100-continue"));
    if known {
        Ok(())
    } else {
        Err(Fault::Expectation)
    }
}

/// Returns the authority that a request names: the authority of an absolute target, or else the
/// value of the only `Host` (RFC 9112 §3.2).
fn asked_authority<B>(request: &Request<B>) -> Result<Option<HeaderValue>, Fault> {
    let mut hosts = request.headers().get_all(HOST).into_iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Fault::BadRequest("there is more than one Host"));
    }
    if request.version() == Version::HTTP_2 {
        return authority_of_http2(request, host);
    }
    if host.is_none() && request.version() >= Version::HTTP_11 {
        return Err(Fault::BadRequest("there is no Host"));
    }
    if host.is_some_and(|host| !host.is_empty() && !is_authority(host.as_bytes())) {
        return Err(Fault::BadRequest("Host is not a host"));
    }
    match (request.uri().scheme_str(), request.uri().authority()) {
        (Some("http"), Some(target)) if is_authority(target.as_str().as_bytes()) => {
            let value = HeaderValue::try_from(target.as_str());
            value.map(Some).map_err(|_| BAD_TARGET)
        }
        (None, None) => Ok(host.filter(|host| !host.is_empty()).cloned()),
        _ => Err(BAD_TARGET),
    }
}

/// Returns the authority that an HTTP/2 request names. `:authority` replaces `Host`. If the request
/// has both, they must be equal (RFC 9113 §8.3.1). The scheme is not checked, since an earlier
/// server may have removed TLS.
fn authority_of_http2<B>(
    request: &Request<B>,
    host: Option<&HeaderValue>,
) -> Result<Option<HeaderValue>, Fault> {
    let target = request.uri().authority().map(Authority::as_str);
    match (target, host) {
        (Some(target), Some(host)) if target.as_bytes() != host.as_bytes() => {
            Err(Fault::BadRequest("Host and :authority do not say the same"))
        }
        (Some(target), _) if is_authority(target.as_bytes()) => {
            let value = HeaderValue::try_from(target);
            value.map(Some).map_err(|_| BAD_TARGET)
        }
        (None, Some(host)) if is_authority(host.as_bytes()) => Ok(Some(host.clone())),
        (None, None) => Err(Fault::BadRequest("there is no :authority")),
        _ => Err(BAD_TARGET),
    }
}

const BAD_TARGET: Fault = Fault::BadRequest("the target is neither a path nor an http URL");

/// Returns whether `text` is a host, or a host and a port of at most 65535.
fn is_authority(text: &[u8]) -> bool {
    if is_simple(text) {
        return true;
    }
    let authority = Authority::try_from(text).ok();
    authority.is_some_and(|authority| is_plain(&authority))
}

/// Returns whether `text` is a name of letters, digits, hyphens and single dots, with an optional
/// port. Most authorities are, and need no parser.
fn is_simple(text: &[u8]) -> bool {
    let colon = text.iter().position(|byte| *byte == b':');
    let (name, port) = text.split_at(colon.unwrap_or(text.len()));
    let mut last = b'.';
    for byte in name {
        if !(byte.is_ascii_alphanumeric() || *byte == b'-' || (*byte == b'.' && last != b'.')) {
            return false;
        }
        last = *byte;
    }
    let digits = port.get(1..).unwrap_or_default();
    !name.is_empty() && is_port(digits)
}

fn is_port(digits: &[u8]) -> bool {
    let value = |number: u32, digit: &u8| number * 10 + u32::from(digit - b'0');
    digits.len() <= 5
        && digits.iter().all(u8::is_ascii_digit)
        && digits.iter().fold(0, value) <= u16::MAX.into()
}

/// Returns the response if the request ends at the proxy. `OPTIONS *` is meant for the proxy
/// itself. `OPTIONS` and `TRACE` may limit the number of their hops with `Max-Forwards` (RFC 9110
/// §7.6.2).
fn ends_here<B>(request: &mut Request<B>) -> Option<Response<Full<Bytes>>> {
    let method = request.method();
    if method == Method::OPTIONS && request.uri().path() == "*" {
        return Some(fault::options());
    }
    if method != Method::OPTIONS && method != Method::TRACE {
        return None;
    }
    let limit = request.headers().get(MAX_FORWARDS)?.to_str().ok()?;
    match limit.parse::<u32>().ok()? {
        0 if method == Method::OPTIONS => Some(fault::options()),
        0 => Some(reflect(request)),
        limit => {
            let left = HeaderValue::from(limit - 1);
            request.headers_mut().insert(MAX_FORWARDS, left);
            None
        }
    }
}

/// Returns a response with the request as it arrived, without fields that hold secrets (RFC 9110
/// §9.3.8).
fn reflect<B>(request: &Request<B>) -> Response<Full<Bytes>> {
    let mut text = format!(
        "{} {} {:?}\r\n",
        request.method(),
        request.uri(),
        request.version()
    );
    for (name, value) in request.headers() {
        if ![AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION].contains(name) {
            let _ = write!(
                text,
                "{name}: {}\r\n",
                String::from_utf8_lossy(value.as_bytes())
            );
        }
    }
    text.push_str("\r\n");
    let mut response = fault::plain(StatusCode::OK, text);
    let kind = HeaderValue::from_static("message/http");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut builder = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap()
    }

    fn passed(mut request: Request<()>) -> Option<String> {
        match judge(&mut request) {
            Verdict::Pass(host) => host.map(|host| host.to_str().unwrap().to_owned()),
            other => panic!("{other:?}"),
        }
    }

    fn refused(mut request: Request<()>) -> StatusCode {
        match judge(&mut request) {
            Verdict::Refuse(fault) => fault.status(),
            other => panic!("{other:?}"),
        }
    }

    fn answered(mut request: Request<()>) -> Response<Full<Bytes>> {
        match judge(&mut request) {
            Verdict::Answer(response) => response,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_host_is_that_of_an_absolute_target_else_the_host_field() {
        let host = [("host", "a.example")];
        assert_eq!(passed(request("GET", "/", &host)).unwrap(), "a.example");
        let absolute = request("GET", "http://b.example:81/x", &host);
        assert_eq!(passed(absolute).unwrap(), "b.example:81");
        assert_eq!(passed(request("GET", "/", &[("host", "")])), None);
    }

    #[test]
    fn http_1_0_may_leave_the_host_out() {
        let mut old = request("GET", "/", &[]);
        *old.version_mut() = Version::HTTP_10;
        assert_eq!(passed(old), None);
        assert_eq!(refused(request("GET", "/", &[])), 400);
    }

    #[test]
    fn an_ambiguous_request_is_refused() {
        let two = [("host", "a"), ("host", "b")];
        assert_eq!(refused(request("GET", "/", &two)), 400);
        for host in [
            "a b", "me@a", "a/b", "a:port", "a:65536", "a:+1", "[::1]1", ":80",
        ] {
            assert_eq!(
                refused(request("GET", "/", &[("host", host)])),
                400,
                "{host}"
            );
        }
        let host = ("host", "a");
        assert_eq!(refused(request("GET", "https://a/", &[host])), 400);
        let mut lengths = request("POST", "/", &[host]);
        lengths.extensions_mut().insert(Ambiguous);
        assert_eq!(refused(lengths), 400);
        let coding = [host, ("transfer-encoding", "gzip, chunked")];
        assert_eq!(refused(request("POST", "/", &coding)), 501);
        assert_eq!(
            refused(request("GET", "/", &[host, ("expect", "wonders")])),
            417
        );
    }

    #[test]
    fn a_percent_sign_in_a_path_encodes_something() {
        let host = [("host", "a")];
        for path in ["/%", "/%4", "/%zz", "/%0", "/%00", "/a%00b", "/%%41"] {
            assert_eq!(refused(request("GET", path, &host)), 400, "{path}");
        }
        for path in ["/%41", "/%0a%2F", "/a?%", "/a?%00"] {
            passed(request("GET", path, &host));
        }
    }

    #[test]
    fn connect_is_not_for_a_reverse_proxy() {
        assert_eq!(
            refused(request("CONNECT", "a:443", &[("host", "a:443")])),
            501
        );
    }

    #[test]
    fn options_of_the_server_itself_are_answered_here() {
        let response = answered(request("OPTIONS", "*", &[("host", "a")]));
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert!(response.headers().contains_key("allow"));
    }

    #[test]
    fn max_forwards_is_counted_down_and_ends_at_zero() {
        let limited = |method, limit| {
            let fields = [("host", "a"), ("max-forwards", limit), ("cookie", "secret")];
            request(method, "/x", &fields)
        };
        let mut two = limited("OPTIONS", "2");
        assert!(matches!(judge(&mut two), Verdict::Pass(_)));
        assert_eq!(two.headers()["max-forwards"], "1");

        assert_eq!(
            answered(limited("OPTIONS", "0")).status(),
            StatusCode::NO_CONTENT
        );
        let trace = answered(limited("TRACE", "0"));
        assert_eq!(trace.headers()["content-type"], "message/http");
        let body = format!("{:?}", trace.body());
        assert!(body.contains("TRACE /x HTTP/1.1"), "{body}");
        assert!(!body.contains("secret"), "{body}");

        let mut get = limited("GET", "0");
        assert!(matches!(judge(&mut get), Verdict::Pass(_)));
    }
}
