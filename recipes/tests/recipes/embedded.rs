//! `redb`: an embedded database.
//!
//! - **Cleanup**: drop the database on the blocking pool, after its last transaction.
//! - **Lost without it**: commits of `Durability::None`. The next start also has to repair the file.
//! - **Repeated**: no: the database is gone.
//! - **Waits for**: the disk. While a transaction is open, the drop does nothing, and the end of the last transaction closes the file.
//! - **Order**: after everything that uses it. The field must be the only owner by then: hand out `Weak`, or end the tasks first.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use redb::{
    Builder, Database, Durability, ReadableDatabase as _, ReadableTableMetadata as _,
    TableDefinition,
};

use crate::steps::assert_clean;

const ORDERS: TableDefinition<u64, u64> = TableDefinition::new("orders");

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(timeout = "5s", take, blocking, with = drop)]
    database: Option<Database>,
    #[shutdown(state)]
    state: ShutdownState,
}

/// Opens a server with one order on disk, and one order that was committed without waiting for the disk.
fn server(file: &Path) -> Server {
    let database = Database::create(file).unwrap();
    for durability in [Durability::Immediate, Durability::None] {
        let mut order = database.begin_write().unwrap();
        order.set_durability(durability).unwrap();
        {
            let mut orders = order.open_table(ORDERS).unwrap();
            let id = orders.len().unwrap();
            orders.insert(id, 1).unwrap();
        }
        order.commit().unwrap();
    }
    Server {
        database: Some(database),
        state: ShutdownState::new(),
    }
}

/// Returns how many orders the next start of the server finds, and whether redb had to repair the file.
fn next_start(file: &Path) -> (u64, bool) {
    let repaired = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&repaired);
    let database = Builder::new()
        .set_repair_callback(move |_| seen.store(true, Ordering::Relaxed))
        .open(file)
        .unwrap();
    let orders = database.begin_read().unwrap().open_table(ORDERS).unwrap();
    (orders.len().unwrap(), repaired.load(Ordering::Relaxed))
}

#[tokio::test]
async fn the_next_start_finds_every_order() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("db");
    assert_clean(&server(&file).shutdown().await);
    assert_eq!(next_start(&file), (2, false));
}

#[tokio::test]
async fn without_the_cleanup_the_next_start_repairs_the_file_and_finds_fewer_orders() {
    let directory = tempfile::tempdir().unwrap();
    let (file, copy) = (directory.path().join("db"), directory.path().join("copy"));
    let mut server = server(&file);
    // The copy is the database's file as it would be if the process ended here.
    std::fs::copy(&file, &copy).unwrap();
    assert_eq!(next_start(&copy), (1, true));
    assert_clean(&server.shutdown().await);
}
