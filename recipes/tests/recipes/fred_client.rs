//! `fred`: a client of Redis, and the task of its connection.
//!
//! - **Cleanup**: `quit`, which the server executes after everything sent before; then await the connection's task.
//! - **Lost without it**: commands that were sent but not answered yet.
//! - **Repeated**: do not rely on it: once the connection has ended, `quit` is an error or does nothing.
//! - **Waits for**: the answers to everything that was sent.
//! - **Order**: after everything that uses the client. The client comes before its task.

use std::pin::Pin;

use fred::prelude::{Builder, Client, ClientLike as _, Config, Error, KeysInterface as _};
use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio::task::JoinHandle;

use crate::real_server::RealServer;
use crate::steps::{assert_clean, begin, in_a_process};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(priority = 0, timeout = "2s", with = |redis| redis.quit())]
    redis: Client,
    #[shutdown(priority = 1, timeout = "2s")]
    connection: JoinHandle<Result<(), Error>>,
    #[shutdown(state)]
    state: ShutdownState,
}

type Command = Pin<Box<dyn Future<Output = Result<i64, Error>>>>;

async fn connect(port: u16) -> Server {
    let config = Config::from_url(&format!("redis://127.0.0.1:{port}")).unwrap();
    let redis = Builder::from_config(config).build().unwrap();
    let connection = redis.init().await.unwrap();
    Server {
        redis,
        connection,
        state: ShutdownState::new(),
    }
}

/// Starts a server and sends a Redis command. Returns the server and the future that still awaits the answer.
async fn server(port: u16) -> (Server, Command) {
    let server = connect(port).await;
    let redis = server.redis.clone();
    let mut sent: Command = Box::pin(async move { redis.incr("orders").await });
    assert!(begin(sent.as_mut()).await.is_pending());
    (server, sent)
}

async fn orders(port: u16) -> Option<i64> {
    connect(port).await.redis.get("orders").await.unwrap()
}

#[test]
fn the_cleanup_executes_sent_commands_and_a_drop_alone_loses_them() {
    let redis = RealServer::redis();
    let port = redis.port;
    in_a_process(async { drop(server(port).await) });
    assert_eq!(in_a_process(orders(port)), None);
    in_a_process(async {
        let (mut server, sent) = server(port).await;
        assert_clean(&server.shutdown().await);
        assert_eq!(sent.await.unwrap(), 1);
    });
    assert_eq!(in_a_process(orders(port)), Some(1));
}
