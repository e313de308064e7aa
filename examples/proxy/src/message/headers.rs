//! What an intermediary does to header fields: drops those meant for one hop
//! (RFC 9110 §7.6.1), leaves its trace in `Via` (§7.6.3), and tells the next
//! hop who asked, in `Forwarded` (RFC 7239) and `X-Forwarded-*`.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use hyper::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use hyper::{Method, Request, Version};

/// The name this proxy gives itself in `Via` and `Proxy-Status`.
pub const PSEUDONYM: &str = "lifecycle-proxy";

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Fields that never travel further than one hop, whether `Connection` names
/// them or not.
static HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    PROXY_CONNECTION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Who asked, over which connection, and for which host.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The client's end of the connection.
    pub peer: SocketAddr,
    /// This proxy's end of it.
    pub local: SocketAddr,
    /// The authority the client asked for, if it named one.
    pub host: Option<&'a HeaderValue>,
}

/// Makes a request's fields those of this proxy's own request to the upstream,
/// except `Host`. With `trust_forwarded`, what an earlier proxy said of the
/// original host and scheme is kept.
pub fn for_upstream(
    headers: &mut HeaderMap,
    version: Version,
    origin: &Origin<'_>,
    trust_forwarded: bool,
) {
    let trailers = accepts_trailers(headers);
    if trust_forwarded {
        spare_forwarded(headers);
    }
    remove_hop_by_hop(headers);
    if trailers {
        // `TE` is itself for one hop only, so it is said anew, and nominated.
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    append_via(headers, version);
    append_forwarded(headers, origin);
    append_x_forwarded(headers, origin, trust_forwarded);
}

/// What an earlier proxy says of where a request comes from.
static FORWARDED_BY_OTHERS: [HeaderName; 5] = [
    FORWARDED,
    VIA,
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    X_FORWARDED_PROTO,
];

/// Takes the fields of the proxy in front out of what `Connection` names. It may have
/// passed that on from a client, which would have them removed.
fn spare_forwarded(headers: &mut HeaderMap) {
    let names = nominated(headers);
    if !names.iter().any(|name| FORWARDED_BY_OTHERS.contains(name)) {
        return;
    }
    let left: Vec<_> = list_members(headers, &CONNECTION)
        .filter(|option| {
            let is = |name: &HeaderName| option.eq_ignore_ascii_case(name.as_str());
            !FORWARDED_BY_OTHERS.iter().any(is)
        })
        .collect();
    let left = left.join(", ");
    // Parts of valid values make one.
    if let Ok(left) = HeaderValue::try_from(left) {
        headers.insert(CONNECTION, left);
    }
}

/// Asks the upstream for WebSocket (RFC 6455 §4.1), after all that was meant for
/// one hop was removed; also says yes to it.
pub fn upgrade_to_websocket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Leaves away what HTTP/2 says otherwise (RFC 9113 §8.2.2, §8.3.1).
pub fn for_http2(headers: &mut HeaderMap) {
    headers.remove(CONNECTION);
    headers.remove(UPGRADE);
    headers.remove(HOST);
}

/// Joins the parts that HTTP/2 cuts a cookie list into (RFC 9113 §8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut parts = headers.get_all(COOKIE).into_iter();
    if parts.nth(1).is_none() {
        return;
    }
    let parts: Vec<_> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(joined) = HeaderValue::from_bytes(&parts.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Whether a request asks for WebSocket.
#[must_use]
pub fn asks_for_websocket<B>(request: &Request<B>) -> bool {
    let has = |name, wanted: &str| {
        list_members(request.headers(), name).any(|member| member.eq_ignore_ascii_case(wanted))
    };
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && has(&CONNECTION, "upgrade")
        && has(&UPGRADE, "websocket")
}

/// Makes an upstream's response fields those of this proxy's own response.
pub fn for_client(headers: &mut HeaderMap, version: Version) {
    remove_hop_by_hop(headers);
    append_via(headers, version);
}

/// Removes the fields meant for the connection they came by: those that
/// `Connection` names, and those known to be so.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    for name in nominated(headers) {
        headers.remove(name);
    }
    // A length beside a transfer coding is not the length of the content
    // (RFC 9112 §6.3); passed on without the coding it would mislead.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    // Mostly there is none: to compare the few names there are is less than to look each up.
    if headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
    }
}

fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    list_members(headers, &CONNECTION)
        .filter_map(|option| HeaderName::from_bytes(option.as_bytes()).ok())
        .filter(|name| *name != TRANSFER_ENCODING)
        .collect()
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    list_members(headers, &TE).any(|coding| coding.eq_ignore_ascii_case("trailers"))
}

/// The members of a comma-separated field, over all its lines.
pub fn list_members<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a str> + use<'a> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|member| !member.is_empty())
}

fn append_via(headers: &mut HeaderMap, received: Version) {
    let member = match received {
        Version::HTTP_09 => const { HeaderValue::from_static("0.9 lifecycle-proxy") },
        Version::HTTP_10 => const { HeaderValue::from_static("1.0 lifecycle-proxy") },
        Version::HTTP_2 => const { HeaderValue::from_static("2 lifecycle-proxy") },
        Version::HTTP_3 => const { HeaderValue::from_static("3 lifecycle-proxy") },
        _ => const { HeaderValue::from_static("1.1 lifecycle-proxy") },
    };
    append_member(headers, VIA, member);
}

fn append_forwarded(headers: &mut HeaderMap, origin: &Origin<'_>) {
    // Long enough for addresses of IPv4 and a name.
    let mut element = String::with_capacity(96);
    // Writing to a string does not fail.
    let _ = match origin.peer.ip().to_canonical() {
        IpAddr::V4(ip) => write!(element, "for={ip}"),
        IpAddr::V6(ip) => write!(element, "for=\"[{ip}]\""),
    };
    let port = origin.local.port();
    let _ = match origin.local.ip().to_canonical() {
        IpAddr::V4(ip) => write!(element, ";by=\"{ip}:{port}\""),
        IpAddr::V6(ip) => write!(element, ";by=\"[{ip}]:{port}\""),
    };
    if let Some(host) = origin.host {
        element.push_str(";host=");
        push_quoted_if_needed(&mut element, host.as_bytes());
    }
    element.push_str(";proto=http");
    append_text(headers, FORWARDED, element);
}

fn append_x_forwarded(headers: &mut HeaderMap, origin: &Origin<'_>, trust: bool) {
    let peer = origin.peer.ip().to_canonical().to_string();
    append_text(headers, X_FORWARDED_FOR, peer);
    if !(trust && headers.contains_key(X_FORWARDED_PROTO)) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if !(trust && headers.contains_key(X_FORWARDED_HOST)) {
        match origin.host {
            Some(host) => headers.insert(X_FORWARDED_HOST, host.clone()),
            None => headers.remove(X_FORWARDED_HOST),
        };
    }
}

/// Text of valid values or plain ASCII.
fn append_text(headers: &mut HeaderMap, name: HeaderName, text: String) {
    if let Ok(member) = HeaderValue::try_from(text) {
        append_member(headers, name, member);
    }
}

/// Adds a member at the end of a list field, joining its lines into one, so
/// that a recipient that reads a single line sees the whole list.
fn append_member(headers: &mut HeaderMap, name: HeaderName, member: HeaderValue) {
    let mut joined = Vec::new();
    for line in headers.get_all(&name) {
        joined.extend_from_slice(line.as_bytes());
        joined.extend_from_slice(b", ");
    }
    if joined.is_empty() {
        headers.insert(name, member);
        return;
    }
    joined.extend_from_slice(member.as_bytes());
    // Both halves came from valid values.
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(name, value);
    }
}

/// A value as a token where that is possible, else as a quoted string.
fn push_quoted_if_needed(to: &mut String, value: &[u8]) {
    let text = String::from_utf8_lossy(value);
    if !value.is_empty() && value.iter().all(|byte| is_token_byte(*byte)) {
        to.push_str(&text);
        return;
    }
    to.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            to.push('\\');
        }
        to.push(character);
    }
    to.push('"');
}

/// RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
