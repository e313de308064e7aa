//! `sled`: an embedded database.
//!
//! - **Cleanup**: `Db::flush` on the blocking pool. The value is moved there meanwhile, so the field is an `Option`.
//! - **Lost without it**: what was written since the last flush; sled flushes every 500 ms. Dropping the last clone flushes too, but only logs a failure.
//! - **Repeated**: yes.
//! - **Waits for**: the disk.
//! - **Order**: after everything that writes to it.

use std::fs;
use std::path::Path;

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use sled::Db;

use crate::steps::assert_clean;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(timeout = "5s", blocking, with = |database| database.flush().map(drop))]
    database: Option<Db>,
    #[shutdown(state)]
    state: ShutdownState,
}

/// Returns how many orders the next start of the server would find if the process ended now.
fn orders(database: &Path) -> usize {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(database).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    sled::open(copy.path()).unwrap().len()
}

#[tokio::test]
async fn written_orders_are_on_disk_only_after_the_cleanup() {
    let directory = tempfile::tempdir().unwrap();
    // sled must not flush by itself during the test, so the interval is off.
    let config = sled::Config::new()
        .path(directory.path())
        .flush_every_ms(None);
    let mut server = Server {
        database: Some(config.open().unwrap()),
        state: ShutdownState::new(),
    };
    let database = server.database.clone().unwrap();
    database.insert("order", "1").unwrap();
    assert_eq!(orders(directory.path()), 0);
    assert_clean(&server.shutdown().await);
    assert_eq!(orders(directory.path()), 1);
    // The drop of the server's clone did not flush the data, since this last clone still existed.
    drop(database);
}
