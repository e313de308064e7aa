//! `object_store`: an upload in parts, here to the local file system.
//!
//! - **Cleanup**: `shutdown` of the `BufWriter` (of tokio's `AsyncWriteExt`), which sends the last part and completes the upload.
//! - **Lost without it**: the whole object, not only its last part. The parts that were sent stay in a remote store, at a cost, until a rule removes them.
//! - **Repeated**: no: once it has ended, a second `shutdown` panics. One that was dropped half-way goes on.
//! - **Waits for**: the parts in flight, and the store's answer.
//! - **Order**: after everything that writes. The store itself needs no cleanup.

use std::path::Path;
use std::sync::Arc;

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use tokio::io::AsyncWriteExt as _;

use crate::steps::assert_clean;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(timeout = "10s", with = |upload| upload.shutdown())]
    upload: BufWriter,
    #[shutdown(state)]
    state: ShutdownState,
}

/// Begins an upload of ten bytes in parts of four bytes, and leaves it unfinished.
async fn upload(directory: &Path) -> BufWriter {
    let store = LocalFileSystem::new_with_prefix(directory).unwrap();
    let mut upload = BufWriter::with_capacity(Arc::new(store), "log".into(), 4);
    for _ in 0..5 {
        upload.write_all(b"ab").await.unwrap();
    }
    upload
}

async fn server(directory: &Path) -> Server {
    Server {
        upload: upload(directory).await,
        state: ShutdownState::new(),
    }
}

/// Returns the names of the files in a directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[tokio::test]
async fn the_cleanup_completes_the_object() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = server(directory.path()).await;
    assert_clean(&server.shutdown().await);
    let text = std::fs::read_to_string(directory.path().join("log")).unwrap();
    assert_eq!(text, "ababababab");
    assert_eq!(names(directory.path()), ["log"]);
}

#[tokio::test]
async fn a_second_shutdown_of_the_writer_panics() {
    let directory = tempfile::tempdir().unwrap();
    let mut upload = upload(directory.path()).await;
    upload.shutdown().await.unwrap();
    let again = tokio::spawn(async move { upload.shutdown().await });
    assert!(again.await.unwrap_err().is_panic());
}

#[tokio::test]
async fn a_drop_alone_leaves_no_object() {
    let directory = tempfile::tempdir().unwrap();
    let server = server(directory.path()).await;
    assert_eq!(
        names(directory.path()),
        ["log#1"],
        "the parts that were sent"
    );
    drop(server);
    // The local store removes the parts after the drop, on another thread. So they may still be there.
    assert!(!directory.path().join("log").exists());
}
