//! `tokio-postgres` and `deadpool-postgres`: a connection with its task, and a pool of connections.
//!
//! - **Cleanup**: drop the `Client`, then await the task of its connection. For a pool, call `Pool::close` and wait until it is empty.
//! - **Lost without it**: statements that were queued but not sent.
//! - **Repeated**: no for the client, which is gone. Closing the pool again does nothing.
//! - **Waits for**: the answers to everything queued. A pool waits for every connection that a task holds.
//! - **Order**: after everything that uses them. The client comes before its task, which would otherwise wait for ever.

use std::pin::pin;
use std::time::Duration;

use deadpool_postgres::{Config, Pool, Runtime};
use lifecycle_adapters as adapters;
use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error, NoTls};

use crate::real_server::RealServer;
use crate::steps::{assert_clean, assert_timed_out, begin, in_a_process};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(priority = 0, take, with = drop)]
    client: Option<Client>,
    #[shutdown(priority = 1, timeout = "5s")]
    connection: JoinHandle<Result<(), Error>>,
    #[shutdown(priority = 1, timeout = "5s", with = adapters::deadpool_postgres::close)]
    pool: Pool,
    #[shutdown(state)]
    state: ShutdownState,
}

async fn connect(port: u16) -> Server {
    let config = format!("host=127.0.0.1 port={port} user=postgres");
    let mut connected = tokio_postgres::connect(&config, NoTls).await;
    // PostgreSQL listens before it accepts clients, so the first attempts to connect may fail.
    while connected.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        connected = tokio_postgres::connect(&config, NoTls).await;
    }
    let (client, connection) = connected.unwrap();
    let mut pool = Config::new();
    pool.host = Some("127.0.0.1".into());
    pool.port = Some(port);
    pool.dbname = Some("postgres".into());
    pool.user = Some("postgres".into());
    Server {
        client: Some(client),
        connection: tokio::spawn(connection),
        pool: pool.create_pool(Some(Runtime::Tokio1), NoTls).unwrap(),
        state: ShutdownState::new(),
    }
}

/// Enqueues the INSERT of an order, and does not wait until PostgreSQL has executed it.
async fn order(client: &Client, id: u8) {
    let statement = format!("INSERT INTO orders VALUES ({id})");
    let mut insert = pin!(client.batch_execute(&statement));
    assert!(begin(insert.as_mut()).await.is_pending());
}

async fn orders(port: u16) -> usize {
    let server = connect(port).await;
    let rows = server
        .client
        .as_ref()
        .unwrap()
        .query("SELECT id FROM orders", &[]);
    rows.await.unwrap().len()
}

#[test]
fn the_cleanup_awaits_queued_statements_and_a_drop_alone_loses_them() {
    let database = RealServer::postgres();
    let port = database.port;
    in_a_process(async {
        let server = connect(port).await;
        let client = server.client.as_ref().unwrap();
        client
            .batch_execute("CREATE TABLE orders (id INT)")
            .await
            .unwrap();
    });
    in_a_process(async {
        let server = connect(port).await;
        order(server.client.as_ref().unwrap(), 1).await;
        drop(server);
    });
    assert_eq!(in_a_process(orders(port)), 0);
    in_a_process(async {
        let mut server = connect(port).await;
        order(server.client.as_ref().unwrap(), 1).await;
        assert_clean(&server.shutdown().await);
    });
    assert_eq!(in_a_process(orders(port)), 1);

    in_a_process(async {
        let mut server = connect(port).await;
        let pool = server.pool.clone();
        let held = pool.get().await.unwrap();
        held.batch_execute("BEGIN; INSERT INTO orders VALUES (2)")
            .await
            .unwrap();
        // The pool's own `close` does not wait for the connection that the test still holds.
        pool.close();
        assert_eq!(pool.status().size, 1);
        let mut shutdown = pin!(server.shutdown());
        assert!(begin(shutdown.as_mut()).await.is_pending());
        tokio::task::yield_now().await;
        assert!(begin(shutdown.as_mut()).await.is_pending());
        held.batch_execute("COMMIT").await.unwrap();
        drop(held);
        assert_clean(&shutdown.await);
        assert_eq!(pool.status().size, 0);
    });
    assert_eq!(in_a_process(orders(port)), 2);

    in_a_process(async {
        let mut server = connect(port).await;
        // The test takes the client out of the server and keeps it, so the task of its connection does not end.
        let _client = server.client.take();
        let report = server.shutdown().within(Duration::from_millis(300)).await;
        assert_timed_out(&report, "connection");
    });
}
