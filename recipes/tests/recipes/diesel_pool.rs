//! `diesel-async`: connections to PostgreSQL, in its pool of `bb8`.
//!
//! - **Cleanup**: the pool has no `close`. Wait until all connections have been returned; dropping its last clone closes them.
//! - **Lost without it**: transactions of tasks that still hold a connection.
//! - **Repeated**: yes.
//! - **Waits for**: every connection that a task holds. Tasks can still take new ones.
//! - **Order**: after everything that uses the pool. Nothing else needs a cleanup: a connection that is dropped ends the task behind it.

use std::pin::pin;
use std::time::Duration;

use diesel::sql_types::BigInt;
use diesel::{QueryableByName, sql_query};
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::{
    AsyncConnection as _, AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _,
};
use lifecycle_adapters as adapters;
use lifecycle_runtime::{GracefulShutdown, ShutdownState};

use crate::real_server::RealServer;
use crate::steps::{assert_clean, begin, in_a_process};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(timeout = "5s", with = adapters::bb8::settle)]
    pool: Pool<AsyncPgConnection>,
    #[shutdown(state)]
    state: ShutdownState,
}

async fn server(port: u16) -> Server {
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    // PostgreSQL listens before it accepts clients, so the first attempts to connect may fail.
    while AsyncPgConnection::establish(&url).await.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let pool = Pool::builder().build(AsyncDieselConnectionManager::new(url));
    Server {
        pool: pool.await.unwrap(),
        state: ShutdownState::new(),
    }
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

async fn orders(port: u16) -> i64 {
    let server = server(port).await;
    let mut connection = server.pool.get().await.unwrap();
    let count = sql_query("SELECT count(*) FROM orders").get_result(&mut connection);
    let count: Count = count.await.unwrap();
    count.count
}

#[test]
fn the_cleanup_awaits_the_open_transaction_and_a_drop_alone_loses_it() {
    let database = RealServer::postgres();
    let port = database.port;
    in_a_process(async {
        let server = server(port).await;
        let mut order = server.pool.get_owned().await.unwrap();
        order
            .batch_execute("CREATE TABLE orders (id INT); BEGIN; INSERT INTO orders VALUES (1)")
            .await
            .unwrap();
        drop(server);
        // The process would end here. The transaction is open, so the table that it created is lost too.
    });
    in_a_process(async {
        let mut server = server(port).await;
        let mut order = server.pool.get_owned().await.unwrap();
        order
            .batch_execute("CREATE TABLE orders (id INT); BEGIN; INSERT INTO orders VALUES (2)")
            .await
            .unwrap();
        let mut shutdown = pin!(server.shutdown());
        assert!(begin(shutdown.as_mut()).await.is_pending());
        order.batch_execute("COMMIT").await.unwrap();
        drop(order);
        assert_clean(&shutdown.await);
    });
    assert_eq!(in_a_process(orders(port)), 1);
}
