//! `sqlx`: a pool of connections, to SQLite and to PostgreSQL.
//!
//! - **Cleanup**: `Pool::close`, then wait until the pool is empty.
//! - **Lost without it**: transactions of tasks that still hold a connection. SQLite's write-ahead log also stays beside the file.
//! - **Repeated**: yes, even if its future was dropped.
//! - **Waits for**: every connection that a task holds. No task gets a new one.
//! - **Order**: after everything that uses it: requests, then background tasks, then the pool.

use std::path::Path;
use std::pin::pin;

use lifecycle_adapters as adapters;
use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{Database, PgPool, Pool, SqlitePool};

use crate::real_server::RealServer;
use crate::steps::{assert_clean, assert_timed_out, begin};

#[derive(GracefulShutdown)]
struct Server<DB: Database> {
    #[shutdown(timeout = "5s", with = adapters::sqlx::close)]
    pool: Pool<DB>,
    #[shutdown(state)]
    state: ShutdownState,
}

impl<DB: Database> Server<DB> {
    fn new(pool: &Pool<DB>) -> Self {
        Self {
            pool: pool.clone(),
            state: ShutdownState::new(),
        }
    }
}

async fn sqlite(file: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let pool = SqlitePool::connect_with(options).await.expect("a database");
    sqlx::query("CREATE TABLE IF NOT EXISTS orders (id INTEGER)")
        .execute(&pool)
        .await
        .expect("a table");
    pool
}

async fn orders(file: &Path) -> usize {
    let rows = sqlx::query("SELECT id FROM orders");
    rows.fetch_all(&sqlite(file).await).await.unwrap().len()
}

#[tokio::test]
async fn the_cleanup_awaits_the_open_transaction_and_leaves_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let (file, log) = (directory.path().join("db"), directory.path().join("db-wal"));
    let pool = sqlite(&file).await;
    let mut order = pool.begin().await.unwrap();
    sqlx::query("INSERT INTO orders VALUES (1)")
        .execute(&mut *order)
        .await
        .unwrap();
    let mut server = Server::new(&pool);
    {
        let mut shutdown = pin!(server.shutdown());
        assert!(begin(shutdown.as_mut()).await.is_pending());
        assert!(matches!(pool.acquire().await, Err(sqlx::Error::PoolClosed)));
        order.commit().await.unwrap();
        assert_clean(&shutdown.await);
    }
    assert!(!log.exists());
    let mut again = Server::new(&pool);
    assert_clean(&again.shutdown().await);
    assert_eq!(orders(&file).await, 1);
}

#[tokio::test]
async fn without_the_cleanup_the_transaction_is_open_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let (file, log) = (directory.path().join("db"), directory.path().join("db-wal"));
    let pool = sqlite(&file).await;
    let mut order = pool.begin().await.unwrap();
    sqlx::query("INSERT INTO orders VALUES (1)")
        .execute(&mut *order)
        .await
        .unwrap();
    drop(Server::new(&pool));
    drop(pool);
    assert!(log.exists(), "here the process would end");
    // The end of the process would drop the transaction, which the rollback stands for.
    order.rollback().await.unwrap();
    assert_eq!(orders(&file).await, 0);
}

#[tokio::test]
async fn a_pool_closed_before_the_task_that_holds_a_connection_times_out() {
    let directory = tempfile::tempdir().unwrap();
    let pool = sqlite(&directory.path().join("db")).await;
    let _held = pool.acquire().await.unwrap();
    let report = Server::new(&pool)
        .shutdown()
        .within(std::time::Duration::from_millis(300))
        .await;
    assert_timed_out(&report, "pool");
}

async fn postgres(server: &RealServer, name: &str) -> PgPool {
    let options = PgConnectOptions::new()
        .host("127.0.0.1")
        .port(server.port)
        .username("postgres")
        .application_name(name);
    let mut pool = PgPoolOptions::new().connect_with(options.clone()).await;
    // PostgreSQL listens before it accepts clients, so the first attempts to connect may fail.
    while pool.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        pool = PgPoolOptions::new().connect_with(options.clone()).await;
    }
    pool.unwrap()
}

/// Returns how many connections PostgreSQL has from the application with the name `server`.
async fn connections(observer: &PgPool) -> usize {
    let rows = sqlx::query("SELECT 1 FROM pg_stat_activity WHERE application_name = 'server'");
    rows.fetch_all(observer).await.unwrap().len()
}

#[tokio::test]
async fn postgres_has_no_connection_left() {
    let server = RealServer::postgres();
    let observer = postgres(&server, "observer").await;
    let pool = postgres(&server, "server").await;
    let mut held = pool.begin().await.unwrap();
    sqlx::query("SELECT 1").execute(&mut *held).await.unwrap();

    // The pool is only dropped and not closed, so a task that holds a connection goes on.
    drop(Server::new(&pool));
    assert_eq!(connections(&observer).await, 1);

    let mut owner = Server::new(&pool);
    let mut shutdown = pin!(owner.shutdown());
    assert!(begin(shutdown.as_mut()).await.is_pending());
    held.commit().await.unwrap();
    assert_clean(&shutdown.await);
    assert_eq!(pool.size(), 0);
    // The connections were closed in order. PostgreSQL's processes for them end a little later.
    while connections(&observer).await > 0 {
        tokio::task::yield_now().await;
    }
}
