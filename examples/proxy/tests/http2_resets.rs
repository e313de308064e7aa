//! Tests with HTTP/2 clients that reset their requests at any moment. Other clients must not lose a
//! request, nothing may be left over, and the proxy must stop a client that only resets.

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use hyper::Request;
use support::{Client, PATIENCE, Proxy, Upstream, eventually};

/// Starts an upstream that answers `/late` after a while, and all other requests at once.
fn upstream(asked: &Arc<AtomicUsize>) -> Upstream {
    let asked = asked.clone();
    Upstream::start(move |_, client| {
        while let Some(head) = client.next_head() {
            asked.fetch_add(1, Ordering::SeqCst);
            // Ends the connection if the body did not come completely, since the proxy may have
            // given it up.
            if head.contains("chunked") && !swallow(client) {
                return;
            }
            if head.contains(" /late ") {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            let body = vec![b'x'; 100_000];
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let answer = [head.as_bytes(), &body].concat();
            if client.stream.write_all(&answer).is_err() {
                return;
            }
        }
    })
}

/// Reads a chunked body. Returns whether the body was complete.
fn swallow(client: &mut Client) -> bool {
    loop {
        let mut size = String::new();
        loop {
            let mut byte = [0];
            if !client.read_exactly(&mut byte) {
                return false;
            }
            size.push(char::from(byte[0]));
            if size.ends_with("\r\n") {
                break;
            }
        }
        let length = usize::from_str_radix(size.trim(), 16).unwrap();
        if !client.read_exactly(&mut vec![0; length + 2]) {
            return false;
        }
        if length == 0 {
            return true;
        }
    }
}

async fn connect(proxy: &Proxy) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(proxy.address())
        .await
        .unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    // Ignores the connection's error: if the proxy ends the connection, its requests fail, too.
    tokio::spawn(async move { drop(connection.await) });
    client
}

fn request(path: &str) -> Request<()> {
    let uri = format!("http://test.example{path}");
    Request::post(uri).body(()).unwrap()
}

/// The moment at which a client resets its request.
#[derive(Clone, Copy, Debug)]
enum Until {
    Head,
    HalfItsBody,
    ItsBody,
    TheAnswer,
    HalfTheAnswer,
    TheEnd,
}

const ALL: [Until; 6] = [
    Until::Head,
    Until::HalfItsBody,
    Until::ItsBody,
    Until::TheAnswer,
    Until::HalfTheAnswer,
    Until::TheEnd,
];

/// Sends a request, and resets it at the moment `until`. Returns the number of bytes of the
/// response that had come.
async fn send(client: SendRequest<Bytes>, path: &str, until: Until) -> Result<usize, h2::Error> {
    let mut client = client.ready().await?;
    let (response, mut body) = client.send_request(request(path), false)?;
    if matches!(until, Until::Head) {
        body.send_reset(Reason::CANCEL);
        return Ok(0);
    }
    body.send_data(Bytes::from_static(&[b'a'; 1000]), false)?;
    if matches!(until, Until::HalfItsBody) {
        tokio::task::yield_now().await;
        body.send_reset(Reason::CANCEL);
        return Ok(0);
    }
    body.send_data(Bytes::from_static(&[b'b'; 1000]), true)?;
    if matches!(until, Until::ItsBody) {
        tokio::task::yield_now().await;
        body.send_reset(Reason::CANCEL);
        return Ok(0);
    }
    let response = response.await?;
    assert_eq!(response.status(), 200);
    let mut answer = response.into_body();
    let most = match until {
        Until::TheAnswer => 0,
        Until::HalfTheAnswer => 30_000,
        _ => usize::MAX,
    };
    let read = read(&mut answer, most).await?;
    if !matches!(until, Until::TheEnd) {
        body.send_reset(Reason::CANCEL);
    }
    Ok(read)
}

