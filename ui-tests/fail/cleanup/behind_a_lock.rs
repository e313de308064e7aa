//! A cleanup function of the value inside a lock is an error, since something must lock the lock first.

use std::sync::{Arc, RwLock};

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio::sync::Mutex;

struct Db;

impl Db {
    async fn close(&mut self) {}
    fn flush(&self) {}
}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = Db::close)]
    tokio: Arc<Mutex<Db>>,
    #[shutdown(with = Db::flush)]
    std: Option<RwLock<Db>>,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}
