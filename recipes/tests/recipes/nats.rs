//! `async-nats`: a client of NATS.
//!
//! - **Cleanup**: `Client::drain`, which only enqueues the request; then wait until the connection has ended.
//! - **Lost without it**: messages that were published but not sent.
//! - **Repeated**: yes, with no effect.
//! - **Waits for**: until everything published has been sent. While the server is away, that has no limit.
//! - **Order**: after everything that publishes, before the tasks that read subscriptions: the drain ends them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use futures_util::StreamExt as _;
use lifecycle_adapters as adapters;
use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio::task::JoinHandle;

use crate::real_server::RealServer;
use crate::steps::{assert_clean, in_a_process};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(priority = 0, timeout = "5s", with = adapters::nats::drain)]
    nats: async_nats::Client,
    #[shutdown(priority = 1, timeout = "1s")]
    reader: JoinHandle<()>,
    #[shutdown(state)]
    state: ShutdownState,
}

/// Subscribes to `orders` over a plain socket, with the commands of the NATS protocol.
fn observer(port: u16) -> BufReader<TcpStream> {
    let mut observer = BufReader::new(TcpStream::connect(("127.0.0.1", port)).unwrap());
    let mut stream = observer.get_ref();
    // The timeout makes the test fail, instead of hang, if a message never comes.
    let patience = Some(std::time::Duration::from_secs(30));
    stream.set_read_timeout(patience).unwrap();
    stream
        .write_all(b"CONNECT {\"verbose\":false}\r\nSUB orders 1\r\nPING\r\n")
        .unwrap();
    while next_line(&mut observer) != "PONG" {}
    observer
}

fn next_line(observer: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    assert!(observer.read_line(&mut line).unwrap() > 0);
    line.trim_end().to_owned()
}

/// Reads messages until `text` has come `expected` times. Returns how many other messages came before that.
fn others_before(observer: &mut BufReader<TcpStream>, expected: usize, text: &str) -> usize {
    let (mut others, mut seen) = (0, 0);
    while seen < expected {
        if next_line(observer).starts_with("MSG ") {
            match next_line(observer) {
                line if line == text => seen += 1,
                _ => others += 1,
            }
        }
    }
    others
}

/// Connects a server to NATS. The server has published a hundred messages that its client has not sent yet.
async fn server(port: u16, text: &'static str) -> Server {
    let nats = async_nats::connect(format!("127.0.0.1:{port}"))
        .await
        .unwrap();
    let mut subscription = nats.subscribe("news").await.unwrap();
    let reader = tokio::spawn(async move { while subscription.next().await.is_some() {} });
    nats.flush().await.unwrap();
    for _ in 0..100 {
        nats.publish("orders", text.into()).await.unwrap();
    }
    Server {
        nats,
        reader,
        state: ShutdownState::new(),
    }
}

#[test]
fn the_cleanup_sends_published_messages_and_a_drop_alone_loses_them() {
    let server_process = RealServer::nats();
    let port = server_process.port;
    let mut observer = observer(port);
    in_a_process(async { drop(server(port, "dropped").await) });
    in_a_process(async {
        let server = server(port, "drained").await;
        // Without the adapter, the process ends while the request to drain is only enqueued.
        server.nats.drain().await.unwrap();
    });
    in_a_process(async {
        let mut server = server(port, "shut down").await;
        assert_clean(&server.shutdown().await);
        adapters::nats::drain(&mut server.nats).await;
    });
    assert_eq!(others_before(&mut observer, 100, "shut down"), 0);
    in_a_process(async {
        let mut server = server(port, "by the adapter alone").await;
        adapters::nats::drain(&mut server.nats).await;
    });
    let others = others_before(&mut observer, 100, "by the adapter alone");
    assert_eq!(others, 0);
}