async fn read(answer: &mut RecvStream, most: usize) -> Result<usize, h2::Error> {
    let mut read = 0;
    while read < most {
        let Some(data) = answer.data().await.transpose()? else {
            break;
        };
        read += data.len();
        answer.flow_control().release_capacity(data.len())?;
    }
    Ok(read)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

const METRICS: &str = "metrics: {enabled: true, address: \"127.0.0.1:0\"}";

/// Waits until the proxy has no request in flight.
fn settle(proxy: &Proxy) {
    eventually("that nothing is under way", || {
        let text = proxy.metrics();
        let done = text.contains("\nproxy_connections_active 0\n")
            && text.contains("\nproxy_requests_unfinished 0\n");
        done.then_some(())
    });
}

#[test]
fn streams_that_are_reset_at_any_moment_cost_the_others_nothing_and_leave_nothing() {
    let asked = Arc::default();
    let upstream = upstream(&asked);
    let proxy = Proxy::before(&upstream, METRICS);
    runtime().block_on(async {
        for round in 0..10 {
            // Requests that are not reset use a connection of their own, and also share connections
            // with requests that are. There are too few resets for the proxy to stop the client.
            let alone = connect(&proxy).await;
            let shared = [
                connect(&proxy).await,
                connect(&proxy).await,
                connect(&proxy).await,
            ];
            let streams = (0..60).map(|number: usize| {
                let until = ALL[(number * 7 + round) % ALL.len()];
                let path = if number.is_multiple_of(3) {
                    "/late"
                } else {
                    "/"
                };
                let client = if number.is_multiple_of(5) {
                    &alone
                } else {
                    &shared[number % 3]
                };
                let until = if number.is_multiple_of(5) {
                    Until::TheEnd
                } else {
                    until
                };
                let client = client.clone();
                async move { (until, send(client, path, until).await) }
            });
            for (until, read) in futures_util::future::join_all(streams).await {
                let read = read.unwrap_or_else(|error| panic!("{until:?}: {error}"));
                if matches!(until, Until::TheEnd) {
                    assert_eq!(read, 100_000);
                }
            }
        }
    });
    settle(&proxy);
    let text = proxy.metrics();
    let count = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().parse().unwrap()
    };
    // The clients have sent 600 requests. The proxy does not count a request that was reset before
    // its head arrived.
    assert!(count("proxy_requests_total") <= 600, "{text}");
    assert!(count("proxy_requests_aborted_total") > 100, "{text}");
    let answered = count("proxy_responses_total{class=\"2xx\"}");
    assert!(answered >= 10 * 12, "{text}");
    assert!(text.contains("\nproxy_websockets_active 0\n"), "{text}");
    proxy.signal(rustix::process::Signal::TERM);
    assert_eq!(
        proxy.wait().code(),
        0,
        "no connection to the upstream is stuck"
    );
}

/// Encodes an HTTP/2 frame (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// Encodes a whole `GET /` request to the host `a`, and the reset of the request.
fn rapid_reset(stream: u32) -> Vec<u8> {
    let fields = [0x82, 0x86, 0x84, 0x01, 1, b'a'];
    let head = frame(1, 0x5, stream, &fields);
    let reset = frame(3, 0, stream, &8_u32.to_be_bytes());
    [head, reset].concat()
}

fn raw(proxy: &Proxy) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).unwrap();
    stream
}

/// Reads frames up to the next frame of this kind. Returns its payload, or `None` at the end of the
/// connection.
fn next(stream: &mut TcpStream, kind: u8) -> Option<Vec<u8>> {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).ok()?;
        if head[3] == kind {
            return Some(payload);
        }
    }
}

const PING: u8 = 6;
const GOAWAY: u8 = 7;

#[test]
fn a_burst_of_requests_that_are_reset_at_once_ends_the_connection_and_not_the_proxy() {
    let asked = Arc::default();
    let upstream = upstream(&asked);
    let proxy = Proxy::before(&upstream, METRICS);
    let mut stream = raw(&proxy);
    let burst: Vec<_> = (0..5000)
        .flat_map(|number| rapid_reset(2 * number + 1))
        .collect();
    // Ignores an error, since the proxy may close the connection before all bytes are written.
    let _ = stream.write_all(&burst);
    let goaway = next(&mut stream, GOAWAY).unwrap();
    assert_eq!(goaway[4..8], 11_u32.to_be_bytes(), "ENHANCE_YOUR_CALM");
    drop(stream);
    settle(&proxy);
    let asked = asked.load(Ordering::SeqCst);
    assert!(asked < 300, "{asked} reached the upstream");
    assert_eq!(proxy.connect().get("/").0.status, 200);
}

#[test]
fn a_client_that_resets_one_request_after_the_other_is_stopped() {
    let asked = Arc::default();
    let upstream = upstream(&asked);
    let proxy = Proxy::before(&upstream, METRICS);
    let mut stream = raw(&proxy);
    let mut sent = 0;
    // The proxy reads each request before the reset comes. So the requests and resets do not arrive
    // as one burst, but the proxy must stop this client, too.
    let fields = [
        0x82, 0x86, 0x04, 5, b'/', b'l', b'a', b't', b'e', 0x01, 1, b'a',
    ];
    while sent < 5000 {
        let number = 2 * sent + 1;
        let ping = frame(PING, 0, 0, &[0; 8]);
        let head = [frame(1, 0x5, number, &fields), ping.clone()].concat();
        if stream.write_all(&head).is_err() || next(&mut stream, PING).is_none() {
            break;
        }
        let reset = [frame(3, 0, number, &8_u32.to_be_bytes()), ping].concat();
        if stream.write_all(&reset).is_err() || next(&mut stream, PING).is_none() {
            break;
        }
        sent += 1;
    }
    assert!((50..1000).contains(&sent), "{sent} were taken");
    drop(stream);
    settle(&proxy);
    let asked = asked.load(Ordering::SeqCst);
    assert!(asked <= 1000, "{asked} reached the upstream");
    assert_eq!(proxy.connect().get("/").0.status, 200);
}
