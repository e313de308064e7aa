//! Tasks stay on the worker where they were spawned. The shutdown of the workers waits for their tasks, ends the
//! threads, and fails if it had to drop a task.

use std::future::pending;
use std::num::NonZeroUsize;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use lifecycle_runtime::{
    Component, Context, GracefulShutdown, Outcome, Reason, Report, ShutdownState, Workers,
};
use lifecycle_tests::{Trace, secs};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::yield_now;

#[derive(GracefulShutdown)]
#[shutdown(strict, timeout = "10s")]
struct Server {
    #[shutdown(timeout = "5s")]
    workers: Workers,
    #[shutdown(state)]
    state: ShutdownState,
}

fn server(threads: usize) -> Server {
    Server {
        workers: Workers::start(NonZeroUsize::new(threads).unwrap()).unwrap(),
        state: ShutdownState::new(),
    }
}

fn error_of(report: &Report) -> String {
    match report.step("workers").unwrap().outcome() {
        Outcome::Failed(error) => error.to_string(),
        outcome => panic!("{outcome:?}"),
    }
}

fn thread_name() -> String {
    thread::current().name().unwrap_or_default().to_owned()
}

/// Records that its task was dropped.
struct Dropped(mpsc::Sender<String>);

impl Drop for Dropped {
    fn drop(&mut self) {
        // Sending fails if the test has ended.
        let _ = self.0.send(thread_name());
    }
}

#[tokio::test]
async fn a_task_and_what_it_spawns_stay_on_their_thread() {
    let mut server = server(2);
    for (number, worker) in server.workers.handles().iter().enumerate() {
        let task = worker.spawn(async {
            let mut names = vec![thread_name()];
            for _ in 0..100 {
                yield_now().await;
            }
            names.push(thread_name());
            names.push(tokio::spawn(async { thread_name() }).await.unwrap());
            names
        });
        let name = format!("worker-{number}");
        assert_eq!(task.await.unwrap(), [&name[..]; 3]);
    }
    assert!(server.shutdown().await.is_clean());
}

