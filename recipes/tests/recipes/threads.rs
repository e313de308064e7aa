//! `std`: a thread.
//!
//! - **Cleanup**: tell it to end (drop its channel), then join it on the blocking pool.
//! - **Lost without it**: the work that is left when the process ends. A panic of the thread is never seen.
//! - **Repeated**: no: the handle is gone.
//! - **Waits for**: the thread. Nothing can abort it, so past the deadline it is left behind.
//! - **Order**: the channel before its thread, which would otherwise wait for ever.

use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use lifecycle_adapters as adapters;
use lifecycle_runtime::{GracefulShutdown, Outcome, ShutdownState};

use crate::steps::assert_clean;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(priority = 0, take, with = drop)]
    jobs: Option<Sender<u8>>,
    #[shutdown(priority = 1, timeout = "2s", take, blocking, with = adapters::thread::join)]
    worker: Option<JoinHandle<()>>,
    #[shutdown(state)]
    state: ShutdownState,
}

/// Starts a server with a thread. Once its channel is closed, the thread writes all jobs that it has received.
fn server(written: &Arc<Mutex<Vec<u8>>>) -> Server {
    let (jobs, queue) = mpsc::channel();
    jobs.send(1).unwrap();
    let written = Arc::clone(written);
    let worker = thread::spawn(move || {
        let all = queue.iter().collect();
        *written.lock().unwrap() = all;
    });
    Server {
        jobs: Some(jobs),
        worker: Some(worker),
        state: ShutdownState::new(),
    }
}

#[tokio::test]
async fn the_thread_writes_its_lines() {
    let written = Arc::default();
    assert_clean(&server(&written).shutdown().await);
    assert_eq!(*written.lock().unwrap(), [1]);
}

#[tokio::test]
async fn the_thread_writes_nothing_while_a_sender_exists() {
    let written = Arc::default();
    let mut server = server(&written);
    let sender = server.jobs.clone();
    drop(server.worker.take());
    drop(server);
    assert_eq!(
        *written.lock().unwrap(),
        [0; 0],
        "here the process would end"
    );
    drop(sender);
}

#[tokio::test]
async fn the_panic_of_the_thread_is_the_error_of_the_step() {
    let mut server = Server {
        jobs: None,
        worker: Some(thread::spawn(|| panic!("the disk is full"))),
        state: ShutdownState::new(),
    };
    let report = server.shutdown().await;
    let step = report.step("worker").unwrap();
    assert!(matches!(step.outcome(), Outcome::Failed(_)), "{report}");
    assert!(report.to_string().contains("the disk is full"), "{report}");
}
