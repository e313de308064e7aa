//! Tests of memory: the proxy holds little memory for clients and upstreams that do not read.

mod support;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use hyper::Request;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use support::{Proxy, Upstream};

/// The number of streams on each connection.
const STREAMS: u64 = 100;

/// The bytes that a stream may hold for a response that its client does not read, with its share of the connection.
const A_STREAM: u64 = 100_000;

/// The bytes that a connection in HTTP/1.1 may hold before its first request. Each has one stream at a time.
const A_CONNECTION: u64 = 10_000;

/// The bytes that a stream may hold for an upload that its upstream does not read: the window of 64 KiB, and all else. A
/// smaller window would slow down uploads over long distances.
const AN_UPLOAD: u64 = 130_000;

/// The number of measured connections. The first connection is not measured, since it also fills
/// the process's pools.
const CONNECTIONS: u64 = 3;

/// The size of the kernel's buffers at the clients and at the upstreams. The kernel bounds the memory of all sockets
/// together, and drops what any process receives beyond that. By itself a buffer grows to several megabytes.
const BUFFER: usize = 16 * 1024;

/// Starts an upstream that answers without an end. The counter has the number of bytes that it has
/// sent.
fn endless() -> (Upstream, Arc<AtomicU64>) {
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let upstream = Upstream::start(move |_, client| {
        while client.next_head().is_some() {
            set_socket_send_buffer_size(&client.stream, BUFFER).unwrap();
            client.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
            let bytes = vec![b'x'; 65536];
            while client.stream.write_all(&bytes).is_ok() {
                count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
        }
    });
    (upstream, sent)
}

/// Returns the resident memory of the proxy's process, in bytes.
fn resident(proxy: &Proxy) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", proxy.id())).unwrap();
    let line = text.lines().find(|line| line.starts_with("Rss:")).unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1024
}

/// Asserts that a stream adds less than `limit` bytes to the proxy's memory: the median of `CONNECTIONS` connections, since
/// the allocator grows in leaps. `open` opens a connection and returns it once nothing moves on it any more.
fn each_stream_adds_less_than<C>(limit: u64, proxy: &Proxy, mut open: impl FnMut(u64) -> C) {
    let mut held = vec![open(1)];
    let mut before = resident(proxy);
    let mut growth: Vec<u64> = (0..CONNECTIONS)
        .map(|number| {
            held.push(open(number + 2));
            let grown = resident(proxy).saturating_sub(before);
            before += grown;
            grown / STREAMS
        })
        .collect();
    growth.sort_unstable();
    eprintln!("a stream holds {growth:?} bytes");
    let median = growth[growth.len() / 2];
    assert!(median < limit, "{median} bytes a stream");
}

/// Waits until the counter `moved` stays the same, which means that no more bytes are transferred.
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

/// Returns a client that requests `STREAMS` responses and reads their heads, but not their bodies.
async fn stalled(proxy: &Proxy) -> impl Sized + use<> {
    let stream = tokio::net::TcpStream::connect(proxy.address())
        .await
        .unwrap();
    set_socket_recv_buffer_size(&stream, BUFFER).unwrap();
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
    // The first request makes the proxy allocate state that is needed only once.
    let mut client = proxy.connect();
    client.ask("/");
    assert_eq!(client.response_head().status, 200);
    drop(client);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    each_stream_adds_less_than(A_STREAM, &proxy, |_| {
        let client = runtime.block_on(stalled(&proxy));
        settle(&sent);
        client
    });
}

#[test]
fn http_1_connections_that_are_not_read_hold_little() {
    let (upstream, sent) = endless();
    let proxy = Proxy::before(&upstream, "timeouts: {idle: 600}");
    each_stream_adds_less_than(A_CONNECTION + A_STREAM, &proxy, |_| {
        let clients: Vec<_> = (0..STREAMS)
            .map(|_| {
                let mut client = proxy.connect();
                set_socket_recv_buffer_size(&client.stream, BUFFER).unwrap();
                client.ask("/");
                client.response_head();
                client
            })
            .collect();
        settle(&sent);
        clients
    });
}

