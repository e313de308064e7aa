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
use lifecycle_http::{HttpServer, Limits, RequestBody, StreamServer};
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

/// Starts a server whose responses have no end. Returns the server, and the number of bytes that it has taken from their
/// bodies.
async fn endless(limits: Limits) -> (HttpServer, Arc<AtomicU64>) {
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
    (http.limits(limits).serve_hyper(service), sent)
}

#[tokio::test]
async fn the_kernel_takes_little_of_a_response_that_the_client_does_not_read() {
    let (http, sent) = endless(Limits::default()).await;
    let mut client = deaf(http.addresses()[0]).await;
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let taken = standstill(&sent).await;
    assert!(taken < MOST, "{taken} bytes");
}

/// Returns how many bytes a server with this `send_buffer` takes from a body whose client does not read.
#[cfg(feature = "h2")]
async fn taken_over_h2(send_buffer: usize) -> u64 {
    let mut limits = Limits::default();
    limits.send_buffer = send_buffer;
    let (http, sent) = endless(limits).await;
    let client = deaf(http.addresses()[0]).await;
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(1 << 30)
        .initial_connection_window_size(1 << 30);
    let (mut send, connection) = builder.handshake::<_, Bytes>(client).await.unwrap();
    let mut connection = std::pin::pin!(connection);
    let request = Request::get("http://a/").body(()).unwrap();
    let (head, _) = send.send_request(request, true).unwrap();
    let _body = tokio::select! {
        _ = &mut connection => panic!("the connection ended"),
        head = head => head.unwrap(),
    };
    // Nothing polls the connection any more, so the client reads no more.
    standstill(&sent).await
}

#[cfg(feature = "h2")]
#[tokio::test]
async fn a_stream_of_h2_takes_as_much_as_its_send_buffer_holds() {
    let (little, much) = tokio::join!(taken_over_h2(PIECE), taken_over_h2(1 << 20));
    assert!(little < MOST, "{little} bytes");
    let more = much.saturating_sub(little);
    assert!(
        more > 1 << 19 && more < 3 << 19,
        "{little} and {much} bytes"
    );
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
