//! `tokio`: the channels `mpsc`, `oneshot`, `watch` and `broadcast`, and the tasks that receive.
//!
//! - **Cleanup**: drop the sender (`oneshot`, `watch`: send the last value), then await the task that receives.
//! - **Lost without it**: what is queued when the process ends.
//! - **Repeated**: no: the sender is gone and the task has ended. `watch`: yes.
//! - **Waits for**: the task, which ends once it has received everything. A forgotten clone of the sender keeps it running.
//! - **Order**: after everything that sends. The sender comes before the task, which would otherwise wait for ever.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lifecycle_runtime::{GracefulShutdown, Outcome, ShutdownState};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::steps::{assert_clean, in_a_process};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(priority = 0, take, with = drop)]
    jobs: Option<mpsc::Sender<u8>>,
    #[shutdown(priority = 0, take, with = drop)]
    events: Option<broadcast::Sender<u8>>,
    #[shutdown(priority = 0, take, with = |stop| { let _ = stop.send(()); })]
    stop: Option<oneshot::Sender<()>>,
    #[shutdown(priority = 0, with = |serving| { serving.send_replace(false); })]
    serving: watch::Sender<bool>,
    #[shutdown(priority = 1, timeout = "2s")]
    tasks: Vec<JoinHandle<()>>,
    #[shutdown(state)]
    state: ShutdownState,
}

/// Starts a server whose channels hold messages that the tasks have not received yet.
async fn server(received: &Arc<Mutex<Vec<&'static str>>>) -> Server {
    let (jobs, mut worker) = mpsc::channel(8);
    let (events, mut listener) = broadcast::channel(8);
    let (stop, stopped) = oneshot::channel();
    let (serving, mut probe) = watch::channel(true);
    let note = |what| {
        let received = Arc::clone(received);
        move || received.lock().unwrap().push(what)
    };
    let (job, event) = (note("job"), note("event"));
    let (told, red) = (note("told"), note("red"));
    let tasks = vec![
        tokio::spawn(async move {
            while worker.recv().await.is_some() {
                job()
            }
        }),
        tokio::spawn(async move {
            while listener.recv().await.is_ok() {
                event()
            }
        }),
        tokio::spawn(async move {
            if stopped.await.is_ok() {
                told()
            }
        }),
        tokio::spawn(async move {
            if probe.wait_for(|serving| !serving).await.is_ok() {
                red()
            }
        }),
    ];
    jobs.send(1).await.unwrap();
    events.send(1).unwrap();
    Server {
        jobs: Some(jobs),
        events: Some(events),
        stop: Some(stop),
        serving,
        tasks,
        state: ShutdownState::new(),
    }
}

fn sorted(received: &Mutex<Vec<&'static str>>) -> Vec<&'static str> {
    let mut received = received.lock().unwrap().clone();
    received.sort_unstable();
    received
}

#[test]
fn every_queued_value_is_received() {
    let received = Arc::default();
    in_a_process(async {
        let mut server = server(&received).await;
        assert_clean(&server.shutdown().await);
    });
    assert_eq!(sorted(&received), ["event", "job", "red", "told"]);
}

#[test]
fn a_drop_alone_loses_the_queued_values() {
    let received = Arc::default();
    in_a_process(async { drop(server(&received).await) });
    assert_eq!(sorted(&received), [""; 0]);
}

#[tokio::test]
async fn a_clone_of_the_sender_keeps_the_task_alive() {
    let mut server = server(&Arc::default()).await;
    let _clone = server.jobs.clone();
    let report = server.shutdown().within(Duration::from_millis(300)).await;
    let tasks = report.step("tasks").unwrap();
    let worker = &tasks.steps()[0];
    assert!(
        matches!(worker.outcome(), Outcome::TimedOut { .. }),
        "{report}"
    );
}
