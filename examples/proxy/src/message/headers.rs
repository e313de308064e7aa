//! The rewriting of header fields that an intermediary must do. It removes fields that are meant
//! for one hop (RFC 9110 §7.6.1), adds the proxy to `Via` (§7.6.3), and puts the client's address
//! into `Forwarded` (RFC 7239) and `X-Forwarded-*` for the next hop.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use hyper::{Method, Request, Version};

/// The name with which this proxy identifies itself in `Via` and `Proxy-Status`.
pub const PSEUDONYM: &str = "lifecycle-proxy";

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Fields that never travel further than one hop, whether `Connection` names them or not.
/// `Connection`, `TE` and `Transfer-Encoding` are such fields, too, but are treated apart.
static OTHER_HOP_BY_HOP: [HeaderName; 5] = [
    KEEP_ALIVE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    PROXY_CONNECTION,
    UPGRADE,
];

/// The connection over which a request came, and the host that the request names.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The address of the client's end of the connection.
    pub peer: SocketAddr,
    /// The address of the proxy's end of the connection.
    pub local: SocketAddr,
    /// The authority that the request names. `None` if the request names no authority.
    pub host: Option<&'a HeaderValue>,
}

/// Rewrites the header fields of a client's request for the request to the upstream. Leaves `Host`
/// to the caller. With `trust_forwarded`, keeps the host and scheme of the original request that an
/// earlier proxy has added.
pub fn for_upstream(
    headers: &mut HeaderMap,
    version: Version,
    origin: &Origin<'_>,
    trust_forwarded: bool,
) {
    let mut names = Names::of(headers);
    let trailers = names.te && accepts_trailers(headers);
    if names.connection && trust_forwarded {
        spare_forwarded(headers);
    }
    remove_for_one_hop(headers, names);
    if names.connection {
        // Searched again, since the removed fields may include some that were found.
        names = Names::of(headers);
    }
    // Reserves space for `Via`, `Forwarded`, three `X-Forwarded-*` fields and `Host` together, so
    // that the map grows at most once.
    headers.reserve(6);
    if trailers {
        // `TE` is a field for one hop only, so the proxy sends its own `TE` and names it in
        // `Connection`.
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    append_via(headers, names, version);
    append_origin(headers, names, origin);
    if !(trust_forwarded && names.x_forwarded_proto) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if !(trust_forwarded && names.x_forwarded_host) {
        match origin.host {
            Some(host) => headers.insert(X_FORWARDED_HOST, host.clone()),
            None => headers.remove(X_FORWARDED_HOST),
        };
    }
    if names.cookie {
        join_cookies(headers);
    }
}

/// The names that occur in a message, among the fields that an intermediary acts on. One pass over
/// the message's names finds them, which costs less than a look-up of each, since most messages
/// have few of them.
#[derive(Clone, Copy, Debug, Default)]
struct Names {
    connection: bool,
    te: bool,
    transfer_encoding: bool,
    /// Whether there is a field of [`OTHER_HOP_BY_HOP`].
    other_hop_by_hop: bool,
    via: bool,
    forwarded: bool,
    x_forwarded_for: bool,
    x_forwarded_host: bool,
    x_forwarded_proto: bool,
    cookie: bool,
}

impl Names {
    fn of(headers: &HeaderMap) -> Self {
        let mut names = Self::default();
        for name in headers.keys() {
            match name.as_str() {
                "connection" => names.connection = true,
                "te" => names.te = true,
                "transfer-encoding" => names.transfer_encoding = true,
                "keep-alive"
                | "proxy-authenticate"
                | "proxy-authorization"
                | "proxy-connection"
                | "upgrade" => names.other_hop_by_hop = true,
                "via" => names.via = true,
                "forwarded" => names.forwarded = true,
                "x-forwarded-for" => names.x_forwarded_for = true,
                "x-forwarded-host" => names.x_forwarded_host = true,
                "x-forwarded-proto" => names.x_forwarded_proto = true,
                "cookie" => names.cookie = true,
                _ => {}
            }
        }
        names
    }
}

/// Fields to which an earlier proxy adds the origin of a request.
static FORWARDED_BY_OTHERS: [HeaderName; 5] = [
    FORWARDED,
    VIA,
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    X_FORWARDED_PROTO,
];

/// Removes the names of fields that an earlier proxy has added from `Connection`. A client may have
/// sent those names, to make this proxy remove the fields.
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
    // Never fails, since parts of valid values form a valid value.
    if let Ok(left) = HeaderValue::try_from(left) {
        headers.insert(CONNECTION, left);
    }
}

/// Adds the fields with which a request asks for WebSocket (RFC 6455 §4.1), or a response agrees to
/// it. Call it after the fields for one hop were removed.
pub fn upgrade_to_websocket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Removes the fields that HTTP/2 expresses in another way (RFC 9113 §8.2.2, §8.3.1).
pub fn for_http2(headers: &mut HeaderMap) {
    headers.remove(CONNECTION);
    headers.remove(UPGRADE);
    headers.remove(HOST);
}

/// Joins the `Cookie` fields of a message into one. HTTP/2 allows a client to split them (RFC 9113
/// §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
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

/// Returns whether a request asks to switch to WebSocket.
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

/// Rewrites the header fields of an upstream's response for the response to the client.
pub fn for_client(headers: &mut HeaderMap, version: Version) {
    let mut names = Names::of(headers);
    remove_for_one_hop(headers, names);
    if names.connection {
        names = Names::of(headers);
    }
    append_via(headers, names, version);
}

/// Removes the fields that are meant for one connection only: the fields that `Connection` names,
/// and the fields that always are.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    remove_for_one_hop(headers, Names::of(headers));
}

