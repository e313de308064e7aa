//! `redis`: a connection that many tasks share.
//!
//! - **Cleanup**: wait for the answer to a `PING`, which the server executes after everything sent before. Then drop the last clone.
//! - **Lost without it**: commands that were sent but not answered yet. (A command whose future is dropped is not even sent.)
//! - **Repeated**: yes.
//! - **Waits for**: the server, up to the connection's response timeout.
//! - **Order**: after everything that uses it.

use std::pin::Pin;

use lifecycle_adapters as adapters;
use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use redis::aio::MultiplexedConnection;

use crate::real_server::RealServer;
use crate::steps::{assert_clean, begin, in_a_process};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(timeout = "2s", with = adapters::redis::settle)]
    redis: MultiplexedConnection,
    #[shutdown(state)]
    state: ShutdownState,
}

async fn connect(port: u16) -> MultiplexedConnection {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

type Command = Pin<Box<dyn Future<Output = redis::RedisResult<()>>>>;

/// Starts a server and sends a Redis command. Returns the server and the future that still awaits the answer.
async fn server(port: u16) -> (Server, Command) {
    let redis = connect(port).await;
    let mut connection = redis.clone();
    let mut sent: Command = Box::pin(async move {
        let mut command = redis::cmd("INCR");
        command.arg("orders").query_async(&mut connection).await
    });
    assert!(begin(sent.as_mut()).await.is_pending());
    let state = ShutdownState::new();
    (Server { redis, state }, sent)
}

async fn orders(port: u16) -> Option<i64> {
    let mut command = redis::cmd("GET");
    command.arg("orders");
    command.query_async(&mut connect(port).await).await.unwrap()
}

#[test]
fn the_cleanup_executes_sent_commands_and_a_drop_alone_loses_them() {
    let redis = RealServer::redis();
    let port = redis.port;
    in_a_process(async { drop(server(port).await) });
    assert_eq!(in_a_process(orders(port)), None);
    in_a_process(async {
        let (mut server, _sent) = server(port).await;
        assert_clean(&server.shutdown().await);
        assert!(adapters::redis::settle(&mut server.redis).await.is_ok());
    });
    assert_eq!(in_a_process(orders(port)), Some(1));
    in_a_process(async {
        let (mut server, sent) = server(port).await;
        drop(sent);
        assert_clean(&server.shutdown().await);
    });
    assert_eq!(in_a_process(orders(port)), Some(1), "it was not even sent");
}

#[test]
fn a_missing_server_is_an_error() {
    let redis = RealServer::redis();
    in_a_process(async {
        let (mut server, _sent) = server(redis.port).await;
        drop(redis);
        assert!(!server.shutdown().await.is_clean());
    });
}
