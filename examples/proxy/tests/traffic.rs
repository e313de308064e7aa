//! Tests of routes and upstreams, and of WebSocket, server-sent events, and HTTP/2 to clients and
//! to upstreams.

mod support;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::client::legacy::Client as Http;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use support::client::header;
use support::{Client, Proxy, Upstream, eventually};

/// Starts an upstream that answers every request with its name.
fn named(name: &'static str) -> Upstream {
    Upstream::start(move |_, client| {
        loop {
            let Some(head) = client.next_head() else {
                return;
            };
            client.body(&head);
            client.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}",
                name.len()
            ));
        }
    })
}

fn ask(proxy: &Proxy, host: &str, path: &str) -> (u16, String) {
    let mut client = proxy.connect();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let (response, body) = client.response();
    (response.status, String::from_utf8(body).unwrap())
}

#[test]
fn requests_are_routed_by_host_and_path() {
    let (any, api, shop) = (named("any"), named("api"), named("shop"));
    let proxy = Proxy::start(&format!(
        "upstream: http://{}\nroutes:\n- path: /api\n  upstreams: [http://{}]\n\
         - host: \"*.shop.example\"\n  upstreams: [http://{}]\n",
        any.address, api.address, shop.address
    ));
    for (host, path, name) in [
        ("a", "/", "any"),
        ("a", "/apis", "any"),
        ("a", "/api/x?y", "api"),
        ("de.shop.example:8080", "/api", "shop"),
        ("shop.example", "/", "any"),
    ] {
        assert_eq!(ask(&proxy, host, path), (200, name.into()), "{host}{path}");
    }
}

#[test]
fn without_a_route_for_it_a_request_is_not_found() {
    let api = named("api");
    let proxy = Proxy::start(&format!(
        "routes:\n- path: /api\n  upstreams: [http://{}]\n",
        api.address
    ));
    assert_eq!(ask(&proxy, "a", "/api").0, 200);
    let mut client = proxy.connect();
    assert_eq!(client.get("/other").0.status, 404);
    assert_eq!(client.get("/api").0.status, 200, "the connection is kept");
}

#[test]
fn upstreams_take_turns_and_a_missing_one_costs_no_request() {
    let (a, b) = (named("a"), named("b"));
    let gone = Upstream::unused_address();
    let proxy = Proxy::start(&format!(
        "routes:\n- upstreams: [http://{}, http://{gone}, http://{}]\nbreaker: {{failures: 2, open: 3600}}\n\
         metrics: {{enabled: true, address: \"127.0.0.1:0\"}}",
        a.address, b.address
    ));
    let answers: Vec<_> = (0..20).map(|_| ask(&proxy, "x", "/")).collect();
    let names: BTreeSet<_> = answers.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["a", "b"]));
    let text = proxy.metrics();
    let open = format!("proxy_upstream_breaker{{upstream=\"http://{gone}\"}} 2");
    assert!(text.contains(&open), "{text}");
}

#[test]
fn an_unhealthy_upstream_gets_no_requests_until_it_recovers() {
    let well = Arc::new(AtomicBool::new(true));
    let told = well.clone();
    let sick = Upstream::start(move |_, client| {
        while let Some(head) = client.next_head() {
            let up = told.load(Ordering::SeqCst) || !head.starts_with("GET /up ");
            let status = if up { "200 OK" } else { "503 Busy" };
            client.send(format!(
                "HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\nsick"
            ));
        }
    });
    let fit = named("fit");
    let proxy = Proxy::start(&format!(
        "routes:\n- upstreams: [http://{}, http://{}]\n  health: {{path: /up, interval: 1}}\n",
        sick.address, fit.address
    ));
    let seen = || -> BTreeSet<String> { (0..6).map(|_| ask(&proxy, "x", "/").1).collect() };
    assert_eq!(seen().len(), 2);
    well.store(false, Ordering::SeqCst);
    proxy.log().find("the upstream is not healthy");
    assert_eq!(seen(), BTreeSet::from(["fit".to_owned()]));
    well.store(true, Ordering::SeqCst);
    proxy.log().find("the upstream is healthy again");
    assert_eq!(seen().len(), 2);
}

