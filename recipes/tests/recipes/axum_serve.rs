//! `axum`: `axum::serve` in a task.
//!
//! - **Cleanup**: `with_graceful_shutdown` with a token, cancel the token, await the task.
//! - **Lost without it**: the answers to requests in flight. Connections are separate tasks, which the end of the runtime drops.
//! - **Repeated**: yes: the token stays cancelled, and the task has ended.
//! - **Waits for**: every request in flight. Endless streams count too, so end them from the same token.
//! - **Order**: first, before everything that handlers use. If it is the main of `run`, it needs no field.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::steps::{assert_clean, assert_timed_out, begin, in_a_process};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(priority = 0)]
    stop: CancellationToken,
    #[shutdown(priority = 1, timeout = "5s")]
    serve: JoinHandle<std::io::Result<()>>,
    #[shutdown(state)]
    state: ShutdownState,
}

/// Starts a server with a request in flight, which it answers once `answer` is notified. Returns the server and the
/// client's end of the connection.
async fn server(answer: &Arc<Notify>) -> (Server, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let stop = CancellationToken::new();
    let (begun, answer) = (Arc::new(Notify::new()), Arc::clone(answer));
    let seen = Arc::clone(&begun);
    let handler = get(async move || {
        begun.notify_one();
        answer.notified().await;
        "the answer"
    });
    let app = Router::new().route("/", handler);
    let serve = axum::serve(listener, app).with_graceful_shutdown(stop.clone().cancelled_owned());
    let serve = tokio::spawn(serve.into_future());
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    seen.notified().await;
    let state = ShutdownState::new();
    (Server { stop, serve, state }, client)
}

async fn read(mut client: TcpStream) -> String {
    let mut text = String::new();
    let _ = client.read_to_string(&mut text).await;
    text
}

#[test]
fn a_request_in_flight_is_answered() {
    let client = in_a_process(async {
        let answer = Arc::new(Notify::new());
        let (mut server, client) = server(&answer).await;
        {
            let mut shutdown = pin!(server.shutdown());
            assert!(begin(shutdown.as_mut()).await.is_pending());
            answer.notify_one();
            assert_clean(&shutdown.await);
        }
        client.into_std().unwrap()
    });
    let text = in_a_process(async { read(TcpStream::from_std(client).unwrap()).await });
    assert!(text.ends_with("the answer"));
}

#[test]
fn a_drop_alone_loses_the_request() {
    let client = in_a_process(async {
        let (server, client) = server(&Arc::default()).await;
        drop(server);
        client.into_std().unwrap()
    });
    let text = in_a_process(async { read(TcpStream::from_std(client).unwrap()).await });
    assert_eq!(text, "");
}

#[tokio::test]
async fn without_the_token_the_server_never_ends() {
    let (mut server, _client) = server(&Arc::default()).await;
    server.stop = CancellationToken::new();
    let report = server.shutdown().within(Duration::from_millis(300)).await;
    assert_timed_out(&report, "serve");
}
