//! `notify`: a watcher of files, and the task that reads its events.
//!
//! - **Cleanup**: drop the watcher, then await the task. The task's channel ends once the watcher's thread has dropped its side.
//! - **Lost without it**: events that were seen but not read.
//! - **Repeated**: no: the watcher is gone and the task has ended.
//! - **Waits for**: the task.
//! - **Order**: before everything that the task uses. The watcher comes before its task, which would otherwise wait for ever.

use std::time::Duration;

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::steps::{assert_clean, assert_timed_out};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(priority = 0, take, with = drop)]
    watcher: Option<RecommendedWatcher>,
    #[shutdown(priority = 1, timeout = "5s")]
    reader: JoinHandle<()>,
    #[shutdown(state)]
    state: ShutdownState,
}

/// Starts a server whose watcher has seen an event that its task has not read.
async fn server() -> (Server, mpsc::UnboundedReceiver<()>) {
    let directory = tempfile::tempdir().unwrap();
    let (send, mut events) = mpsc::unbounded_channel();
    let (reads, read) = mpsc::unbounded_channel();
    let mut watcher = notify::recommended_watcher(move |event| {
        let _ = send.send(event);
    })
    .unwrap();
    watcher
        .watch(directory.path(), RecursiveMode::NonRecursive)
        .unwrap();
    std::fs::write(directory.path().join("config"), "new").unwrap();
    while events.is_empty() {
        tokio::task::yield_now().await;
    }
    let reader = tokio::spawn(async move {
        while events.recv().await.is_some() {
            let _ = reads.send(());
        }
    });
    let server = Server {
        watcher: Some(watcher),
        reader,
        state: ShutdownState::new(),
    };
    (server, read)
}

#[tokio::test]
async fn the_task_reads_every_seen_event() {
    let (mut server, mut read) = server().await;
    assert_clean(&server.shutdown().await);
    assert!(read.recv().await.is_some());
}

#[tokio::test]
async fn after_a_drop_alone_the_event_is_not_read() {
    let (server, mut read) = server().await;
    let task = server.reader.abort_handle();
    drop(server);
    // The abort stands for the end of the runtime, which drops the task.
    task.abort();
    assert!(read.recv().await.is_none());
}

#[tokio::test]
async fn the_task_lives_as_long_as_the_watcher() {
    let (mut server, _read) = server().await;
    let _watcher = server.watcher.take();
    let report = server.shutdown().within(Duration::from_millis(300)).await;
    assert_timed_out(&report, "reader");
}
