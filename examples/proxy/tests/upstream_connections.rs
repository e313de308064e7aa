//! Tests of connections to upstreams: a connection serves one request after the other. The proxy
//! closes it when it cannot serve another request.

mod support;

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver};

use support::{Client, Proxy, Upstream};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The end of a connection at the upstream: the number of bytes that came after the expected
/// requests, or an error.
type End = std::io::Result<usize>;

/// Reads the bytes that the proxy still sends, up to the end of the connection. Returns their
/// number.
fn end_of(client: &mut Client) -> End {
    client.stream.read_to_end(&mut Vec::new())
}

/// Starts an upstream that answers `answers` requests on each connection and then calls `then`. The
/// receiver gets the end of each connection.
fn ending(
    answers: usize,
    then: impl Fn(&mut Client) + Send + Sync + 'static,
) -> (Upstream, Receiver<End>) {
    let (tell, ends) = mpsc::channel();
    let upstream = Upstream::start(move |_, client| {
        for _ in 0..answers {
            if client.next_head().is_none() {
                break;
            }
            client.send(OK);
        }
        then(client);
        tell.send(end_of(client)).unwrap();
    });
    (upstream, ends)
}

#[track_caller]
fn in_order(ends: &Receiver<End>) {
    let end = ends.recv_timeout(std::time::Duration::from_secs(20));
    assert!(matches!(end, Ok(Ok(0))), "{end:?}");
}

#[test]
fn one_serves_requests_of_several_clients_whatever_their_responses_are_like() {
    let upstream = Upstream::start(|_, client| {
        while let Some(head) = client.next_head() {
            let path = head.split(' ').nth(1).unwrap();
            let response = match path {
                "/chunked" => {
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
                }
                "/nothing" => "HTTP/1.1 204 No Content\r\n\r\n",
                "/empty" => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                "/early" => {
                    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
                }
                "/sent" => {
                    assert_eq!(client.body(&head), b"body");
                    OK
                }
                "/large" => {
                    client.send("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n");
                    client.stream.write_all(&[b'x'; 300_000]).unwrap();
                    continue;
                }
                _ if head.starts_with("HEAD") => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
                _ => OK,
            };
            client.send(response);
        }
    });
    // The proxy has one thread here, since each thread has idle connections of its own.
    let proxy = Proxy::before(&upstream, "worker_threads: 1");
    for path in [
        "/", "/chunked", "/nothing", "/empty", "/early", "/large", "/",
    ] {
        let mut client = proxy.connect();
        client.ask(path);
        let mut response = client.response_head();
        if response.status == 103 {
            response = client.response_head();
        }
        match response.status {
            204 => {}
            _ => drop(client.body(&response.head)),
        }
        let mut client = proxy.connect();
        client.send("POST /sent HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(client.response().0.status, 200, "after {path}");
        let mut client = proxy.connect();
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(client.response_head().status, 200, "after {path}");
    }
    assert_eq!(upstream.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn one_that_the_upstream_closes_is_closed_at_once_and_no_request_is_lost_with_it() {
    let (close, closes) = mpsc::channel();
    let closes = Mutex::new(closes);
    // The upstream closes its side after the answer, when the test sends a message, and the
    // connection is idle.
    let (upstream, ends) = ending(1, move |client| {
        closes.lock().unwrap().recv().unwrap();
        client.stream.shutdown(Shutdown::Write).unwrap();
    });
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.connect();
    for turn in 0..3 {
        // Sends a POST request, which the proxy may not send twice.
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.response().0.status, 200, "turn {turn}");
        close.send(()).unwrap();
        in_order(&ends);
    }
    assert_eq!(upstream.connections.load(Ordering::SeqCst), 3);
}

#[test]
fn one_that_says_what_nobody_asked_for_is_closed() {
    let (upstream, ends) = ending(1, |client| client.send(OK));
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.connect();
    assert_eq!(client.get("/").0.status, 200);
    let end = ends.recv().unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    assert_eq!(client.get("/").0.status, 200);
}

#[test]
fn one_that_is_not_used_is_closed_after_its_time() {
    let (upstream, ends) = ending(1, |_| {});
    let proxy = Proxy::before(&upstream, "timeouts: {pool_idle: 1}");
    assert_eq!(proxy.connect().get("/").0.status, 200);
    in_order(&ends);
}

#[test]
fn idle_ones_are_closed_in_order_by_a_shutdown() {
    let (upstream, ends) = ending(usize::MAX, |_| {});
    let proxy = Proxy::before(&upstream, "");
    let mut clients: Vec<_> = (0..5).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").0.status, 200);
    }
    proxy.drain();
    for _ in 0..upstream.connections.load(Ordering::SeqCst) {
        in_order(&ends);
    }
    assert_eq!(proxy.wait().code(), 0);
}

#[test]
fn one_whose_response_the_client_leaves_is_closed() {
    let (tell, ends) = mpsc::channel();
    let upstream = Upstream::start(move |_, client| {
        client.head();
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
        while client.stream.write_all(&[b'x'; 65536]).is_ok() {}
        tell.send(()).unwrap();
    });
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.connect();
    client.ask("/");
    client.response_head();
    drop(client);
    ends.recv().unwrap();
}

/// The client sends its whole request before it reads any byte of the response.
#[test]
fn a_request_is_sent_on_while_the_client_does_not_read_the_response() {
    const LENGTH: usize = 8_000_000;
    let (tell, received) = mpsc::channel();
    let upstream = Upstream::start(move |number, client| {
        let head = client.head();
        if number > 0 {
            return client
                .send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        client.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"
        ));
        let mut to = client.stream.try_clone().unwrap();
        let sender = std::thread::spawn(move || to.write_all(&vec![b'y'; LENGTH]));
        let body = client.body(&head);
        tell.send(body.len()).unwrap();
        sender.join().unwrap().unwrap();
        while client.next_head().is_some() {
            client.send(OK);
        }
    });
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.connect();
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n"
    ));
    client.send(vec![b'x'; LENGTH]);
    assert_eq!(received.recv().unwrap(), LENGTH);
    assert_eq!(client.response().1.len(), LENGTH);
    // The connection is used again. It becomes idle only after the client has its response, so
    // another connection may serve the next request.
    support::eventually("a response over the first connection", || {
        (client.get("/").0.status == 200).then_some(())
    });
}
