//! The memory that clients can make a server hold if they do not read is limited. This test is alone in its process,
//! because it measures the memory of the process.
#![cfg(all(feature = "h2", target_os = "linux"))]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use lifecycle_http::{HttpServer, RequestBody};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// The number of streams on each connection.
const STREAMS: u64 = 100;

/// The number of bytes that a stream may make the server hold.
const A_STREAM: u64 = 100_000;
/// The number of bytes that a connection may make the server hold in addition to its streams.
const A_CONNECTION: u64 = 1_000_000;

/// Returns how many bytes of this process are in memory.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find(|line| line.starts_with("Rss:")).unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1024
}

/// Starts a server whose responses have no end. Returns the server, and the number of pieces of 16 KiB that it has
/// allocated for them.
async fn endless() -> (HttpServer, Arc<AtomicU64>) {
    let pieces = Arc::new(AtomicU64::new(0));
    let count = pieces.clone();
    let service = move |_: Request<RequestBody>| {
        let count = count.clone();
        async move {
            let body = futures_util::stream::repeat_with(move || {
                count.fetch_add(1, Ordering::Relaxed);
                Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; 16 * 1024])))
            });
            Ok::<_, Infallible>(Response::new(StreamBody::new(body)))
        }
    };
    let http = HttpServer::bind("127.0.0.1:0").await.unwrap();
    (
        http.serve_hyper(hyper::service::service_fn(service)),
        pieces,
    )
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [head, payload.to_vec()].concat()
}

/// Returns a connection that sends h2 frames by hand (RFC 9113 §6). It opens its windows as far as possible, requests
/// `STREAMS` responses, and never reads.
async fn deaf(http: &HttpServer) -> TcpStream {
    const MOST: u32 = (1 << 31) - 1;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let window = [&[0, 4][..], &MOST.to_be_bytes()].concat();
    bytes.extend(frame(4, 0, 0, &window));
    bytes.extend(frame(8, 0, 0, &(MOST - 65_535).to_be_bytes()));
    for number in 0..u32::try_from(STREAMS).unwrap() {
        // This frame is a whole request: GET http://a/.
        bytes.extend(frame(
            1,
            5,
            2 * number + 1,
            &[0x82, 0x86, 0x84, 0x41, 1, b'a'],
        ));
    }
    let mut stream = TcpStream::connect(http.addresses()[0]).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_not_read_hold_little() {
    let (http, pieces) = endless().await;
    let before = resident();
    let mut clients = Vec::new();
    for number in 1..=3 {
        clients.push(deaf(&http).await);
        // Waits until the server has begun all responses, and allocates no more pieces.
        let (mut last, start) = (0, Instant::now());
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = pieces.load(Ordering::Relaxed);
            if now == last && now >= number * STREAMS {
                break;
            }
            last = now;
            assert!(start.elapsed() < Duration::from_secs(30), "no standstill");
        }
        let held = resident().saturating_sub(before);
        let may = number * (STREAMS * A_STREAM + A_CONNECTION);
        eprintln!("{number} connections hold {held} bytes");
        assert!(
            held < may,
            "{number} connections hold {held} bytes, of {may}"
        );
    }
}
