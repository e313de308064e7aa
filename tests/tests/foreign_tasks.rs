//! Tasks: aborted, then awaited.

use std::future::pending;
use std::time::Duration;

use lifecycle_runtime::{Component, Context, GracefulShutdown, Outcome, Reason, ShutdownState};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet, spawn_blocking, yield_now};
use tokio_test::{assert_pending, task::spawn};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[derive(GracefulShutdown)]
#[shutdown(timeout = "10s")]
struct Owner<T: Component> {
    #[shutdown]
    field: T,
    #[shutdown(state)]
    state: ShutdownState,
}

impl<T: Component> Owner<T> {
    fn new(field: T) -> Self {
        Self {
            field,
            state: ShutdownState::new(),
        }
    }
}

/// Outside any plan: nine seconds, and one in reserve.
fn context() -> Context {
    Context::new(Reason::Requested, Duration::from_secs(10))
}

/// Tells that it was dropped, as a task does when it ends.
struct Ended(Option<oneshot::Sender<()>>);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            let _ = tell.send(());
        }
    }
}

/// A task that never ends by itself, and what tells that it ended.
fn endless() -> (
    impl Future<Output = ()> + Send + 'static,
    oneshot::Receiver<()>,
) {
    let (tell, ended) = oneshot::channel();
    let guard = Ended(Some(tell));
    let task = async move {
        let _guard = guard;
        pending::<()>().await;
    };
    (task, ended)
}

/// A running task that no abort can stop, and what ends it: dropping the sender.
async fn unstoppable() -> (JoinHandle<()>, std::sync::mpsc::Sender<()>) {
    let (end, held) = std::sync::mpsc::channel::<()>();
    let (tell, runs) = oneshot::channel();
    let task = spawn_blocking(move || {
        let _ = tell.send(());
        let _ = held.recv();
    });
    runs.await.expect("it runs");
    (task, end)
}

async fn let_it_end<T>(task: &JoinHandle<T>) {
    while !task.is_finished() {
        yield_now().await;
    }
}

#[tokio::test]
async fn a_task_has_ended_when_its_cleanup_ends() {
    let (task, mut ended) = endless();
    let mut task = tokio::spawn(task);
    task.cleanup(&context()).await.unwrap();
    assert!(task.is_finished());
    assert_eq!(ended.try_recv(), Ok(()));
}

#[tokio::test]
async fn a_second_cleanup_of_a_task_finds_nothing_to_do() {
    let mut task = tokio::spawn(pending::<()>());
    task.cleanup(&context()).await.unwrap();
    task.cleanup(&context()).await.unwrap();
}

#[tokio::test]
async fn a_task_whose_output_was_read_is_nothing_to_do() {
    let mut task = tokio::spawn(async { 7 });
    assert_eq!((&mut task).await.unwrap(), 7);
    task.cleanup(&context()).await.unwrap();
}

#[tokio::test]
async fn the_panic_of_a_task_is_an_error_with_its_message() {
    let mut task: JoinHandle<()> = tokio::spawn(async { panic!("lost the {}", "cache") });
    let_it_end(&task).await;
    let error = task.cleanup(&context()).await.unwrap_err();
    assert!(
        error.to_string().ends_with("panicked: lost the cache"),
        "{error}"
    );
}

#[tokio::test]
async fn a_task_that_panics_when_it_is_aborted_is_an_error_with_its_message() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let (tell, runs) = oneshot::channel();
    let mut task = tokio::spawn(async move {
        let _bomb = Bomb;
        let _ = tell.send(());
        pending::<()>().await;
    });
    runs.await.unwrap();
    let error = task.cleanup(&context()).await.unwrap_err();
    assert!(error.to_string().ends_with("panicked: dropped"), "{error}");
}

#[tokio::test]
async fn aborting_and_releasing_a_task_abort_it() {
    for force in [Component::abort, Component::release] {
        let (task, ended) = endless();
        let mut task: JoinHandle<()> = tokio::spawn(task);
        force(&mut task);
        ended.await.unwrap();
        assert!(task.await.unwrap_err().is_cancelled());
    }
}

