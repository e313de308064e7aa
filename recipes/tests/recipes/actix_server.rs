//! `actix-web`: a server in a task, whose workers are threads.
//!
//! - **Cleanup**: `ServerHandle::stop(true)`, then await the task. Call `disable_signals`, so that the server does not handle signals itself.
//! - **Lost without it**: the answers to requests in flight. The end of the runtime drops the server, which closes its listeners and cuts its workers.
//! - **Repeated**: yes, with no effect.
//! - **Waits for**: every request in flight, up to `shutdown_timeout` (30 s by default). Then the rest is cut, and no error says so. Set it below the step's timeout.
//! - **Order**: first, before everything that handlers use.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::steps::{assert_clean, assert_timed_out, begin};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(priority = 0, timeout = "15s", with = |server| server.stop(true))]
    server: ServerHandle,
    #[shutdown(priority = 1, timeout = "1s")]
    serve: JoinHandle<std::io::Result<()>>,
    #[shutdown(state)]
    state: ShutdownState,
}

/// Two notifications by which a handler and the test wait for each other.
#[derive(Default)]
struct Turn {
    begun: Notify,
    answer: Notify,
}

fn server(turn: &Arc<Turn>) -> (Server, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let turn = Arc::clone(turn);
    let app = move || {
        let turn = Arc::clone(&turn);
        let handler = move || {
            let turn = Arc::clone(&turn);
            async move {
                turn.begun.notify_one();
                turn.answer.notified().await;
                "the answer"
            }
        };
        App::new().route("/", web::get().to(handler))
    };
    let running = HttpServer::new(app)
        .workers(1)
        .disable_signals()
        .shutdown_timeout(10)
        .listen(listener)
        .unwrap()
        .run();
    let server = Server {
        server: running.handle(),
        serve: tokio::spawn(running),
        state: ShutdownState::new(),
    };
    (server, address)
}

/// Sends a request, and waits until the server's handler of it has begun.
async fn request(address: SocketAddr, turn: &Turn) -> TcpStream {
    let mut client = TcpStream::connect(address).unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .unwrap();
    turn.begun.notified().await;
    client
}

async fn read(mut client: TcpStream) -> String {
    let text = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        let _ = client.read_to_string(&mut text);
        text
    });
    text.await.unwrap()
}

#[tokio::test]
async fn a_request_in_flight_is_answered() {
    let turn = Arc::<Turn>::default();
    let (mut server, address) = server(&turn);
    let client = request(address, &turn).await;
    let mut shutdown = std::pin::pin!(server.shutdown());
    assert!(begin(shutdown.as_mut()).await.is_pending());
    turn.answer.notify_one();
    assert_clean(&shutdown.await);
    assert!(read(client).await.ends_with("the answer"));
}

#[tokio::test]
async fn it_waits_for_a_request_that_is_not_answered() {
    let turn = Arc::<Turn>::default();
    let (mut server, address) = server(&turn);
    let _client = request(address, &turn).await;
    let report = server.shutdown().within(Duration::from_millis(300)).await;
    assert_timed_out(&report, "server");
}

#[tokio::test]
async fn stopped_without_grace_the_request_is_lost() {
    let turn = Arc::<Turn>::default();
    let (server, address) = server(&turn);
    let client = request(address, &turn).await;
    server.server.stop(false).await;
    assert_eq!(read(client).await, "");
}

#[tokio::test]
async fn dropped_alone_the_request_is_lost() {
    let turn = Arc::<Turn>::default();
    let (mut server, address) = server(&turn);
    let client = request(address, &turn).await;
    // The abort stands for the end of the runtime, which drops the task in the same way.
    server.serve.abort();
    let ended = (&mut server.serve).await;
    assert!(ended.unwrap_err().is_cancelled());
    assert_eq!(read(client).await, "");
}
