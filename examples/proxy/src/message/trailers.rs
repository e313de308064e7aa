//! The removal of fields that must not occur in trailers (RFC 9110 §6.5.1).

use hyper::body::Frame;
use hyper::header::{self, HeaderMap, HeaderName};

use crate::message::headers::remove_hop_by_hop;

/// Fields that a recipient uses before it reads the content: for framing, routing, authentication
/// or control, or to describe the content. If such a field were in the trailers, a recipient that
/// accepts it there could read another value than this proxy.
static FORBIDDEN: [HeaderName; 33] = [
    header::AGE,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::DATE,
    header::EXPECT,
    header::EXPIRES,
    header::FORWARDED,
    header::HOST,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::LOCATION,
    header::MAX_FORWARDS,
    header::PRAGMA,
    header::RANGE,
    header::RETRY_AFTER,
    header::SET_COOKIE,
    header::TRAILER,
    header::VARY,
    header::VIA,
    header::WARNING,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
];

/// Removes the fields from trailers that must not occur there, and the fields that are meant for
/// one hop.
///
/// An HTTP/2 recipient treats a message with `Connection` in its trailers as malformed, and loses
/// the part of the message that it has already received.
pub fn purify<D>(mut frame: Frame<D>) -> Frame<D> {
    if let Some(trailers) = frame.trailers_mut() {
        remove(trailers);
    }
    frame
}

fn remove(trailers: &mut HeaderMap) {
    remove_hop_by_hop(trailers);
    for name in &FORBIDDEN {
        trailers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn data_and_what_may_be_said_late_pass() {
        let data = purify(Frame::data(&b"x"[..]));
        assert_eq!(data.into_data().unwrap(), b"x");
        let mut trailers = HeaderMap::new();
        for name in [
            "grpc-status",
            "grpc-message",
            "etag",
            "server-timing",
            "authentication-info",
        ] {
            trailers.insert(name, HeaderValue::from_static("1"));
        }
        let passed = purify(Frame::<&[u8]>::trailers(trailers.clone()));
        assert_eq!(passed.into_trailers().unwrap(), trailers);
    }

    #[test]
    fn fields_for_one_hop_or_that_come_too_late_are_removed() {
        let mut trailers = HeaderMap::new();
        for name in &FORBIDDEN {
            trailers.insert(name, HeaderValue::from_static("1"));
        }
        for name in ["transfer-encoding", "keep-alive", "x-hop"] {
            trailers.insert(name, HeaderValue::from_static("1"));
        }
        trailers.insert(header::CONNECTION, HeaderValue::from_static("x-hop"));
        let passed = purify(Frame::<&[u8]>::trailers(trailers));
        assert!(passed.into_trailers().unwrap().is_empty());
    }
}