fn remove_for_one_hop(headers: &mut HeaderMap, names: Names) {
    if names.connection {
        for name in nominated(headers) {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    if names.te {
        headers.remove(TE);
    }
    // A length beside a transfer coding is not the length of the content (RFC 9112 §6.3). The
    // length would mislead the next recipient, which does not get the coding.
    if names.transfer_encoding {
        headers.remove(CONTENT_LENGTH);
        headers.remove(TRANSFER_ENCODING);
    }
    if names.other_hop_by_hop {
        for name in &OTHER_HOP_BY_HOP {
            headers.remove(name);
        }
    }
}

/// Returns the names of the fields that `Connection` names.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    list_members(headers, &CONNECTION)
        // Skips the usual members: `close` names no field, and `Keep-Alive` is removed anyway.
        .filter(|option| !["keep-alive", "close"].contains(option))
        .filter_map(|option| HeaderName::from_bytes(option.as_bytes()).ok())
        .filter(|name| *name != TRANSFER_ENCODING)
        .collect()
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    list_members(headers, &TE).any(|coding| coding.eq_ignore_ascii_case("trailers"))
}

/// Returns the members of a comma-separated field, from all lines of that field.
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

fn append_via(headers: &mut HeaderMap, names: Names, received: Version) {
    let member = match received {
        Version::HTTP_09 => const { HeaderValue::from_static("0.9 lifecycle-proxy") },
        Version::HTTP_10 => const { HeaderValue::from_static("1.0 lifecycle-proxy") },
        Version::HTTP_2 => const { HeaderValue::from_static("2 lifecycle-proxy") },
        Version::HTTP_3 => const { HeaderValue::from_static("3 lifecycle-proxy") },
        _ => const { HeaderValue::from_static("1.1 lifecycle-proxy") },
    };
    append_member(headers, names.via, VIA, member);
}

/// Adds the client's address to `X-Forwarded-For` and `Forwarded`. The two values share one buffer.
fn append_origin(headers: &mut HeaderMap, names: Names, origin: &Origin<'_>) {
    let host = origin.host.map(HeaderValue::as_bytes);
    // Long enough for two IPv6 addresses and the text around them.
    let mut text = Vec::with_capacity(160 + host.map_or(0, <[u8]>::len));
    let peer = origin.peer.ip().to_canonical();
    push_address(&mut text, peer);
    let end = text.len();
    text.extend_from_slice(b"for=");
    push_node(&mut text, peer);
    text.extend_from_slice(b";by=\"");
    let local = origin.local.ip().to_canonical();
    if local.is_ipv6() {
        text.push(b'[');
    }
    push_address(&mut text, local);
    text.extend_from_slice(if local.is_ipv6() { b"]:" } else { b":" });
    push_decimal(&mut text, origin.local.port());
    text.push(b'"');
    if let Some(host) = host {
        text.extend_from_slice(b";host=");
        push_quoted_if_needed(&mut text, host);
    }
    text.extend_from_slice(b";proto=http");
    let text = Bytes::from(text);
    let parts = [
        (names.x_forwarded_for, X_FORWARDED_FOR, text.slice(..end)),
        (names.forwarded, FORWARDED, text.slice(end..)),
    ];
    for (present, name, part) in parts {
        // Never fails, since the part is plain ASCII or belongs to a valid value.
        if let Ok(member) = HeaderValue::from_maybe_shared(part) {
            append_member(headers, present, name, member);
        }
    }
}

/// Writes an address as a node of `Forwarded` (RFC 7239 §6).
fn push_node(to: &mut Vec<u8>, ip: IpAddr) {
    if ip.is_ipv4() {
        push_address(to, ip);
    } else {
        to.extend_from_slice(b"\"[");
        push_address(to, ip);
        to.extend_from_slice(b"]\"");
    }
}

/// Writes an address. IPv4 addresses are written by hand, since the formatting of `std` takes ten
/// times as long, and each request needs it for both ends of its connection.
fn push_address(to: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            let [first, others @ ..] = ip.octets();
            push_decimal(to, first.into());
            for octet in others {
                to.push(b'.');
                push_decimal(to, octet.into());
            }
        }
        IpAddr::V6(ip) => {
            // Ignores the result, since writing to a vector never fails.
            let _ = write!(to, "{ip}");
        }
    }
}

fn push_decimal(to: &mut Vec<u8>, number: u16) {
    if number >= 10 {
        push_decimal(to, number / 10);
    }
    // The remainder is a single digit.
    to.push(b'0' + (number % 10) as u8);
}

/// Adds a member at the end of a list field. Joins the field's lines into one, so that a recipient
/// that reads a single line gets the whole list. `present` tells whether the field has lines.
fn append_member(headers: &mut HeaderMap, present: bool, name: HeaderName, member: HeaderValue) {
    if !present {
        headers.insert(name, member);
        return;
    }
    let mut joined = Vec::new();
    for line in headers.get_all(&name) {
        joined.extend_from_slice(line.as_bytes());
        joined.extend_from_slice(b", ");
    }
    joined.extend_from_slice(member.as_bytes());
    // Never fails, since both halves came from valid values.
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(name, value);
    }
}

/// Writes a value as a token if its bytes allow that, and otherwise as a quoted string.
fn push_quoted_if_needed(to: &mut Vec<u8>, value: &[u8]) {
    if !value.is_empty() && value.iter().all(|byte| is_token_byte(*byte)) {
        to.extend_from_slice(value);
        return;
    }
    to.push(b'"');
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            to.push(b'\\');
        }
        to.push(*byte);
    }
    to.push(b'"');
}

/// Returns whether a byte may occur in a token (RFC 9110 §5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