/// Returns a client that sends `STREAMS` requests, each with as many bytes of a body as the proxy
/// accepts.
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
    each_stream_adds_less_than(AN_UPLOAD, &proxy, |number| {
        let client = runtime.block_on(sending(&proxy, &heads));
        // The counter counts each request twice: when the client sends it, and when its head has
        // arrived at the upstream.
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
        client
    });
}

/// hyper would take 400 kB of an upload for an upstream that does not read it.
#[test]
fn http_1_uploads_that_are_not_read_hold_little() {
    let upstream = Upstream::start(|_, client| {
        set_socket_recv_buffer_size(&client.stream, BUFFER).unwrap();
        client.head();
        std::thread::park();
    });
    let proxy = Proxy::before(&upstream, "timeouts: {idle: 600}");
    each_stream_adds_less_than(A_CONNECTION + AN_UPLOAD, &proxy, |_| {
        let moved = Arc::new(AtomicU64::new(0));
        let clients: Vec<_> = (0..STREAMS)
            .map(|_| {
                let mut client = proxy.connect();
                set_socket_send_buffer_size(&client.stream, BUFFER).unwrap();
                client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n");
                let (mut stream, count) = (client.stream.try_clone().unwrap(), moved.clone());
                std::thread::spawn(move || {
                    while stream.write_all(&[b'x'; 65536]).is_ok() {
                        count.fetch_add(65536, Ordering::Relaxed);
                    }
                });
                client
            })
            .collect();
        settle(&moved);
        clients
    });
}

/// The kernel takes few bytes of an upload before it can send them, although its buffer may have 4 MB.
#[test]
fn the_kernel_holds_little_of_an_upload_that_the_upstream_does_not_read() {
    let upstream = Upstream::start(|_, client| {
        set_socket_recv_buffer_size(&client.stream, BUFFER).unwrap();
        client.head();
        std::thread::park();
    });
    let proxy = Proxy::before(&upstream, "timeouts: {idle: 600}");
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n");
    let moved = Arc::new(AtomicU64::new(0));
    let count = moved.clone();
    let mut stream = client.stream.try_clone().unwrap();
    std::thread::spawn(move || {
        while stream.write_all(&[b'x'; 65536]).is_ok() {
            count.fetch_add(65536, Ordering::Relaxed);
        }
    });
    settle(&moved);
    let unsent = bytes_for(upstream.address.port());
    assert!(unsent > 0, "the upstream reads");
    assert!(unsent < 1_000_000, "{unsent} bytes");
}

/// Returns the bytes that the kernel holds of what was written to a port of this machine (proc_pid_net(5)).
fn bytes_for(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let to = format!(":{port:04X}");
    let rows = table.lines().map(|row| row.split_whitespace());
    let queues = rows.filter_map(|mut row| {
        let remote = row.nth(2)?;
        let (sending, _) = row.nth(1)?.split_once(':')?;
        let bytes = u64::from_str_radix(sending, 16).ok()?;
        remote.ends_with(&to).then_some(bytes)
    });
    queues.sum()
}

/// Returns the number of descriptors that the proxy has open.
fn descriptors(proxy: &Proxy) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", proxy.id()))
        .unwrap()
        .count()
}

#[test]
fn the_memory_of_closed_connections_serves_the_next_ones() {
    let (upstream, sent) = endless();
    let proxy = Proxy::before(&upstream, "timeouts: {idle: 600}");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let idle = descriptors(&proxy);
    // Opens a connection whose client stops reading, closes it, and returns the memory that stays.
    let stays = || {
        let client = runtime.block_on(stalled(&proxy));
        settle(&sent);
        drop(client);
        support::eventually("the end of the connections", || {
            (descriptors(&proxy) <= idle).then_some(())
        });
        resident(&proxy)
    };
    // The first connection is not measured, since it also fills the process's pools.
    stays();
    let first = stays();
    let later = [stays(), stays()];
    eprintln!("{first} bytes stay after the first connections, {later:?} after the next");
    let grown = later.iter().max().unwrap().saturating_sub(first);
    // A sixth of what the streams of both connections may hold while they are open.
    assert!(
        grown < 2 * STREAMS * A_STREAM / 6,
        "{grown} bytes more stay"
    );
}