#[test]
fn a_breaker_opens_answers_at_once_and_closes_when_the_upstream_is_back() {
    let down = Arc::new(AtomicBool::new(true));
    let told = down.clone();
    let upstream = Upstream::start(move |_, client| {
        while client.next_head().is_some() {
            if told.load(Ordering::SeqCst) {
                client.send("nonsense\r\n\r\n");
                return;
            }
            client.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let proxy = Proxy::before(&upstream, "breaker: {failures: 3, open: 1}");
    for _ in 0..3 {
        assert_eq!(ask(&proxy, "x", "/").0, 502);
    }
    let asked = upstream.connections.load(Ordering::SeqCst);
    let (response, _) = proxy.connect().get("/");
    assert_eq!(response.status, 503);
    assert_eq!(response.header("retry-after"), Some("1"));
    assert_eq!(upstream.connections.load(Ordering::SeqCst), asked);
    down.store(false, Ordering::SeqCst);
    eventually("an answer", || {
        (ask(&proxy, "x", "/").0 == 200).then_some(())
    });
    assert_eq!(ask(&proxy, "x", "/").0, 200);
}

#[test]
fn clients_that_abort_uploads_do_not_open_a_breaker() {
    let upstream = Upstream::start(|_, client| {
        while let Some(head) = client.next_head() {
            if head.starts_with("POST ") {
                // This upstream answers only after it has read the whole body.
                client.rest();
                return;
            }
            client.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let proxy = Proxy::before(
        &upstream,
        "breaker: {failures: 2, open: 3600}\nmetrics: {enabled: true, address: \"127.0.0.1:0\"}",
    );
    for _ in 0..5 {
        let mut client = proxy.connect();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        // Reads up to the end of the connection, with or without an answer.
        client.rest();
    }
    eventually("their ends", || {
        let text = proxy.metrics();
        text.contains("\nproxy_requests_unfinished 0\n")
            .then_some(())
    });
    assert_eq!(ask(&proxy, "x", "/"), (200, "ok".into()));
    let text = proxy.metrics();
    assert!(
        text.contains("\nproxy_upstream_failures_total 0\n"),
        "{text}"
    );
}

const ASK_FOR_WEBSOCKET: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Starts an upstream that accepts WebSocket. It echoes frames without their mask.
fn echo() -> Upstream {
    Upstream::start(|_, client| {
        let head = client.head();
        assert_eq!(header(&head, "upgrade"), Some("websocket"), "{head}");
        assert_eq!(header(&head, "connection"), Some("upgrade"), "{head}");
        assert!(header(&head, "sec-websocket-key").is_some(), "{head}");
        client.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        );
        while let Some((first, payload)) = client.frame() {
            client.send([&[first, u8::try_from(payload.len()).unwrap()], &payload[..]].concat());
            if first == 0x88 {
                return;
            }
        }
    })
}

fn websocket(proxy: &Proxy) -> Client {
    let mut client = proxy.connect();
    client.send(ASK_FOR_WEBSOCKET);
    let response = client.response_head();
    assert_eq!(response.status, 101, "{response:?}");
    assert_eq!(response.header("upgrade"), Some("websocket"));
    assert_eq!(response.header("connection"), Some("upgrade"));
    assert!(response.header("sec-websocket-accept").is_some());
    client
}

#[test]
fn websocket_frames_pass_both_ways_and_its_close_too() {
    let upstream = echo();
    let proxy = Proxy::before(&upstream, "");
    let mut client = websocket(&proxy);
    for text in ["hello", "again"] {
        client.send_frame(0x81, text.as_bytes());
        assert_eq!(client.frame().unwrap(), (0x81, text.into()));
    }
    client.send_frame(0x88, &[3, 232]);
    assert_eq!(client.frame().unwrap(), (0x88, vec![3, 232]));
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_websocket_gets_a_close_frame_and_is_awaited() {
    let upstream = echo();
    let proxy = Proxy::before(&upstream, "metrics: {file: numbers.json}");
    let mut client = websocket(&proxy);
    client.send_frame(0x81, b"x");
    assert_eq!(client.frame().unwrap().0, 0x81);
    proxy.drain();
    assert_eq!(client.frame().unwrap(), (0x88, vec![0x03, 0xe9]));
    client.send_frame(0x88, &[0x03, 0xe9]);
    assert_eq!(client.rest(), b"");
    let ended = proxy.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log.text());
    let numbers = std::fs::read_to_string(ended.directory.path().join("numbers.json")).unwrap();
    let numbers: serde_json::Value = serde_json::from_str(&numbers).unwrap();
    assert_eq!(numbers["connections_cut"], 0);
    assert_eq!(numbers["responses_1xx"], 1);
}

#[test]
fn a_silent_websocket_client_is_pinged_then_disconnected() {
    let upstream = echo();
    let proxy = Proxy::before(&upstream, "websocket: {ping: 1}\ntimeouts: {idle: 3600}");
    let mut client = websocket(&proxy);
    assert_eq!(client.frame().unwrap(), (0x89, vec![]));
    client.send_frame(0x8a, b"");
    assert_eq!(client.frame().unwrap().0, 0x8a, "the upstream's echo");
    assert_eq!(client.frame().unwrap(), (0x89, vec![]));
    assert_eq!(client.rest(), b"");
}

#[test]
fn events_pass_as_they_come_and_the_stream_ends_between_two_when_the_proxy_does() {
    let upstream = Upstream::start(|_, client| {
        client.head();
        client.send(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
             Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n",
        );
        client.rest();
    });
    let proxy = Proxy::before(&upstream, "shutdown_timeout: 600");
    let mut client = proxy.connect();
    client.ask("/events");
    let head = client.response_head();
    assert_eq!(client.chunk().unwrap(), b"data: 1\n\n");
    proxy.signal(Signal::TERM);
    let rest = String::from_utf8(client.body(&head.head)).unwrap();
    assert!(
        rest.starts_with("retry: ") && rest.ends_with("\n\n"),
        "{rest:?}"
    );
    assert_eq!(client.rest(), b"");
    assert_eq!(proxy.wait().code(), 0);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn http2() -> Http<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>> {
    Http::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http()
}

fn request(address: SocketAddr, path: &str) -> Request<Full<Bytes>> {
    let request = Request::post(format!("http://{address}{path}"));
    let request = request.header("cookie", "a=1").header("cookie", "b=2");
    request.body(Full::from("body")).unwrap()
}

#[test]
fn http_2_is_taken_and_passed_on_as_http_1() {
    let upstream = Upstream::start(|_, client| {
        while let Some(head) = client.next_head() {
            assert!(head.starts_with("POST /x HTTP/1.1\r\n"), "{head}");
            assert_eq!(header(&head, "cookie"), Some("a=1; b=2"), "{head}");
            assert_eq!(header(&head, "via"), Some("2 lifecycle-proxy"), "{head}");
            assert!(header(&head, "host").is_some(), "{head}");
            assert_eq!(client.body(&head), b"body");
            client.send("HTTP/1.1 200 OK\r\nConnection: x\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let proxy = Proxy::before(&upstream, "");
    runtime().block_on(async {
        let client = http2();
        let requests = (0..10).map(|_| client.request(request(proxy.address(), "/x")));
        for response in futures_util::future::join_all(requests).await {
            let response = response.unwrap();
            assert_eq!(response.version(), Version::HTTP_2);
            assert_eq!(response.status(), 200);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, "ok");
        }
        // An unused connection must not delay the shutdown.
        proxy.drain();
    });
    let ended = proxy.wait();
    assert_eq!(ended.code(), 0);
}

#[test]
fn a_request_in_http_2_that_is_in_flight_is_finished() {
    let proxy = Proxy::start("");
    runtime().block_on(async {
        let client = http2();
        let uri = format!("http://{}/slow?seconds=1", proxy.address());
        let request = Request::get(uri).body(Full::default()).unwrap();
        let response = client.request(request).await.unwrap();
        proxy.drain();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body.ends_with(b"tick 10 of 10\n"));
    });
    assert_eq!(proxy.wait().code(), 0);
}

/// Starts an HTTP/2 upstream that answers with the path, `Connection` and `Host` of the request.
fn http2_upstream() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        runtime().block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let service =
                        service_fn(|request: Request<hyper::body::Incoming>| async move {
                            assert_eq!(request.version(), Version::HTTP_2);
                            let text = format!(
                                "{} {:?} {:?}",
                                request.uri().path(),
                                request.headers().get("connection"),
                                request.headers().get("host")
                            );
                            Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::from(
                                text,
                            )))
                        });
                    let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
    });
    address
}

#[test]
fn an_upstream_may_speak_http_2() {
    let proxy = Proxy::start(&format!("upstream: h2c://{}", http2_upstream()));
    let mut client = proxy.connect();
    client.send("GET /x HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n");
    let (response, body) = client.response();
    assert_eq!((response.status, &*body), (200, &b"/x None None"[..]));
    assert!(response.head.starts_with("HTTP/1.1 "), "{response:?}");
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code(), 0);
}

#[test]
fn a_client_that_resets_its_websocket_leaves_nothing_behind() {
    let upstream = echo();
    let proxy = Proxy::before(
        &upstream,
        "metrics: {enabled: true, address: \"127.0.0.1:0\"}",
    );
    let clients: Vec<_> = (0..10).map(|_| websocket(&proxy)).collect();
    eventually("the count of all", || {
        let text = proxy.metrics();
        text.contains("proxy_websockets_active 10\n").then_some(())
    });
    for client in clients {
        rustix::net::sockopt::set_socket_linger(&client.stream, Some(std::time::Duration::ZERO))
            .unwrap();
    }
    eventually("the end of all", || {
        let text = proxy.metrics();
        let gone = text.contains("proxy_websockets_active 0\n")
            && text.contains("proxy_connections_active 0\n");
        gone.then_some(())
    });
}

#[test]
fn an_upstream_that_leaves_ends_the_websocket() {
    let upstream = Upstream::start(|_, client| {
        client.head();
        client.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        );
        client.send([0x81, 1, b'!']);
    });
    let proxy = Proxy::before(&upstream, "");
    let mut client = websocket(&proxy);
    assert_eq!(client.frame().unwrap(), (0x81, b"!".to_vec()));
    match client.stream.read(&mut [0]) {
        Ok(read) => assert_eq!(read, 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}
