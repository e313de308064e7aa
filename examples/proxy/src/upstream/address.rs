//! The addressing of a request to an upstream.

use hyper::body::Body as _;
use hyper::header::{HOST, HeaderValue, TRANSFER_ENCODING};
use hyper::http::uri::{PathAndQuery, Scheme, Uri};
use hyper::{Request, Version};

use crate::config::Upstream;
use crate::inbound::body::Upload;
use crate::message::headers;

/// Addresses a request to `upstream`. Sets the request's target and version, adds header fields
/// that the version requires, and removes fields that the version does not allow. Keeps an existing
/// `Host` field.
///
/// # Errors
///
/// When the request's target cannot be written in HTTP/2.
pub(super) fn address(
    request: &mut Request<Upload>,
    upstream: &Upstream,
) -> Result<(), hyper::http::Error> {
    if upstream.is_http2() {
        headers::for_http2(request.headers_mut());
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(upstream.authority().clone())
            .path_and_query(path_of(request.uri()))
            .build()?;
        return Ok(());
    }
    *request.version_mut() = Version::HTTP_11;
    if request.uri().scheme().is_some() {
        *request.uri_mut() = path_of(request.uri()).into();
    }
    if !request.headers().contains_key(HOST) {
        let host = HeaderValue::try_from(upstream.authority().as_str())?;
        request.headers_mut().insert(HOST, host);
    }
    if !request.body().is_end_stream() && request.body().size_hint().exact().is_none() {
        // Without this field, hyper assumes that a GET request has no body.
        let chunked = HeaderValue::from_static("chunked");
        request.headers_mut().insert(TRANSFER_ENCODING, chunked);
    }
    Ok(())
}

fn path_of(uri: &Uri) -> PathAndQuery {
    let path = uri.path_and_query().cloned();
    path.unwrap_or_else(|| PathAndQuery::from_static("/"))
}
