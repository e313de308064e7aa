//! An axum server with a SQLite pool. At shutdown the requests in flight finish, then the counter is
//! saved, and the pool is closed last.
//!
//! The owner, [`Server`], is not `Clone` and stays in one place. Handlers hold a [`Shop`], which has cheap clones of
//! the server's parts. Dropping a `Shop` shuts nothing down.
//!
//! The example ends by itself: a customer orders something, and the shutdown begins while the order
//! is in flight. Run it with `cargo run` in this directory.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use lifecycle_runtime::{
    BoxError, GracefulShutdown, Reason, Report, Runner, ShutdownHandle, ShutdownState,
};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

#[derive(GracefulShutdown)]
#[shutdown(strict, timeout = "25s")]
struct Server {
    #[shutdown(priority = 0, timeout = "2s", with = Tally::save)]
    tally: Arc<Tally>,
    #[shutdown(priority = 10, timeout = "3s", with = close)]
    pool: SqlitePool,
    #[shutdown(state)]
    state: ShutdownState,
}

/// Clones of the parts of the server, for the handlers.
#[derive(Clone)]
struct Shop {
    pool: SqlitePool,
    tally: Arc<Tally>,
    payment: Payment,
}

#[tokio::main]
async fn main() -> Result<Report, BoxError> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("shop.db");

    let handle = ShutdownHandle::new();
    let payment = Payment {
        begun: Arc::default(),
        handle: handle.clone(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let customer = tokio::spawn(customer(listener.local_addr()?, payment.clone()));

    let server = Server::start(&file).await?;
    let pool = server.pool.clone();
    let report = Runner::new(server)
        .handle(&handle)
        .run(async |server, stop| {
            let app = Router::new()
                .route("/orders", post(order))
                .with_state(server.shop(payment));
            // The step `main` ends when every request in flight is answered.
            axum::serve(listener, app)
                .with_graceful_shutdown(stop.cancelled_owned())
                .await
        })
        .await;
    println!("{report}\n");

    println!("the customer got: {}", customer.await??);
    println!("the pool has {} connections", pool.size());
    println!("the database has: {}", read_back(&file).await?);
    Ok(report)
}

impl Server {
    async fn start(file: &Path) -> Result<Self, sqlx::Error> {
        let pool = open(file).await?;
        sqlx::query("CREATE TABLE IF NOT EXISTS orders (item TEXT NOT NULL)")
            .execute(&pool)
            .await?;
        sqlx::query(
            "CREATE TABLE IF NOT EXISTS tally (id INTEGER PRIMARY KEY, requests INTEGER NOT NULL)",
        )
        .execute(&pool)
        .await?;
        Ok(Self {
            tally: Arc::new(Tally::load(pool.clone()).await?),
            pool,
            state: ShutdownState::new(),
        })
    }

    fn shop(&self, payment: Payment) -> Shop {
        Shop {
            pool: self.pool.clone(),
            tally: Arc::clone(&self.tally),
            payment,
        }
    }
}

async fn open(file: &Path) -> Result<SqlitePool, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    SqlitePool::connect_with(options).await
}

/// Closes the pool and waits until it has no connections.
///
/// `Pool::close` alone may return while a connection is open. If a task returns its connection after the pool has
/// closed the idle connections, that connection stays open.
async fn close(pool: &SqlitePool) {
    loop {
        pool.close().await;
        if pool.size() == 0 {
            return;
        }
        // The pool sends no notification when it is empty, so the loop checks again. The step's timeout bounds the
        // loop.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn order(State(shop): State<Shop>, item: String) -> Result<String, (StatusCode, String)> {
    shop.tally.requests.fetch_add(1, Ordering::Relaxed);
    shop.payment.authorize().await;
    sqlx::query("INSERT INTO orders (item) VALUES (?)")
        .bind(&item)
        .execute(&shop.pool)
        .await
        .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(format!("ordered {item}"))
}

/// A counter of orders in memory. The shutdown saves the counter, so that no request has to.
struct Tally {
    requests: AtomicI64, // counted with `Relaxed`: no other memory depends on the number
    pool: SqlitePool,
}

impl Tally {
    async fn load(pool: SqlitePool) -> Result<Self, sqlx::Error> {
        let saved: Option<i64> = sqlx::query_scalar("SELECT requests FROM tally")
            .fetch_optional(&pool)
            .await?;
        Ok(Self {
            requests: saved.unwrap_or_default().into(),
            pool,
        })
    }

    /// Saves the total number of orders, and not the increase, so that a second save does no harm.
    async fn save(&self) -> Result<(), sqlx::Error> {
        sqlx::query("INSERT OR REPLACE INTO tally (id, requests) VALUES (0, ?)")
            .bind(self.requests.load(Ordering::Relaxed))
            .execute(&self.pool)
            .await
            .map(drop)
    }
}

/// A stand-in for a slow payment service. It answers after the shutdown has begun, so that the order is in flight when
/// the shutdown begins.
#[derive(Clone)]
struct Payment {
    begun: Arc<Notify>,
    handle: ShutdownHandle,
}

impl Payment {
    async fn authorize(&self) {
        self.begun.notify_one();
        self.handle.requested().await;
    }
}

/// Orders a lamp, and requests the shutdown while the shop waits for the payment.
async fn customer(shop: SocketAddr, payment: Payment) -> io::Result<String> {
    let mut connection = TcpStream::connect(shop).await?;
    let order = "POST /orders HTTP/1.1\r\nhost: shop\r\ncontent-length: 4\r\n\r\nlamp";
    connection.write_all(order.as_bytes()).await?;
    payment.begun.notified().await;
    payment.handle.request(Reason::Requested);

    // The read ends when the server closes the connection, which it does after the response.
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    let body = answer
        .split_once("\r\n\r\n")
        .map_or(&*answer, |(_head, body)| body);
    Ok(body.to_owned())
}

async fn read_back(file: &Path) -> Result<String, sqlx::Error> {
    let pool = open(file).await?;
    let item: String = sqlx::query_scalar("SELECT item FROM orders")
        .fetch_one(&pool)
        .await?;
    let requests: i64 = sqlx::query_scalar("SELECT requests FROM tally")
        .fetch_one(&pool)
        .await?;
    close(&pool).await;
    Ok(format!("{item}, {requests} request"))
}
