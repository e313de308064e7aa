//! What the kernel takes for a client that does not read is limited, since all sockets of a machine share its memory.
#![cfg(target_os = "linux")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use lifecycle_http::{HttpServer, RequestBody, StreamServer};
use lifecycle_runtime::Connection;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const PIECE: usize = 16 * 1024;

/// The most bytes that a server may get rid of for a client that reads nothing: in the kernel's buffers on both sides, and
/// in its own. Without a limit, the kernel takes 4 MB on the server's side alone.
const MOST: u64 = 1_000_000;

/// Connects a client that never reads, and whose kernel takes little for it.
async fn deaf(to: std::net::SocketAddr) -> TcpStream {
    let client = TcpStream::connect(to).await.unwrap();
    SockRef::from(&client).set_recv_buffer_size(PIECE).unwrap();
    client
}

/// Waits until `sent` stays the same, and returns it.
async fn standstill(sent: &AtomicU64) -> u64 {
    loop {
        let before = sent.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(500)).await;
        if before > 0 && sent.load(Ordering::Relaxed) == before {
            return before;
        }
    }
}

#[tokio::test]
async fn the_kernel_takes_little_of_a_response_that_the_client_does_not_read() {
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let service = hyper::service::service_fn(move |_: Request<RequestBody>| {
        let count = count.clone();
        let body = futures_util::stream::repeat_with(move || {
            count.fetch_add(PIECE as u64, Ordering::Relaxed);
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b'x'; PIECE])))
        });
        async { Ok::<_, Infallible>(Response::new(StreamBody::new(body))) }
    });
    let http = HttpServer::bind("127.0.0.1:0").await.unwrap();
    let http = http.serve_hyper(service);
    let mut client = deaf(http.addresses()[0]).await;
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let taken = standstill(&sent).await;
    assert!(taken < MOST, "{taken} bytes");
}

#[tokio::test]
async fn the_kernel_takes_little_of_a_stream_that_the_client_does_not_read() {
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let server = StreamServer::bind("127.0.0.1:0").await.unwrap();
    let server = server.serve(
        move |mut stream: lifecycle_http::RawStream, _: Connection| {
            let count = count.clone();
            async move {
                while stream.write_all(&[b'x'; PIECE]).await.is_ok() {
                    count.fetch_add(PIECE as u64, Ordering::Relaxed);
                }
            }
        },
    );
    let _client = deaf(server.addresses()[0]).await;
    let taken = standstill(&sent).await;
    assert!(taken < MOST, "{taken} bytes");
}
