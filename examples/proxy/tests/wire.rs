//! Tests of strictness. If two servers read the same bytes differently, a client can smuggle a
//! request past the first server.

mod support;

use std::sync::mpsc;

use support::{Proxy, Upstream};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Starts an upstream that answers every request with `answer`. The receiver gets the heads of the
/// requests.
fn recording(answer: &'static str) -> (Upstream, mpsc::Receiver<String>) {
    let (tell, heads) = mpsc::channel();
    let upstream = Upstream::start(move |_, client| {
        while let Some(head) = client.next_head() {
            client.body(&head);
            tell.send(head).unwrap();
            client.send(answer);
        }
    });
    (upstream, heads)
}

/// Sends `bytes` on a new connection. Returns the whole answer.
fn exchange(proxy: &Proxy, bytes: &str) -> String {
    let mut client = proxy.connect();
    client.send(bytes);
    String::from_utf8(client.rest()).unwrap()
}

fn statuses(text: &str) -> Vec<&str> {
    text.match_indices("HTTP/1.1 ")
        .map(|(at, _)| &text[at + 9..at + 12])
        .collect()
}

#[test]
fn a_request_with_two_lengths_is_refused_and_what_follows_it_is_not_read() {
    let (upstream, heads) = recording(OK);
    let proxy = Proxy::before(&upstream, "");
    for lengths in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 0\r\nX: y\r\ntransfer-encoding: Chunked",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length:",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    ] {
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        let text = exchange(
            &proxy,
            &format!("POST / HTTP/1.1\r\nHost: a\r\n{lengths}\r\n\r\n0\r\n\r\n{smuggled}"),
        );
        assert_eq!(statuses(&text), ["400"], "{lengths}: {text}");
    }
    assert!(heads.try_recv().is_err(), "one reached the upstream");
}

#[test]
fn requests_before_an_ambiguous_one_are_answered() {
    let (upstream, heads) = recording(OK);
    let proxy = Proxy::before(&upstream, "");
    let chunked = "POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n";
    let text = exchange(
        &proxy,
        &format!(
            "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc{chunked}\
             GET /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
        ),
    );
    assert_eq!(statuses(&text), ["200", "200", "400"], "{text}");
    let seen: Vec<_> = heads.try_iter().collect();
    assert_eq!(seen.len(), 2, "{seen:?}");
}

#[test]
fn a_response_in_an_unknown_transfer_coding_is_an_error() {
    let (coding, protocol) = ("http_response_transfer_coding", "http_protocol_error");
    let chunks = "2\r\nok\r\n0\r\n\r\n";
    for (fields, body, error) in [
        ("Transfer-Encoding: gzip, chunked", chunks, coding),
        (
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
            chunks,
            coding,
        ),
        ("Transfer-Encoding: gzip", "ok", coding),
        ("Transfer-Encoding: identity", "ok", coding),
        ("Transfer-Encoding: chunked, chunked", chunks, coding),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 2",
            chunks,
            protocol,
        ),
        ("Content-Length: 2\r\nContent-Length: 2", "ok", protocol),
        ("Content-Length: 2, 2", "ok", protocol),
    ] {
        let upstream = Upstream::start(move |_, client| {
            client.head();
            client.send(format!(
                "HTTP/1.1 200 OK\r\n{fields}\r\nConnection: close\r\n\r\n{body}"
            ));
        });
        let proxy = Proxy::before(&upstream, "");
        let (response, _) = proxy.connect().get("/");
        assert_eq!(response.status, 502, "{fields}");
        assert_eq!(
            response.header("proxy-status"),
            Some(&*format!("lifecycle-proxy; error={error}")),
            "{fields}"
        );
    }
}

