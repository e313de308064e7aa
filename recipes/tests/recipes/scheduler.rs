//! `tokio-cron-scheduler`: jobs that run at set times.
//!
//! - **Cleanup**: `JobScheduler::shutdown`, after which no job begins. Then wait for the jobs that run: track them with a `TaskTracker`.
//! - **Lost without it**: the jobs that are running when the process ends.
//! - **Repeated**: yes, with no effect.
//! - **Waits for**: nothing; the tracker waits for the jobs.
//! - **Order**: before everything that jobs use. The scheduler comes before its jobs.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler};
use tokio_util::task::TaskTracker;

use crate::steps::{assert_clean, begin};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(priority = 0, timeout = "1s", with = JobScheduler::shutdown)]
    scheduler: JobScheduler,
    #[shutdown(priority = 1, timeout = "5s")]
    jobs: TaskTracker,
    #[shutdown(state)]
    state: ShutdownState,
}

#[tokio::test]
async fn only_the_tracker_awaits_a_running_job() {
    let (begun, let_go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let done = Arc::new(AtomicBool::new(false));
    let jobs = TaskTracker::new();
    let job = {
        let (begun, let_go) = (Arc::clone(&begun), Arc::clone(&let_go));
        let (done, jobs) = (Arc::clone(&done), jobs.clone());
        Job::new_one_shot_async(Duration::ZERO, move |_, _| {
            let (begun, let_go, done) =
                (Arc::clone(&begun), Arc::clone(&let_go), Arc::clone(&done));
            Box::pin(jobs.track_future(async move {
                begun.notify_one();
                let_go.notified().await;
                done.store(true, Ordering::Relaxed);
            }))
        })
        .unwrap()
    };
    let mut scheduler = JobScheduler::new().await.unwrap();
    scheduler.add(job).await.unwrap();
    scheduler.start().await.unwrap();
    begun.notified().await;

    // The scheduler's own `shutdown` does not wait for the jobs that run.
    scheduler.shutdown().await.unwrap();
    assert!(!done.load(Ordering::Relaxed), "here the process would end");

    let mut server = Server {
        scheduler,
        jobs,
        state: ShutdownState::new(),
    };
    let mut shutdown = pin!(server.shutdown());
    assert!(begin(shutdown.as_mut()).await.is_pending());
    let_go.notify_one();
    assert_clean(&shutdown.await);
    assert!(done.load(Ordering::Relaxed));
}