#[tokio::test]
async fn the_cleanup_of_a_task_that_was_dropped_half_way_is_taken_up() {
    let (mut task, end) = unstoppable().await;
    assert_pending!(spawn(task.cleanup(&context())).poll());
    assert_pending!(spawn(task.cleanup(&context())).poll());
    drop(end);
    task.cleanup(&context()).await.unwrap();
    assert!(task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_does_not_end_is_named_in_the_report() {
    let (task, end) = unstoppable().await;
    let id = task.id();
    let mut owner = Owner::new(task);
    // The clock does not advance by itself while a blocking task runs.
    let driver = async {
        yield_now().await;
        tokio::time::advance(Duration::from_secs(10)).await;
        pending().await
    };
    let report = tokio::select! {
        report = owner.shutdown() => report,
        () = driver => unreachable!(),
    };
    let step = report.step("field").unwrap();
    let Outcome::TimedOut {
        waiting_for: Some(what),
    } = step.outcome()
    else {
        panic!("{report}");
    };
    assert_eq!(*what, format!("task {id}, aborted, to end"));
    drop(end);
}

#[tokio::test]
async fn a_set_of_tasks_has_ended_when_its_cleanup_ends() {
    let mut set = JoinSet::new();
    let ends: Vec<_> = (0..3)
        .map(|_| {
            let (task, ended) = endless();
            set.spawn(task);
            ended
        })
        .collect();
    set.cleanup(&context()).await.unwrap();
    assert!(set.is_empty());
    for mut ended in ends {
        assert_eq!(ended.try_recv(), Ok(()));
    }
    set.cleanup(&context()).await.unwrap();
}

#[tokio::test]
async fn the_panics_of_a_set_are_counted_and_the_first_is_told() {
    let mut set = JoinSet::new();
    for _ in 0..3 {
        set.spawn(async { panic!("no more") });
    }
    set.spawn(pending::<()>());
    // All three have panicked before anything is aborted.
    for _ in 0..8 {
        yield_now().await;
    }
    let error = set.cleanup(&context()).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("3 tasks panicked; task ") && text.ends_with("panicked: no more"),
        "{text}"
    );
    assert!(set.is_empty());
}

#[tokio::test]
async fn aborting_and_releasing_a_set_abort_its_tasks() {
    for force in [Component::abort, Component::release] {
        let mut set = JoinSet::new();
        let (task, ended) = endless();
        set.spawn(task);
        force(&mut set);
        ended.await.unwrap();
        assert!(set.join_next().await.unwrap().unwrap_err().is_cancelled());
    }
}

#[tokio::test]
async fn the_cleanup_of_a_set_that_was_dropped_half_way_is_taken_up() {
    let (end, held) = std::sync::mpsc::channel::<()>();
    let (tell, runs) = oneshot::channel();
    let mut set = JoinSet::new();
    set.spawn_blocking(move || {
        let _ = tell.send(());
        let _ = held.recv();
    });
    set.spawn(pending());
    runs.await.unwrap();
    assert_pending!(spawn(set.cleanup(&context())).poll());
    assert_eq!(set.len(), 2);
    drop(end);
    set.cleanup(&context()).await.unwrap();
    assert!(set.is_empty());
}

#[tokio::test]
async fn cleaning_and_aborting_a_token_cancel_it_and_releasing_does_not() {
    let mut token = CancellationToken::new();
    token.release();
    assert!(!token.is_cancelled());
    let theirs = token.clone();
    token.cleanup(&context()).await.unwrap();
    assert!(theirs.is_cancelled());
    token.cleanup(&context()).await.unwrap();

    let mut other = CancellationToken::new();
    other.abort();
    assert!(other.is_cancelled());
}

#[tokio::test]
async fn a_tracker_is_closed_and_its_tasks_awaited() {
    let mut tracker = TaskTracker::new();
    let (end, ended) = oneshot::channel::<()>();
    tracker.spawn(ended);
    assert_pending!(spawn(tracker.cleanup(&context())).poll());
    assert!(tracker.is_closed());
    assert_pending!(spawn(tracker.cleanup(&context())).poll());
    end.send(()).unwrap();
    tracker.cleanup(&context()).await.unwrap();
    assert!(tracker.is_empty());
    tracker.cleanup(&context()).await.unwrap();
}

#[tokio::test]
async fn aborting_and_releasing_a_tracker_leave_its_tasks_alone() {
    let mut tracker = TaskTracker::new();
    let (end, ended) = oneshot::channel::<()>();
    let task = tracker.spawn(ended);
    tracker.abort();
    tracker.release();
    end.send(()).unwrap();
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_tracker_says_how_many_tasks_it_waits_for() {
    let tracker = TaskTracker::new();
    tracker.spawn(pending::<()>());
    tracker.spawn(pending::<()>());
    let report = Owner::new(tracker).shutdown().await;
    let outcome = report.step("field").unwrap().outcome();
    assert!(
        matches!(outcome, Outcome::TimedOut { waiting_for: Some(what) } if what == "2 tracked tasks to end"),
        "{report}"
    );
}
