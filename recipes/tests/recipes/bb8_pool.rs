//! `bb8`: a pool of connections, here `bb8-postgres`.
//!
//! - **Cleanup**: a pool has no `close`. Wait until all connections have been returned; dropping the last clone closes them.
//! - **Lost without it**: transactions of tasks that still hold a connection.
//! - **Repeated**: yes.
//! - **Waits for**: every connection that a task holds. Tasks can still take new ones.
//! - **Order**: after everything that uses the pool.

use std::pin::pin;
use std::time::Duration;

use bb8::Pool;
use bb8_postgres::PostgresConnectionManager;
use lifecycle_adapters as adapters;
use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_postgres::{Config, NoTls};

use crate::real_server::RealServer;
use crate::steps::{assert_clean, begin, in_a_process};

type Postgres = PostgresConnectionManager<NoTls>;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(timeout = "5s", with = adapters::bb8::settle)]
    pool: Pool<Postgres>,
    #[shutdown(state)]
    state: ShutdownState,
}

async fn server(port: u16) -> Server {
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user("postgres");
    // PostgreSQL listens before it accepts clients, so the first attempts to connect may fail.
    while config.connect(NoTls).await.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let pool = Pool::builder().build(Postgres::new(config, NoTls)).await;
    Server {
        pool: pool.unwrap(),
        state: ShutdownState::new(),
    }
}

async fn orders(port: u16) -> usize {
    let server = server(port).await;
    let connection = server.pool.get().await.unwrap();
    let rows = connection.query("SELECT id FROM orders", &[]).await;
    rows.unwrap().len()
}

#[test]
fn the_cleanup_awaits_the_open_transaction_and_a_drop_alone_loses_it() {
    let database = RealServer::postgres();
    let port = database.port;
    in_a_process(async {
        let server = server(port).await;
        let order = server.pool.get_owned().await.unwrap();
        order
            .batch_execute("CREATE TABLE orders (id INT); BEGIN; INSERT INTO orders VALUES (1)")
            .await
            .unwrap();
        order
            .batch_execute("COMMIT; BEGIN; INSERT INTO orders VALUES (2)")
            .await
            .unwrap();
        drop(server);
        // The process would end here, while the transaction of the second order is open.
    });
    assert_eq!(in_a_process(orders(port)), 1);
    in_a_process(async {
        let mut server = server(port).await;
        let order = server.pool.get_owned().await.unwrap();
        order
            .batch_execute("BEGIN; INSERT INTO orders VALUES (2)")
            .await
            .unwrap();
        let mut shutdown = pin!(server.shutdown());
        assert!(begin(shutdown.as_mut()).await.is_pending());
        order.batch_execute("COMMIT").await.unwrap();
        drop(order);
        assert_clean(&shutdown.await);
    });
    assert_eq!(in_a_process(orders(port)), 2);
}
