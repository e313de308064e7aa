//! Tests of requests and responses that pass through the proxy, and of the changes to their heads.

mod support;

use std::sync::mpsc;

use support::client::header;
use support::{Proxy, Upstream};

/// Starts an upstream that answers every request with `answer`. The receiver gets the heads of the
/// requests.
fn recording(answer: &'static str) -> (Upstream, mpsc::Receiver<String>) {
    let (tell, heads) = mpsc::channel();
    let upstream = Upstream::start(move |_, client| {
        let head = client.head();
        client.body(&head);
        tell.send(head).unwrap();
        client.send(answer);
    });
    (upstream, heads)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_request_arrives_without_the_fields_of_its_hop_and_with_those_of_the_proxy() {
    let (upstream, heads) = recording(OK);
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.connect();
    client.send(
        "GET /a?b=c HTTP/1.1\r\nHost: shop.example\r\nConnection: x-hop\r\nX-Hop: 1\r\n\
         Keep-Alive: 5\r\nUpgrade: websocket\r\nX-End: 2\r\nVia: 1.0 fred\r\n\
         Forwarded: for=192.0.2.7\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n",
    );
    assert_eq!(client.response().1, b"ok");

    let head = heads.recv().unwrap();
    assert!(head.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{head}");
    for gone in ["connection", "x-hop", "keep-alive", "upgrade"] {
        assert_eq!(header(&head, gone), None, "{head}");
    }
    assert_eq!(header(&head, "host"), Some("shop.example"));
    assert_eq!(header(&head, "x-end"), Some("2"));
    assert_eq!(header(&head, "via"), Some("1.0 fred, 1.1 lifecycle-proxy"));
    assert_eq!(
        header(&head, "x-forwarded-for"),
        Some("192.0.2.7, 127.0.0.1")
    );
    assert_eq!(header(&head, "x-forwarded-host"), Some("shop.example"));
    assert_eq!(header(&head, "x-forwarded-proto"), Some("http"));
    let forwarded = format!(
        "for=192.0.2.7, for=127.0.0.1;by=\"{}\";host=shop.example;proto=http",
        proxy.address()
    );
    assert_eq!(header(&head, "forwarded"), Some(&*forwarded));
}

#[test]
fn a_response_arrives_without_the_fields_of_its_hop() {
    let (upstream, _heads) = recording(
        "HTTP/1.0 203 Fine\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-End: 2\r\nContent-Length: 2\r\n\r\nok",
    );
    let (response, body) = Proxy::before(&upstream, "").connect().get("/");
    assert_eq!((response.status, &*body), (203, &b"ok"[..]));
    assert!(response.head.starts_with("HTTP/1.1 "), "{response:?}");
    assert_eq!(response.header("x-hop"), None);
    assert_eq!(response.header("connection"), None);
    assert_eq!(response.header("x-end"), Some("2"));
    assert_eq!(response.header("via"), Some("1.0 lifecycle-proxy"));
}

#[test]
fn an_absolute_target_names_the_host() {
    let (upstream, heads) = recording(OK);
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.connect();
    client.send("GET http://b.example:81/x HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert_eq!(client.response().0.status, 200);
    let head = heads.recv().unwrap();
    assert!(head.starts_with("GET /x HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "host"), Some("b.example:81"));
}

#[test]
fn bodies_stream_both_ways_chunk_by_chunk() {
    let proxy = Proxy::start("");
    let mut client = proxy.connect();
    client
        .send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none,\r\n");
    let response = client.response_head();
    assert_eq!(response.header("transfer-encoding"), Some("chunked"));
    // Each chunk comes back to the client before the client sends the next chunk.
    assert_eq!(client.chunk().unwrap(), b"one,");
    client.send("3\r\ntwo\r\n");
    assert_eq!(client.chunk().unwrap(), b"two");
    client.send("0\r\n\r\n");
    assert_eq!(client.chunk(), None);
    // Afterwards, the same connection serves another request.
    assert_eq!(client.get("/").0.status, 200);
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it() {
    // The upstream answers only after it has read the body. After an earlier answer, the client
    // would not send the body.
    let upstream = Upstream::start(|_, client| {
        let head = client.head();
        assert_eq!(client.body(&head), b"abc");
        client.send(OK);
    });
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(client.response_head().status, 100);
    client.send("abc");
    assert_eq!(client.response().1, b"ok");
}

#[test]
fn trailers_pass_to_a_client_that_takes_them() {
    let (upstream, heads) = recording(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
         2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\n\r\n");
    assert_eq!(client.response_head().status, 200);
    let trailers = client.chunks_and_trailers();
    assert!(trailers.to_lowercase().contains("x-sum: 7"), "{trailers:?}");
    assert_eq!(header(&heads.recv().unwrap(), "te"), Some("trailers"));
}

#[test]
fn a_response_to_head_keeps_its_length_and_the_connection() {
    let (upstream, _heads) = recording("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n");
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.response_head();
        assert_eq!(response.header("content-length"), Some("1234"));
    }
}

#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let upstream = Upstream::start(|_, client| {
        client.head();
        client.send("HTTP/1.1 413 Too Much\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno");
        client.rest();
    });
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n");
    let mut writer = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        // Writes until it fails, which it does once the proxy has closed the connection.
        while std::io::Write::write_all(&mut writer, &[b'x'; 65536]).is_ok() {}
    });
    let (response, body) = client.response();
    assert_eq!((response.status, &*body), (413, &b"no"[..]));
    drop(proxy);
    sender.join().unwrap();
}

#[test]
fn a_reused_connection_that_died_is_replaced_without_the_client_noticing() {
    let upstream = Upstream::start(|number, client| {
        client.head();
        client.send(OK);
        // The upstream closes its first connection at the second request, without an answer.
        if number > 0 {
            client.head();
            client.send(OK);
        } else {
            client.head();
        }
    });
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.connect();
    assert_eq!(client.get("/1").0.status, 200);
    assert_eq!(client.get("/2").0.status, 200);
}

/// Sends a GET request to a new proxy in front of `upstream`. Returns the answer.
#[track_caller]
fn failure(upstream: &str, config: &str) -> (u16, String, String) {
    let proxy = Proxy::start(&format!("upstream: {upstream}\n{config}"));
    let (response, body) = proxy.connect().get("/");
    let error = response.header("proxy-status").unwrap_or_default();
    let body = String::from_utf8(body).unwrap();
    assert!(body.contains(upstream), "{body}");
    (response.status, error.to_owned(), body)
}

#[test]
fn an_upstream_that_refuses_connections_is_502() {
    let upstream = format!("http://{}", Upstream::unused_address());
    let (status, error, body) = failure(&upstream, "");
    assert_eq!(status, 502);
    assert_eq!(error, "lifecycle-proxy; error=connection_refused");
    assert!(body.starts_with("502 Bad Gateway: "), "{body}");
}

#[test]
fn an_upstream_of_an_unknown_name_is_502() {
    // No resolver is used for this name, since a label of 64 letters is invalid in DNS.
    let upstream = format!("http://{}.example:80", "x".repeat(64));
    let (status, error, _) = failure(&upstream, "");
    assert_eq!((status, &*error), (502, "lifecycle-proxy; error=dns_error"));
}

#[test]
fn an_upstream_that_closes_or_sends_garbage_is_502() {
    for (answer, name) in [
        ("", "connection_terminated"),
        ("What?\r\n\r\n", "http_protocol_error"),
        (
            "HTTP/1.1 101 Fine\r\nUpgrade: x\r\n\r\n",
            "http_protocol_error",
        ),
    ] {
        let upstream = Upstream::start(move |_, client| {
            client.head();
            client.send(answer);
        });
        let (status, error, _) = failure(&format!("http://{}", upstream.address), "");
        assert_eq!(status, 502, "{answer}");
        assert_eq!(error, format!("lifecycle-proxy; error={name}"), "{answer}");
    }
}

#[test]
fn an_upstream_that_does_not_answer_is_504() {
    let upstream = Upstream::start(|_, client| {
        client.head();
        client.rest();
    });
    let config = "timeouts: {response: 1}";
    let (status, error, _) = failure(&format!("http://{}", upstream.address), config);
    assert_eq!(status, 504);
    assert_eq!(error, "lifecycle-proxy; error=http_response_timeout");
}

#[test]
fn a_response_that_breaks_off_breaks_off_for_the_client_too() {
    let (upstream, _heads) = recording("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.connect();
    client.ask("/");
    assert_eq!(client.response_head().status, 200);
    assert_eq!(client.rest(), b"half");
}

#[test]
fn the_proxy_answers_requests_that_are_not_for_the_upstream() {
    let (upstream, _heads) = recording(OK);
    let proxy = Proxy::before(&upstream, "");
    for (request, status) in [
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 204),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: wonders\r\n\r\n", 417),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            501,
        ),
    ] {
        let mut client = proxy.connect();
        client.send(request);
        assert_eq!(client.response_head().status, status, "{request}");
    }
    assert_eq!(
        upstream
            .connections
            .load(std::sync::atomic::Ordering::SeqCst),
        0
    );
}
