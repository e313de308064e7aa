//! `hyper` and `hyper-util`: the connections of an accept loop that you write yourself.
//!
//! - **Cleanup**: end the accept loop, then call `GracefulShutdown::shutdown`. It consumes the value, so the field needs `take`.
//! - **Lost without it**: the answers to requests in flight.
//! - **Repeated**: no: the value is gone. If the shutdown is dropped half-way, this step is not taken up again.
//! - **Waits for**: every request in flight, without a limit. It does not wait for upgraded connections.
//! - **Order**: after the accept loop, before everything that the service uses. `lifecycle-http` does all of this.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown as Watcher;
use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::Notify;

use crate::steps::{assert_clean, begin, in_a_process};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(timeout = "5s", take, with = Watcher::shutdown)]
    connections: Option<Watcher>,
    #[shutdown(state)]
    state: ShutdownState,
}

/// Starts a server with a request in flight. Returns the server and the client's end of the connection.
async fn server(answer: &Arc<Notify>) -> (Server, DuplexStream) {
    let (mut client, socket) = tokio::io::duplex(1024);
    let watcher = Watcher::new();
    let (begun, answer) = (Arc::new(Notify::new()), Arc::clone(answer));
    let seen = Arc::clone(&begun);
    let service = service_fn(move |_: Request<Incoming>| {
        let (begun, answer) = (Arc::clone(&begun), Arc::clone(&answer));
        async move {
            begun.notify_one();
            answer.notified().await;
            Ok::<_, Infallible>(Response::new("the answer".to_owned()))
        }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
    tokio::spawn(watcher.watch(connection));
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    seen.notified().await;
    let server = Server {
        connections: Some(watcher),
        state: ShutdownState::new(),
    };
    (server, client)
}

async fn read(mut client: DuplexStream) -> String {
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
        client
    });
    assert!(in_a_process(read(client)).ends_with("the answer"));
}

#[test]
fn a_drop_alone_loses_the_request() {
    let client = in_a_process(async {
        let (server, client) = server(&Arc::default()).await;
        drop(server);
        client
    });
    assert_eq!(in_a_process(read(client)), "");
}
