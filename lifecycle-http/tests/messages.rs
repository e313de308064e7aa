//! Streams of gRPC messages, and of lines if the server asks for that, end between two messages when the server shuts
//! down.
#![cfg(feature = "h2")]

mod support;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use lifecycle_http::{HttpServer, RequestBody};
use lifecycle_runtime::{BoxError, Component, Context, Reason};
use support::Place;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

type Sender = mpsc::UnboundedSender<Frame<Bytes>>;

/// A server that sends the frames of the test as its response, and an h2 client of that server.
struct Scene {
    http: HttpServer,
    client: h2::client::SendRequest<Bytes>,
}

async fn scene(kind: &'static str, answers: mpsc::UnboundedReceiver<Frame<Bytes>>) -> Scene {
    let answers = Arc::new(Mutex::new(Some(answers)));
    let (listener, place) = support::unix();
    let service = move |_: Request<RequestBody>| {
        let answers = answers.lock().unwrap().take().unwrap();
        async move {
            let mut answers = answers;
            // The service sends the response's head only with its first message, as gRPC services do for calls that are
            // answered by one message.
            let first = answers.recv().await;
            let frames =
                futures_util::stream::unfold((first, answers), async |(first, mut answers)| {
                    let frame = match first {
                        Some(first) => first,
                        None => answers.recv().await?,
                    };
                    Some((Ok::<_, Infallible>(frame), (None, answers)))
                });
            let mut response = Response::new(StreamBody::new(Box::pin(frames)));
            let kind = HeaderValue::from_static(kind);
            response.headers_mut().insert("content-type", kind);
            Ok::<_, Infallible>(response)
        }
    };
    let http = HttpServer::from_listener(listener)
        .end_lines_of("application/x-ndjson")
        .serve_hyper(hyper::service::service_fn(service));
    let stream = place.connect().await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    Scene { http, client }
}

impl Scene {
    async fn asks(&self) -> RecvStream {
        let request = Request::post("http://a/grpc.health.v1.Health/Watch");
        let request = request.body(()).unwrap();
        let (answer, _) = self.client.clone().send_request(request, true).unwrap();
        answer.await.unwrap().into_body()
    }

    /// Shuts the server down within a minute, and returns the time that this took.
    async fn stops(&self) -> Result<Duration, BoxError> {
        let start = Instant::now();
        let cx = Context::new(Reason::Requested, Duration::from_secs(60));
        (&self.http).cleanup(&cx).await?;
        Ok(start.elapsed())
    }
}

fn message(text: &str) -> Bytes {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[0][..], &length, text.as_bytes()].concat().into()
}

fn status(code: &'static str) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    Frame::trailers(trailers)
}

fn data(bytes: impl Into<Bytes>) -> Frame<Bytes> {
    Frame::data(bytes.into())
}

/// Reads a response to its end. Returns its bytes and its gRPC status.
async fn all(mut body: RecvStream) -> (Vec<u8>, Option<String>) {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        let _ = body.flow_control().release_capacity(data.len());
        bytes.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.unwrap();
    let status =
        trailers.and_then(|fields| Some(fields.get("grpc-status")?.to_str().unwrap().to_owned()));
    (bytes, status)
}

async fn with(kind: &'static str) -> (Scene, Sender) {
    let (send, answers) = mpsc::unbounded_channel();
    (scene(kind, answers).await, send)
}

#[tokio::test(start_paused = true)]
async fn an_endless_stream_ends_with_unavailable_and_takes_little_of_the_budget() {
    let (scene, send) = with("application/grpc").await;
    send.send(data(message("SERVING"))).unwrap();
    let body = scene.asks().await;
    let (took, (bytes, status)) = tokio::join!(scene.stops(), all(body));
    assert!(took.unwrap() < Duration::from_secs(1));
    assert_eq!(bytes, message("SERVING"));
    assert_eq!(status.as_deref(), Some("14"));
    assert!(send.is_closed(), "the service learns of it");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_begun_is_finished_first() {
    let (scene, send) = with("application/grpc+proto").await;
    let whole = message("half and half");
    send.send(data(whole.slice(..9))).unwrap();
    let body = scene.asks().await;
    let rest = whole.slice(9..);
    let (took, (bytes, status), ()) = tokio::join!(scene.stops(), all(body), async {
        sleep(Duration::from_secs(5)).await;
        send.send(data(rest)).unwrap();
    });
    assert!(took.unwrap() >= Duration::from_secs(5));
    assert_eq!(bytes, whole);
    assert_eq!(status.as_deref(), Some("14"));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_answered_late_keeps_its_own_status() {
    let (scene, send) = with("application/grpc").await;
    let (took, (bytes, status), ()) = tokio::join!(
        async {
            sleep(Duration::from_secs(1)).await;
            scene.stops().await
        },
        async { all(scene.asks().await).await },
        async {
            // The pause is longer than any limit of a drain.
            sleep(Duration::from_secs(10)).await;
            send.send(data(message("answer"))).unwrap();
            send.send(status("0")).unwrap();
        }
    );
    took.unwrap();
    assert_eq!(bytes, message("answer"));
    assert_eq!(status.as_deref(), Some("0"));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_soon_is_not_ended() {
    let (scene, send) = with("application/grpc").await;
    send.send(data(message("0"))).unwrap();
    let body = scene.asks().await;
    let (took, (bytes, code), ()) = tokio::join!(scene.stops(), all(body), async {
        for _ in 0..5 {
            sleep(Duration::from_millis(200)).await;
            send.send(data(message("x"))).unwrap();
        }
        send.send(status("0")).unwrap();
    });
    took.unwrap();
    assert_eq!(bytes.len(), 6 * message("x").len());
    assert_eq!(code.as_deref(), Some("0"));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_never_quiet_is_ended_after_a_while() {
    let (scene, send) = with("application/grpc").await;
    send.send(data(message("0"))).unwrap();
    let body = scene.asks().await;
    let ticks = tokio::spawn(async move {
        while send.send(data(message("tick"))).is_ok() {
            sleep(Duration::from_millis(10)).await;
        }
    });
    let (took, (bytes, status)) = tokio::join!(scene.stops(), all(body));
    let took = took.unwrap();
    assert!(
        took >= Duration::from_secs(2) && took < Duration::from_secs(3),
        "{took:?}"
    );
    assert_eq!(
        (bytes.len() - message("0").len()) % message("tick").len(),
        0
    );
    assert_eq!(status.as_deref(), Some("14"));
    ticks.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn streams_of_lines_end_after_a_line_where_that_is_asked_for() {
    let (scene, send) = with("application/x-ndjson; charset=utf-8").await;
    send.send(data("{}\n{\"a\":")).unwrap();
    let body = scene.asks().await;
    let (took, (bytes, status), ()) = tokio::join!(scene.stops(), all(body), async {
        sleep(Duration::from_secs(1)).await;
        send.send(data("1}\n")).unwrap();
    });
    assert!(took.unwrap() < Duration::from_secs(3));
    assert_eq!((&*bytes, status), (&b"{}\n{\"a\":1}\n"[..], None));
}

#[tokio::test(start_paused = true)]
async fn other_streams_are_their_services_to_end() {
    for kind in ["application/grpc-web", "application/json"] {
        let (scene, send) = with(kind).await;
        send.send(data("x\n")).unwrap();
        let mut body = scene.asks().await;
        let error = scene.stops().await.unwrap_err().to_string();
        assert!(error.contains("Watch"), "{error}");
        assert_eq!(body.data().await.unwrap().unwrap(), "x\n");
        assert!(body.data().await.is_none_or(|data| data.is_err()));
        drop(send);
    }
}
