//! WebSocket clients are sent the close code 1001 at the shutdown, and the server waits for them for a limited time.
#![cfg(feature = "ws")]

mod support;

use std::convert::Infallible;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use lifecycle_http::{HttpServer, Limits, RequestBody, ws};
use lifecycle_runtime::{BoxError, Component, Context, Reason};
use support::Place;
use tokio::net::UnixStream;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

async fn answer(mut request: Request<RequestBody>) -> Result<Response<String>, Infallible> {
    let upgraded = ws::upgrade(&mut request, async |mut socket| {
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() && socket.send(message).await.is_err() {
                return;
            }
        }
    });
    Ok(upgraded
        .map(|response| response.map(|()| String::new()))
        .unwrap_or_else(|_| {
            let mut refused = Response::new(String::new());
            *refused.status_mut() = StatusCode::BAD_REQUEST;
            refused
        }))
}

async fn server() -> (HttpServer, WebSocketStream<UnixStream>) {
    let (listener, place) = support::unix();
    let builder = HttpServer::from_listener(listener);
    let http = builder.serve_hyper(hyper::service::service_fn(answer));
    let stream = place.connect().await.unwrap();
    let (mut client, _) = tokio_tungstenite::client_async("ws://a/", stream)
        .await
        .unwrap();
    client.send("hello".into()).await.unwrap();
    assert_eq!(
        client.next().await.unwrap().unwrap(),
        Message::text("hello")
    );
    (http, client)
}

async fn stop(http: &HttpServer) -> Result<(), BoxError> {
    let cx = Context::new(Reason::Requested, Duration::from_secs(60));
    (&mut &*http).cleanup(&cx).await
}

#[tokio::test(start_paused = true)]
async fn a_client_is_told_1001_and_the_close_is_in_order() {
    let (http, mut client) = server().await;
    let (stopped, last) = tokio::join!(stop(&http), async {
        let last = client.next().await.unwrap().unwrap();
        // The client answers the close frame when it reads on.
        while client.next().await.is_some() {}
        last
    });
    stopped.unwrap();
    let Message::Close(Some(frame)) = last else {
        panic!("{last:?}")
    };
    assert_eq!(u16::from(frame.code), 1001);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_has_the_farewell() {
    let (http, client) = server().await;
    let start = Instant::now();
    stop(&http).await.unwrap();
    let farewell = Limits::default().close_ack_timeout;
    assert!(
        start.elapsed() >= farewell && start.elapsed() < farewell * 2,
        "{:?}",
        start.elapsed()
    );
    drop(client);
}

#[tokio::test]
async fn a_request_that_is_not_a_websocket_handshake_is_refused() {
    let builder = HttpServer::bind("127.0.0.1:0").await.unwrap();
    let http = builder.serve_hyper(hyper::service::service_fn(answer));
    let stream = http.addresses()[0].connect().await.unwrap();
    let (mut send, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
            .await
            .unwrap();
    let driver = tokio::spawn(connection);
    let answer = send
        .send_request(Request::get("/").body(String::new()).unwrap())
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    stop(&http).await.unwrap();
    driver.await.unwrap().unwrap();
}
