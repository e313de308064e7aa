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
        let mut text = Vec::new();
        push_quoted_if_needed(&mut text, value);
        String::from_utf8(text).unwrap()
    };
    assert_eq!(quoted_if_needed(br#"a"\b"#), r#""a\"\\b""#);
    assert_eq!(quoted_if_needed(b""), r#""""#);
    assert_eq!(quoted_if_needed(b"_hidden"), "_hidden");
}