#[tokio::test]
async fn the_cleanup_waits_for_tasks_and_then_ends_the_threads() {
    let mut server = server(2);
    let trace = Trace::default();
    let (release, held) = oneshot::channel::<()>();
    let task = trace.clone();
    let worker = server.workers.handles()[1].clone();
    worker.spawn(async move {
        held.await.unwrap();
        task.add("the task ends");
    });
    assert_eq!(server.workers.tasks(), 1);
    let report = {
        let mut shutdown = std::pin::pin!(server.shutdown().into_future());
        // Polled a few times, so that the cleanup waits.
        for _ in 0..3 {
            tokio::select! {
                biased;
                _ = &mut shutdown => panic!("a task is left"),
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        }
        trace.add("released");
        release.send(()).unwrap();
        shutdown.await
    };
    assert!(report.is_clean(), "{report}");
    assert_eq!(trace.all(), ["released", "the task ends"]);
    // The runtime is gone, so it drops a task at once.
    assert!(worker.spawn(async {}).await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn a_task_that_is_left_at_the_deadline_is_dropped_and_told() {
    let (tell, told) = mpsc::channel();
    let mut workers = Workers::start(NonZeroUsize::new(2).unwrap()).unwrap();
    for worker in workers.handles() {
        let dropped = Dropped(tell.clone());
        worker.spawn(async move {
            let _dropped = dropped;
            pending::<()>().await;
        });
    }
    let cx = Context::new(Reason::Requested, Duration::from_millis(50));
    let error = workers.cleanup(&cx).await.unwrap_err().to_string();
    assert_eq!(error, "dropped 2 tasks that still ran on the workers");
    let mut names: Vec<_> = told.try_iter().collect();
    names.sort();
    assert_eq!(names, ["worker-0", "worker-1"], "dropped before the report");
    // A second cleanup says so once more. A shutdown that was dropped and taken up makes one.
    let error = workers.cleanup(&cx).await.unwrap_err().to_string();
    assert_eq!(error, "dropped 2 tasks that still ran on the workers");
}

#[tokio::test]
async fn a_task_that_does_not_end_is_a_failed_step() {
    let mut server = server(1);
    server.workers.handles()[0].spawn(pending::<()>());
    let report = server.shutdown().within(secs(1)).await;
    assert!(!report.is_clean());
    assert_eq!(
        error_of(&report),
        "dropped 1 task that still ran on the workers"
    );
}

#[tokio::test]
async fn the_drop_of_workers_drops_their_tasks_without_waiting() {
    let (tell, told) = mpsc::channel();
    let workers = Workers::start(NonZeroUsize::MIN).unwrap();
    let (began, begins) = oneshot::channel();
    let dropped = Dropped(tell);
    workers.handles()[0].spawn(async move {
        let _dropped = dropped;
        began.send(()).unwrap();
        pending::<()>().await;
    });
    begins.await.unwrap();
    drop(workers);
    let name = tokio::task::spawn_blocking(move || told.recv_timeout(secs(30)));
    assert_eq!(name.await.unwrap().unwrap(), "worker-0");
}

#[tokio::test]
async fn the_panic_of_a_task_does_not_end_its_thread() {
    let mut server = server(1);
    let worker: Handle = server.workers.handles()[0].clone();
    let panics = worker.spawn(async { panic!("on a worker") });
    assert!(panics.await.unwrap_err().is_panic());
    assert_eq!(worker.spawn(async { 7 }).await.unwrap(), 7);
    assert!(server.shutdown().await.is_clean());
}

/// Begins a call on the blocking pool of the only worker, and returns once it runs. It ends when the sender is dropped.
async fn blocking_call(workers: &Workers, trace: &Trace) -> mpsc::Sender<()> {
    let (release, held) = mpsc::channel();
    let (begins, began) = oneshot::channel();
    let trace = trace.clone();
    workers.handles()[0].spawn_blocking(move || {
        begins.send(()).unwrap();
        // It is an error, since nothing is sent.
        let _ = held.recv();
        trace.add("the call ends");
    });
    began.await.unwrap();
    release
}

#[tokio::test]
async fn a_call_on_a_blocking_pool_is_waited_for() {
    let (mut server, trace) = (server(1), Trace::default());
    let call = blocking_call(&server.workers, &trace).await;
    let report = {
        let mut shutdown = std::pin::pin!(server.shutdown().into_future());
        tokio::select! {
            biased;
            _ = &mut shutdown => panic!("a call is left"),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
        trace.add("released");
        drop(call);
        shutdown.await
    };
    assert!(report.is_clean(), "{report}");
    assert_eq!(trace.all(), ["released", "the call ends"]);
}

#[tokio::test]
async fn a_call_that_is_left_at_the_deadline_is_told() {
    let (mut server, trace) = (server(1), Trace::default());
    let call = blocking_call(&server.workers, &trace).await;
    server.workers.handles()[0].spawn(pending::<()>());
    let report = server.shutdown().within(secs(1)).await;
    assert!(!report.is_clean());
    assert_eq!(
        error_of(&report),
        "dropped 1 task that still ran on the workers, left behind calls on the blocking pool of a worker"
    );
    assert!(trace.all().is_empty());
    drop(call);
}

#[test]
fn they_end_from_a_runtime_that_is_not_tokios() {
    let mut workers = Workers::start(NonZeroUsize::MIN).unwrap();
    let cx = Context::new(Reason::Requested, secs(5));
    let mut cleanup = tokio_test::task::spawn(workers.cleanup(&cx));
    let ended = loop {
        if let Poll::Ready(ended) = cleanup.poll() {
            break ended;
        }
        thread::sleep(Duration::from_millis(1));
    };
    ended.unwrap();
}
