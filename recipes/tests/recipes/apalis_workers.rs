//! `apalis`: workers of a job queue, here in memory.
//!
//! - **Cleanup**: `Monitor::run_with_signal` in a task with a token; cancel the token, await the task.
//! - **Lost without it**: the jobs that are running when the process ends. A durable queue gives them to another worker after its own timeout.
//! - **Repeated**: yes: the token stays cancelled, and the task has ended.
//! - **Waits for**: the jobs that run, without a limit; no further job begins. Leave apalis's own `shutdown_timeout` out: it would drop jobs without an error, and the step has a timeout.
//! - **Order**: before everything that jobs use; if the queue is in memory, after everything that enqueues.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use apalis::prelude::*;
use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::steps::{assert_clean, assert_timed_out, begin, in_a_process};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(priority = 0)]
    stop: CancellationToken,
    #[shutdown(priority = 1, timeout = "5s")]
    workers: JoinHandle<Result<(), MonitorError>>,
    #[shutdown(state)]
    state: ShutdownState,
}

/// Two notifications by which a job and the test wait for each other.
#[derive(Default)]
struct Turn {
    begun: Notify,
    go_on: Notify,
    done: AtomicU32,
}

/// Starts a server with one job that runs and one job that waits in the queue.
async fn server(turn: &Arc<Turn>) -> Server {
    let mut queue = MemoryStorage::new();
    queue.push(1_u32).await.unwrap();
    queue.push(2).await.unwrap();
    let job = {
        let turn = Arc::clone(turn);
        move |_: u32| {
            let turn = Arc::clone(&turn);
            async move {
                turn.begun.notify_one();
                turn.go_on.notified().await;
                turn.done.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let queue = std::sync::Mutex::new(Some(queue));
    let monitor = Monitor::new().register(move |_| {
        WorkerBuilder::new("mailer")
            .backend(queue.lock().unwrap().take().unwrap())
            .concurrency(1)
            .build(job.clone())
    });
    let stop = CancellationToken::new();
    let told = stop.clone().cancelled_owned();
    let workers = tokio::spawn(monitor.run_with_signal(async move {
        told.await;
        Ok(())
    }));
    turn.begun.notified().await;
    let state = ShutdownState::new();
    Server {
        stop,
        workers,
        state,
    }
}

#[tokio::test]
async fn the_running_job_finishes_and_no_other_begins() {
    let turn = Arc::<Turn>::default();
    let mut server = server(&turn).await;
    let mut shutdown = pin!(server.shutdown());
    assert!(begin(shutdown.as_mut()).await.is_pending());
    turn.go_on.notify_one();
    assert_clean(&shutdown.await);
    assert_eq!(turn.done.load(Ordering::Relaxed), 1);
}

#[test]
fn a_drop_alone_loses_the_running_job() {
    let turn = Arc::<Turn>::default();
    in_a_process(async {
        drop(server(&turn).await);
        turn.go_on.notify_one();
    });
    assert_eq!(turn.done.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn without_the_token_the_workers_never_end() {
    let turn = Arc::<Turn>::default();
    let mut server = server(&turn).await;
    server.stop = CancellationToken::new();
    turn.go_on.notify_one();
    let report = server.shutdown().within(Duration::from_millis(300)).await;
    assert_timed_out(&report, "workers");
}