#[test]
fn interim_responses_reach_the_client_before_the_final_one() {
    // The upstream sends the final response only after the client has got the interim responses.
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let upstream = Upstream::start(move |_, client| {
        client.head();
        client.send("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
        client.send(
            "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\
             Connection: x-hop\r\nX-Hop: 1\r\n\r\n",
        );
        held.lock().unwrap().recv().unwrap();
        client.send(OK);
    });
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.connect();
    client.ask("/1");
    assert_eq!(client.response_head().status, 102);
    let hints = client.response_head();
    assert_eq!(hints.status, 103);
    assert_eq!(hints.header("link"), Some("</a.css>; rel=preload"));
    assert_eq!(
        (hints.header("connection"), hints.header("x-hop")),
        (None, None)
    );
    release.send(()).unwrap();
    assert_eq!(client.response().1, b"ok");
}

#[test]
fn interim_responses_come_in_the_order_of_their_requests_and_not_to_http_1_0() {
    let upstream = Upstream::start(|_, client| {
        while let Some(head) = client.next_head() {
            let path = head.split(' ').nth(1).unwrap().to_owned();
            client.send(format!(
                "HTTP/1.1 103 Early Hints\r\nLink: {path}\r\n\r\n{OK}"
            ));
        }
    });
    let proxy = Proxy::before(&upstream, "");
    let text = exchange(
        &proxy,
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(statuses(&text), ["103", "200", "103", "200"], "{text}");
    assert!(
        text.find("link: /1").unwrap() < text.find("link: /2").unwrap(),
        "{text}"
    );
    let text = exchange(&proxy, "GET /3 HTTP/1.0\r\nHost: a\r\n\r\n");
    assert!(
        text.starts_with("HTTP/1.0 200 ") && !text.contains("103"),
        "{text}"
    );
}

#[test]
fn a_host_has_a_port_that_there_can_be() {
    let (upstream, heads) = recording(OK);
    let proxy = Proxy::before(&upstream, "");
    for host in [
        "a:port", "a:65536", "a:99999", "a:+80", "a:8 0", "[::1]:x", "[::1]80", "a:1:2",
    ] {
        for request in [
            format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            format!("GET http://{host}/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        ] {
            let text = exchange(&proxy, &request);
            assert_eq!(statuses(&text), ["400"], "{request}: {text}");
        }
    }
    assert!(heads.try_recv().is_err());
    for host in ["a:65535", "a:", "[::1]:80", "[::1]", "a"] {
        let text = exchange(
            &proxy,
            &format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
        );
        assert_eq!(statuses(&text), ["200"], "{host}: {text}");
    }
}

/// A trailer section with allowed and forbidden fields (RFC 9110 §6.5.1).
const TRAILERS: &str = "Connection: x-hop\r\nX-Hop: 1\r\nTransfer-Encoding: chunked\r\n\
    Content-Length: 5\r\nHost: evil\r\nX-Forwarded-For: 9.9.9.9\r\nSet-Cookie: a=b\r\nX-Sum: 7\r\n";

const DECLARED: &str = "Trailer: connection, x-hop, transfer-encoding, content-length, host, \
    x-forwarded-for, set-cookie, x-sum\r\n";

#[test]
fn fields_that_no_trailer_may_have_are_dropped_from_requests() {
    let (tell, seen) = mpsc::channel();
    let upstream = Upstream::start(move |_, client| {
        client.head();
        tell.send(client.chunks_and_trailers().to_lowercase())
            .unwrap();
        client.send(OK);
    });
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.connect();
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{DECLARED}\r\n2\r\nok\r\n0\r\n{TRAILERS}\r\n"
    ));
    assert_eq!(client.response().0.status, 200);
    assert_eq!(seen.recv().unwrap(), "x-sum: 7\r\n\r\n");
}

#[test]
fn fields_that_no_trailer_may_have_are_dropped_from_responses() {
    let upstream = Upstream::start(|_, client| {
        while client.next_head().is_some() {
            client.send(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{DECLARED}\r\n2\r\nok\r\n0\r\n{TRAILERS}\r\n"
            ));
        }
    });
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\n\r\n");
    assert_eq!(client.response_head().status, 200);
    let trailers = client.chunks_and_trailers().to_lowercase();
    assert_eq!(trailers, "x-sum: 7\r\n\r\n");

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (body, trailers) = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(proxy.address())
            .await
            .unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let request = hyper::Request::get("http://a/").header("te", "trailers");
        let (response, _) = client
            .send_request(request.body(()).unwrap(), true)
            .unwrap();
        let mut body = response.await.unwrap().into_body();
        let mut bytes = Vec::new();
        while let Some(data) = body.data().await {
            bytes.extend_from_slice(&data.unwrap());
        }
        (bytes, body.trailers().await.unwrap())
    });
    assert_eq!(body, b"ok");
    let names: Vec<_> = trailers.iter().flat_map(|fields| fields.keys()).collect();
    assert_eq!(names, ["x-sum"]);
}

