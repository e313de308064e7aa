//! The status page: one HTML document, which loads nothing else than its data.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Response, StatusCode};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::message::fault::plain;

const DOCUMENT: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/style.css");
/// The page's script, in three files. The last file starts the script.
const SCRIPT: &str = concat!(
    include_str!("page/nodes.js"),
    include_str!("page/plan.js"),
    include_str!("page/script.js"),
);

/// The content security policy. Only scripts and styles with the nonce run, the page can only send
/// requests to this server, and a script cannot turn text into markup.
const POLICY: &str = "default-src 'none'; connect-src 'self'; script-src 'nonce-{nonce}'; \
     style-src 'nonce-{nonce}'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

/// Returns the page, with a new nonce.
pub fn response() -> Response<Full<Bytes>> {
    let Some(nonce) = nonce() else {
        let text = "random numbers are not available\n";
        return plain(StatusCode::SERVICE_UNAVAILABLE, text);
    };
    // Replaces the nonce first, so that only the document's own placeholders are replaced, and no
    // text in the inserted parts.
    let document = DOCUMENT
        .replace("{nonce}", &nonce)
        .replace("{style}", STYLE)
        .replace("{script}", SCRIPT);
    let mut response = Response::new(Full::from(document));
    let headers = response.headers_mut();
    harden(headers);
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    headers.insert(CONTENT_TYPE, html);
    if let Ok(policy) = HeaderValue::try_from(POLICY.replace("{nonce}", &nonce)) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// Adds header fields that forbid caching, content sniffing, framing and referrers.
pub fn harden(headers: &mut HeaderMap) {
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// Returns 128 random bits. Returns `None` if the system has no random numbers.
fn nonce() -> Option<String> {
    let mut bytes = [0; 16];
    let read = getrandom(&mut bytes, GetRandomFlags::empty()).ok()?;
    (read == bytes.len()).then(|| format!("{:032x}", u128::from_be_bytes(bytes)))
}
