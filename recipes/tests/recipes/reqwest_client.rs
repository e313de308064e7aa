//! `reqwest`: a client that keeps connections open.
//!
//! - **Type**: `reqwest::Client`
//! - **Write**: nothing
//! - **Cleanup**: none is needed. Dropping the last clone closes the connections.
//! - **Lost without it**: nothing. A forgotten clone keeps the connections open.
//! - **Repeated**: there is nothing to repeat.
//! - **Waits for**: nothing. Requests in flight belong to the tasks that await them.
//! - **Order**: none: the tasks that use it are steps, the client is not.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

use crate::steps::assert_clean;

#[derive(GracefulShutdown)]
struct Server {
    _client: reqwest::Client,
    #[shutdown(state)]
    state: ShutdownState,
}

/// Starts an upstream that answers one request and keeps the connection open. Its thread ends once the client has
/// closed the connection.
fn upstream() -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(&stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        (&stream)
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .unwrap();
        assert_eq!(reader.read(&mut [0]).unwrap_or(0), 0);
    });
    (url, served)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_clone_closes_the_connections() {
    let (url, served) = upstream();
    let client = reqwest::Client::new();
    client.get(url).send().await.unwrap();
    let clone = client.clone();
    let mut server = Server {
        _client: client,
        state: ShutdownState::new(),
    };
    assert_clean(&server.shutdown().await);
    drop(server);
    assert!(!served.is_finished(), "a clone keeps the connection");
    drop(clone);
    tokio::task::spawn_blocking(|| served.join())
        .await
        .unwrap()
        .unwrap();
}