#[test]
fn a_request_is_sent_once_unless_an_idle_connection_died_under_it() {
    // Requests that must not be sent twice: first on new connections that end during the request,
    // then on a used connection on which the answer has begun.
    let (tell, heads) = mpsc::channel();
    let upstream = Upstream::start(move |_, client| {
        while let Some(head) = client.next_head() {
            tell.send(head.clone()).unwrap();
            if head.starts_with("GET /dies") {
                return;
            }
            if head.starts_with("GET /begins") {
                return client.send("HTTP/1.1 200 OK\r\nContent-");
            }
            client.send(OK);
        }
    });
    // The proxy has one thread here, since each thread has idle connections of its own.
    let proxy = Proxy::before(&upstream, "worker_threads: 1");
    let times = |path: &str| heads.try_iter().filter(|head| head.contains(path)).count();

    assert_eq!(proxy.connect().get("/dies").0.status, 502);
    assert_eq!(times("/dies"), 1, "on a fresh connection");
    assert_eq!(proxy.connect().get("/kept").0.status, 200);
    assert_eq!(proxy.connect().get("/begins").0.status, 502);
    assert_eq!(times("/begins"), 1, "the answer had begun");
    assert_eq!(proxy.connect().get("/kept").0.status, 200);
    assert_eq!(proxy.connect().get("/dies").0.status, 502);
    assert_eq!(
        times("/dies"),
        2,
        "the idle connection may have been dead, the next one was not"
    );
}

#[test]
fn a_client_cannot_remove_the_fields_of_a_trusted_balancer() {
    let request = "GET / HTTP/1.1\r\nHost: shop.example\r\n\
        Connection: X-Forwarded-For, x-forwarded-proto, x-forwarded-host, forwarded, via, x-hop, close\r\n\
        X-Hop: 1\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\
        X-Forwarded-Host: shop.example\r\nForwarded: for=192.0.2.7;proto=https\r\nVia: 1.1 balancer\r\n\r\n";
    let (upstream, heads) = recording(OK);
    let proxy = Proxy::before(&upstream, "trust_forwarded: true");
    exchange(&proxy, request);
    let head = heads.recv().unwrap();
    let has = |name| support::client::header(&head, name);
    assert_eq!(has("x-forwarded-for"), Some("192.0.2.7, 127.0.0.1"));
    assert_eq!(has("x-forwarded-proto"), Some("https"));
    assert_eq!(has("x-forwarded-host"), Some("shop.example"));
    assert_eq!(has("via"), Some("1.1 balancer, 1.1 lifecycle-proxy"));
    assert!(
        has("forwarded")
            .unwrap()
            .starts_with("for=192.0.2.7;proto=https, for=")
    );
    assert_eq!(has("x-hop"), None);
}

#[test]
fn a_get_with_a_body_has_it_at_the_upstream_too() {
    let (tell, seen) = mpsc::channel();
    let upstream = Upstream::start(move |_, client| {
        while let Some(head) = client.next_head() {
            tell.send(client.body(&head)).unwrap();
            client.send(OK);
        }
    });
    let proxy = Proxy::before(&upstream, "");
    for framing in [
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "Content-Length: 3\r\n\r\nabc",
    ] {
        let mut client = proxy.connect();
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{framing}"));
        assert_eq!(client.response().0.status, 200);
        assert_eq!(seen.recv().unwrap(), b"abc", "{framing}");
    }
}

#[test]
fn ambiguous_requests_are_refused() {
    let (upstream, heads) = recording(OK);
    let proxy = Proxy::before(&upstream, "");
    for request in [
        "GET /#part HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a..b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: , chunked\r\n\r\n0\r\n\r\n",
    ] {
        let text = exchange(&proxy, request);
        assert_eq!(statuses(&text), ["400"], "{request}: {text}");
    }
    assert!(heads.try_recv().is_err());
}
