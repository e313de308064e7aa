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
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn forwarded(headers: &mut HeaderMap, peer: &str, local: &str, host: Option<&'static str>) {
        let host = host.map(HeaderValue::from_static);
        let origin = Origin {
            peer: peer.parse().unwrap(),
            local: local.parse().unwrap(),
            host: host.as_ref(),
        };
        for_upstream(headers, Version::HTTP_11, &origin, false);
    }

    #[test]
    fn fields_for_one_hop_are_removed() {
        let mut map = headers(&[
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic Zm9v"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("te", "gzip"),
            ("accept", "*/*"),
        ]);
        remove_hop_by_hop(&mut map);
        assert_eq!(map, headers(&[("accept", "*/*")]));
    }

    #[test]
    fn fields_that_connection_names_are_removed_from_every_line() {
        let mut map = headers(&[
            ("connection", "close, X-One"),
            ("connection", " x-two ,,"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
        ]);
        remove_hop_by_hop(&mut map);
        assert_eq!(map, headers(&[("x-three", "3")]));
    }

    #[test]
    fn a_length_beside_a_transfer_coding_goes_even_when_connection_names_the_coding() {
        let mut map = headers(&[
            ("connection", "transfer-encoding"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
        ]);
        remove_hop_by_hop(&mut map);
        assert!(map.is_empty());
    }

    #[test]
    fn trailers_are_asked_for_anew_when_the_client_takes_them() {
        let mut map = headers(&[("te", "gzip, Trailers"), ("connection", "TE")]);
        forwarded(&mut map, "192.0.2.1:1", "192.0.2.2:80", None);
        assert_eq!(text(&map, "te"), Some("trailers"));
        assert_eq!(text(&map, "connection"), Some("te"));

        let mut map = headers(&[("te", "gzip")]);
        forwarded(&mut map, "192.0.2.1:1", "192.0.2.2:80", None);
        assert_eq!(text(&map, "te"), None);
        assert_eq!(text(&map, "connection"), None);
    }

    #[test]
    fn forwarded_names_both_ends_and_the_host() {
        let mut map = HeaderMap::new();
        forwarded(
            &mut map,
            "192.0.2.43:47011",
            "198.51.100.1:80",
            Some("example.com"),
        );
        assert_eq!(
            text(&map, "forwarded"),
            Some(r#"for=192.0.2.43;by="198.51.100.1:80";host=example.com;proto=http"#)
        );
    }

    #[test]
    fn ipv6_nodes_are_bracketed_and_quoted_and_mapped_ipv4_is_unwrapped() {
        let mut map = HeaderMap::new();
        forwarded(
            &mut map,
            "[2001:db8::17]:4711",
            "[::ffff:127.0.0.1]:80",
            Some("a.b:8080"),
        );
        assert_eq!(
            text(&map, "forwarded"),
            Some(r#"for="[2001:db8::17]";by="127.0.0.1:80";host="a.b:8080";proto=http"#)
        );
        assert_eq!(text(&map, "x-forwarded-for"), Some("2001:db8::17"));
    }

    #[test]
    fn existing_lists_are_continued_in_one_line() {
        let mut map = headers(&[
            ("forwarded", "for=192.0.2.1"),
            ("forwarded", "for=192.0.2.2;proto=https"),
            ("x-forwarded-for", "192.0.2.1, 192.0.2.2"),
            ("via", "1.0 fred"),
        ]);
        forwarded(&mut map, "192.0.2.3:1", "192.0.2.4:80", None);
        assert_eq!(map.get_all("forwarded").iter().count(), 1);
        assert_eq!(
            text(&map, "forwarded"),
            Some(
                r#"for=192.0.2.1, for=192.0.2.2;proto=https, for=192.0.2.3;by="192.0.2.4:80";proto=http"#
            )
        );
        assert_eq!(
            text(&map, "x-forwarded-for"),
            Some("192.0.2.1, 192.0.2.2, 192.0.2.3")
        );
        assert_eq!(text(&map, "via"), Some("1.0 fred, 1.1 lifecycle-proxy"));
    }

    #[test]
    fn a_clients_word_on_host_and_scheme_is_kept_only_when_trusted() {
        let said = [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
        ];
        let host = HeaderValue::from_static("example.com");
        let origin = Origin {
            peer: "192.0.2.1:1".parse().unwrap(),
            local: "192.0.2.2:80".parse().unwrap(),
            host: Some(&host),
        };

        let mut map = headers(&said);
        for_upstream(&mut map, Version::HTTP_11, &origin, false);
        assert_eq!(text(&map, "x-forwarded-proto"), Some("http"));
        assert_eq!(text(&map, "x-forwarded-host"), Some("example.com"));

        let mut map = headers(&said);
        for_upstream(&mut map, Version::HTTP_11, &origin, true);
        assert_eq!(text(&map, "x-forwarded-proto"), Some("https"));
        assert_eq!(text(&map, "x-forwarded-host"), Some("evil.example"));
    }

    #[test]
    fn cookies_that_were_cut_are_one_list_again() {
        let mut map = headers(&[("cookie", "a=1"), ("cookie", "b=2; c=3")]);
        join_cookies(&mut map);
        assert_eq!(map.get_all(COOKIE).iter().count(), 1);
        assert_eq!(text(&map, "cookie"), Some("a=1; b=2; c=3"));
    }

    #[test]
    fn via_tells_the_received_version() {
        let mut map = HeaderMap::new();
        for_client(&mut map, Version::HTTP_10);
        assert_eq!(text(&map, "via"), Some("1.0 lifecycle-proxy"));
    }

    #[test]
    fn quotes_and_backslashes_are_escaped() {
        let quoted_if_needed = |value: &[u8]| {
            let mut text = String::new();
            push_quoted_if_needed(&mut text, value);
            text
        };
        assert_eq!(quoted_if_needed(br#"a"\b"#), r#""a\"\\b""#);
        assert_eq!(quoted_if_needed(b""), r#""""#);
        assert_eq!(quoted_if_needed(b"_hidden"), "_hidden");
    }
}
