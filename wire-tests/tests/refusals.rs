//! Clients of each protocol see the refusals of `ShutdownLayer`, also behind servers other than `HttpServer`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use lifecycle_runtime::{Gate, ShutdownLayer};
use lifecycle_wire_tests::app::{ANSWER, answer};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tonic::service::Routes;
use tower::{Service, ServiceBuilder, service_fn};

/// Starts a server. It serves each connection with the service that `of` returns for the connection's number, as
/// `axum::serve` does.
async fn serve<S, B>(of: impl Fn(usize) -> S + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>)
where
    S: Service<
            Request<Incoming>,
            Response = Response<B>,
            Error: Into<axum::BoxError>,
            Future: Send,
        > + Clone
        + Send
        + 'static,
    B: http_body::Body<Data: Send, Error: Into<axum::BoxError>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let service = TowerToHyperService::new(of(counted.fetch_add(1, Ordering::Relaxed)));
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (address, count)
}

/// Returns the layer for a connection. Only the layer of the first connection refuses requests, so this is like a
/// server that shuts down and its successor.
fn layer(connection: usize) -> ShutdownLayer {
    let gate = Gate::new();
    if connection == 0 {
        gate.close();
    }
    ShutdownLayer::new(&gate)
}

fn axum(connection: usize) -> Router {
    Router::new()
        .route("/", get(|| async { answer() }).post(|| async { answer() }))
        .layer(layer(connection))
}

fn hyper(
    connection: usize,
) -> impl Service<
    Request<Incoming>,
    Response = Response<impl http_body::Body<Data = Bytes, Error = axum::BoxError> + Send>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send {
    ServiceBuilder::new()
        .layer(layer(connection))
        .service(service_fn(async |_: Request<Incoming>| {
            Ok(Response::new(Body::from(answer())))
        }))
}

fn tonic(connection: usize) -> Router {
    let (_, health) = tonic_health::server::health_reporter();
    Routes::new(health)
        .into_axum_router()
        .layer(layer(connection))
}

/// Sends a hundred requests at a time, `rounds` times. All are reset as not begun. Returns how many were reset at once,
/// and how many were answered before the reset.
async fn refused(address: SocketAddr, rounds: usize) -> (usize, usize) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let (mut reset, mut answered) = (0, 0);
    for _ in 0..rounds {
        let mut answers = Vec::new();
        for _ in 0..100 {
            send = send.ready().await.unwrap();
            let request = Request::get("http://a/").body(()).unwrap();
            answers.push(send.send_request(request, true).unwrap().0);
        }
        for answer in answers {
            let error = match answer.await {
                Err(error) => {
                    reset += 1;
                    error
                }
                Ok(answer) => {
                    answered += 1;
                    answer.into_body().data().await.unwrap().unwrap_err()
                }
            };
            assert!(error.is_reset() && error.is_remote(), "{error}");
            assert_eq!(error.reason(), Some(h2::Reason::REFUSED_STREAM));
        }
    }
    (reset, answered)
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_h2_streams_are_reset_as_not_begun() {
    for (name, address) in [
        ("axum", serve(axum).await.0),
        ("hyper", serve(hyper).await.0),
        ("tonic", serve(tonic).await.0),
    ] {
        let (reset, answered) = refused(address, 100).await;
        println!("{name}: {reset} streams reset, {answered} answered 503 before it");
        assert!(reset > answered, "{name}: {reset}, {answered}");
    }
}

/// Runs curl. Returns the bytes of its output, and the text of its error messages.
async fn curl(arguments: &[&str], address: SocketAddr) -> (Vec<u8>, String) {
    let output = Command::new("curl")
        .args(["-sS", "-v"])
        .args(arguments)
        .arg(format!("http://{address}/"))
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    (output.stdout, said)
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_retries_a_refused_h2_request_by_itself() {
    for method in ["GET", "POST"] {
        for (address, connections) in [serve(axum).await, serve(hyper).await] {
            let arguments = ["--http2-prior-knowledge", "-X", method];
            let (body, said) = curl(&arguments, address).await;
            assert_eq!(body, answer(), "{said}");
            assert_eq!(connections.load(Ordering::Relaxed), 2, "{said}");
        }
    }
}

// axum replaces the body of a response to HEAD. The layer resets a refused h2 stream by an error of that body, so this
// request is answered instead.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_request_to_axum_is_answered_503_over_h2() {
    let (address, connections) = serve(axum).await;
    let (_, said) = curl(&["--http2-prior-knowledge", "--head"], address).await;
    assert!(said.contains("< HTTP/2 503"), "{said}");
    assert_eq!(connections.load(Ordering::Relaxed), 1, "{said}");
}

#[tokio::test]
async fn curl_gets_503_with_retry_after_over_h1() {
    let (address, connections) = serve(axum).await;
    let (body, said) = curl(&["--http1.1"], address).await;
    assert!(body.is_empty(), "{said}");
    assert!(said.contains("< HTTP/1.1 503"), "{said}");
    assert!(said.contains("< retry-after: 1"), "{said}");
    assert!(said.contains("< connection: close"), "{said}");
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    let (body, _) = curl(&["--http1.1"], address).await;
    assert_eq!(body.len(), ANSWER);
}

#[tokio::test(flavor = "multi_thread")]
async fn tonics_client_gets_unavailable() {
    let (address, _) = serve(tonic).await;
    let channel = tonic::transport::Endpoint::try_from(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = tonic_health::pb::health_client::HealthClient::new(channel);
    let refused = client
        .check(tonic_health::pb::HealthCheckRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
}
