//! What clients that do not read can make the proxy hold.

mod support;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use hyper::Request;
use support::{Proxy, Upstream};

/// Streams of a connection.
const STREAMS: u64 = 100;

/// What a stream may hold, of the response and of all that belongs to it.
const A_STREAM: u64 = 100_000;

/// What it may of a body that its upstream does not read: a smaller window would make
/// uploads slow over long ways.
const AN_UPLOAD: u64 = 130_000;

/// What else a connection may.
const A_CONNECTION: u64 = 1_000_000;

/// Answers without an end, and counts the bytes.
fn endless() -> (Upstream, Arc<AtomicU64>) {
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let upstream = Upstream::start(move |_, client| {
        while client.next_head().is_some() {
            client.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
            let bytes = vec![b'x'; 65536];
            while client.stream.write_all(&bytes).is_ok() {
                count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
        }
    });
    (upstream, sent)
}

/// Bytes of a process that are in memory.
fn resident(proxy: &Proxy) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", proxy.id())).unwrap();
    let line = text.lines().find(|line| line.starts_with("Rss:")).unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1024
}

/// Waits until nothing moves any more.
fn settle(moved: &AtomicU64) {
    let mut before = u64::MAX;
    support::eventually("a standstill", || {
        let now = moved.load(Ordering::Relaxed);
        let same = now == before;
        before = now;
        std::thread::sleep(Duration::from_millis(500));
        same.then_some(())
    });
}

/// A client that asks for `STREAMS` responses, has their heads, and reads no more.
async fn stalled(proxy: &Proxy) -> impl Sized + use<> {
    let stream = tokio::net::TcpStream::connect(proxy.address())
        .await
        .unwrap();
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size((1 << 31) - 1)
        .initial_connection_window_size((1 << 31) - 1);
    let (client, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
    let mut connection = Box::pin(connection);
    let heads = async {
        let mut heads = Vec::new();
        for number in 0..STREAMS {
            let mut client = client.clone().ready().await.unwrap();
            let request = Request::get(format!("http://a/{number}")).body(()).unwrap();
            heads.push(client.send_request(request, true).unwrap().0);
        }
        join_all(heads).await
    };
    let bodies = tokio::select! {
        _ = &mut connection => panic!("the connection ended"),
        bodies = heads => bodies,
    };
    (connection, client, bodies)
}

#[test]
fn streams_that_are_not_read_hold_little() {
    let (upstream, sent) = endless();
    let proxy = Proxy::before(&upstream, "timeouts: {idle: 600}");
    // What is made once.
    let mut client = proxy.connect();
    client.ask("/");
    assert_eq!(client.response_head().status, 200);
    drop(client);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let before = resident(&proxy);
    let mut clients = Vec::new();
    for number in 1..=3 {
        clients.push(runtime.block_on(stalled(&proxy)));
        settle(&sent);
        let held = resident(&proxy).saturating_sub(before);
        let may = number * (STREAMS * A_STREAM + A_CONNECTION);
        eprintln!(
            "{number} connections hold {held} bytes, {} a stream",
            held / (number * STREAMS)
        );
        assert!(held < may, "{held} bytes, of {may}");
    }
    drop(clients);
}

/// A client that sends `STREAMS` requests, each as much of its body as is taken.
async fn sending(proxy: &Proxy, moved: &AtomicU64) -> impl Sized + use<> {
    static BODY: [u8; 4 << 20] = [b'x'; 4 << 20];
    let stream = tokio::net::TcpStream::connect(proxy.address())
        .await
        .unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut bodies = Vec::new();
    for number in 0..STREAMS {
        let mut client = client.clone().ready().await.unwrap();
        let request = Request::post(format!("http://a/{number}")).body(());
        let (_, mut body) = client.send_request(request.unwrap(), false).unwrap();
        body.send_data(Bytes::from_static(&BODY), false).unwrap();
        bodies.push(body);
        moved.fetch_add(1, Ordering::Relaxed);
    }
    (client, bodies)
}

#[test]
fn bodies_that_an_upstream_does_not_read_hold_little() {
    let heads = Arc::new(AtomicU64::new(0));
    let count = heads.clone();
    let upstream = Upstream::start(move |_, client| {
        client.head();
        count.fetch_add(1, Ordering::Relaxed);
        std::thread::park();
    });
    let proxy = Proxy::before(&upstream, "timeouts: {idle: 600}");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let before = resident(&proxy);
    let mut clients = Vec::new();
    for number in 1..=3 {
        clients.push(runtime.block_on(sending(&proxy, &heads)));
        // Each is counted when it is sent, and when its head has arrived.
        support::eventually("all heads", || {
            (heads.load(Ordering::Relaxed) >= 2 * number * STREAMS).then_some(())
        });
        let size = AtomicU64::new(0);
        support::eventually("a standstill", || {
            let now = resident(&proxy);
            let before = size.swap(now, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(500));
            (now == before).then_some(())
        });
        let held = resident(&proxy).saturating_sub(before);
        let may = number * (STREAMS * AN_UPLOAD + A_CONNECTION);
        eprintln!(
            "{number} connections hold {held} bytes, {} a stream",
            held / (number * STREAMS)
        );
        assert!(held < may, "{held} bytes, of {may}");
    }
}
