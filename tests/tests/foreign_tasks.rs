//! The cleanup of tasks awaits them until the soft deadline, then aborts them and awaits their end.

use std::future::pending;
use std::time::Duration;

use lifecycle_runtime::testing::Interrupt;
use lifecycle_runtime::{Component, GracefulShutdown, Outcome, ShutdownState, TimedOut};
use lifecycle_tests::{Owner, Probe, Trace, context};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet, spawn_blocking, yield_now};
use tokio::time::Instant;
use tokio_test::{assert_pending, assert_ready, task::spawn};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// A guard that sends a message when it is dropped. Its task holds it, so the message tells that the task has ended.
struct EndGuard(Option<oneshot::Sender<()>>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            let _ = tell.send(());
        }
    }
}

/// Returns the future of a task that never ends by itself, and a receiver that gets a message when the future is
/// dropped.
fn endless() -> (
    impl Future<Output = ()> + Send + 'static,
    oneshot::Receiver<()>,
) {
    let (tell, ended) = oneshot::channel();
    let guard = EndGuard(Some(tell));
    let task = async move {
        let _guard = guard;
        pending::<()>().await;
    };
    (task, ended)
}

/// Returns a running task that no abort can stop, and a sender. Dropping the sender ends the task.
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

#[tokio::test(start_paused = true)]
async fn a_task_is_waited_for_until_it_ends_by_itself() {
    let mut task = tokio::spawn(tokio::time::sleep(Duration::from_secs(8)));
    let began = Instant::now();
    task.cleanup(&context()).await.unwrap();
    assert!(task.is_finished());
    assert_eq!(began.elapsed(), Duration::from_secs(8));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_does_not_end_is_aborted_and_awaited_at_the_soft_deadline() {
    let (task, mut ended) = endless();
    let mut task = tokio::spawn(task);
    let began = Instant::now();
    let error = task.cleanup(&context()).await.unwrap_err();
    assert_eq!(began.elapsed(), Duration::from_secs(9));
    let named = format!("task {}", task.id());
    assert_eq!(error.downcast_ref(), Some(&TimedOut::new(named)));
    assert!(task.is_finished());
    assert_eq!(ended.try_recv(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_had_to_be_aborted_has_timed_out_in_the_report() {
    let task = tokio::spawn(pending::<()>());
    let id = task.id();
    let report = Owner::new(task).shutdown().await;
    let step = report.step("field").unwrap();
    assert_eq!(
        step.outcome().to_string(),
        format!("timed out: waiting for task {id}")
    );
    assert_eq!(step.elapsed(), Duration::from_secs(9));
}

#[tokio::test(start_paused = true)]
async fn the_error_that_a_task_returns_is_the_steps() {
    let failing = async || Err::<(), _>("the disk is full");
    let report = Owner::new(tokio::spawn(failing())).shutdown().await;
    let outcome = report.step("field").unwrap().outcome().to_string();
    assert_eq!(outcome, "failed: the disk is full");

    let late = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Err::<u64, _>(std::io::Error::other("late"))
    };
    let tasks = vec![tokio::spawn(async { Ok(1) }), tokio::spawn(late)];
    let report = Owner::new(tasks).shutdown().await;
    let outcome = |path| report.step(path).unwrap().outcome().to_string();
    assert_eq!(outcome("field[0]"), "done");
    assert_eq!(outcome("field[1]"), "failed: late");

    let mut set = JoinSet::new();
    let id = set.spawn(failing()).id();
    let report = Owner::new(set).shutdown().await;
    let outcome = report.step("field").unwrap().outcome().to_string();
    assert_eq!(
        outcome,
        format!("failed: task {id} failed: the disk is full")
    );
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_aborts_on_drop_is_aborted_at_once() {
    let (task, mut ended) = endless();
    let mut task = AbortOnDropHandle::new(tokio::spawn(task));
    let began = Instant::now();
    task.cleanup(&context()).await.unwrap();
    task.cleanup(&context()).await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(ended.try_recv(), Ok(()));

    let mut task = AbortOnDropHandle::new(tokio::spawn(async { Err::<(), _>("no") }));
    while !task.is_finished() {
        yield_now().await;
    }
    let error = task.cleanup(&context()).await.unwrap_err();
    assert_eq!(error.to_string(), "no");
}

#[tokio::test]
async fn a_second_cleanup_of_a_task_finds_nothing_to_do() {
    let mut task = tokio::spawn(async {});
    task.cleanup(&context()).await.unwrap();
    task.cleanup(&context()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_resumed_shutdown_knows_a_task_that_had_ended_wherever_its_handle_is() {
    let (end, ended) = oneshot::channel::<()>();
    let slow = tokio::spawn(async move { ended.await.unwrap() });
    let mut owner = Owner::new(vec![
        tokio::spawn(async {}),
        slow,
        tokio::spawn(async { panic!("no") }),
    ]);
    assert!(
        tokio::time::timeout(Duration::from_secs(1), owner.shutdown())
            .await
            .is_err()
    );
    // The first handle is removed and the other handles swap places. The engine must not poll the handle of a task
    // whose end it has seen, since that would panic.
    owner.field.remove(0);
    owner.field.reverse();
    end.send(()).unwrap();
    let report = owner.shutdown().await;
    assert!(owner.field.iter().all(|task| task.is_finished()));
    let field = report.step("field").unwrap();
    let steps = field.steps().iter();
    let steps: Vec<_> = steps
        .map(|step| format!("{} {}", step.name(), step.outcome()))
        .collect();
    assert_eq!(steps.len(), 3, "{report}");
    assert!(steps.contains(&"[0] done".into()), "{report}");
    assert!(steps.contains(&"[1] done".into()), "{report}");
    assert!(
        steps.iter().any(|step| step.starts_with("[2] failed")),
        "{report}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_task_that_was_removed_before_it_had_ended_is_not_done() {
    let mut owner = Owner::new(vec![tokio::spawn(async {}), tokio::spawn(pending::<()>())]);
    assert!(
        tokio::time::timeout(Duration::from_secs(1), owner.shutdown())
            .await
            .is_err()
    );
    owner.field.remove(1).abort();
    let report = owner.shutdown().await;
    assert!(!report.is_clean(), "{report}");
    let gone = report.step("field[1]").unwrap();
    assert!(matches!(gone.outcome(), Outcome::Aborted), "{report}");
    assert_eq!(
        gone.why(),
        Some("it had begun, and was gone when the shutdown was resumed")
    );
}

#[tokio::test]
async fn a_task_whose_output_was_read_needs_no_cleanup() {
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

#[tokio::test(start_paused = true)]
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
async fn an_interrupted_cleanup_of_a_task_can_be_resumed() {
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
    // The paused clock does not advance by itself while the blocking task runs, so the test advances it.
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

#[tokio::test(start_paused = true)]
async fn a_set_of_tasks_is_awaited_and_stragglers_are_aborted_and_named() {
    let mut set = JoinSet::new();
    set.spawn(tokio::time::sleep(Duration::from_secs(3)));
    let (ids, ends): (Vec<_>, Vec<_>) = (0..2)
        .map(|_| {
            let (task, ended) = endless();
            (set.spawn(task).id(), ended)
        })
        .unzip();
    let report = {
        let mut owner = Owner::new(set);
        let report = owner.shutdown().await;
        assert!(owner.field.is_empty());
        report
    };
    let step = report.step("field").unwrap();
    let Outcome::TimedOut {
        waiting_for: Some(what),
    } = step.outcome()
    else {
        panic!("{report}");
    };
    assert!(
        ids.iter().all(|id| what.contains(&format!("task {id}"))),
        "{what}"
    );
    assert_eq!(step.elapsed(), Duration::from_secs(9));
    for mut ended in ends {
        assert_eq!(ended.try_recv(), Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn up_to_eight_failures_of_a_set_are_reported() {
    let mut set = JoinSet::new();
    for _ in 0..10 {
        set.spawn(async { panic!("no more") });
    }
    set.spawn(async {});
    let error = set.cleanup(&context()).await.unwrap_err();
    let text = error.to_string();
    assert_eq!(text.matches("panicked: no more").count(), 8, "{text}");
    assert!(text.ends_with(" and 2 more"), "{text}");
    assert!(set.is_empty());
    set.cleanup(&context()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_failures_of_a_set_outlive_an_interrupted_shutdown() {
    let mut set = JoinSet::new();
    set.spawn(async { panic!("no more") });
    let (end, ended) = oneshot::channel::<()>();
    set.spawn(async move { ended.await.unwrap() });
    let mut owner = Owner::new(set);
    assert!(
        tokio::time::timeout(Duration::from_secs(1), owner.shutdown())
            .await
            .is_err()
    );
    end.send(()).unwrap();
    let report = owner.shutdown().await;
    let outcome = report.step("field").unwrap().outcome().to_string();
    assert!(outcome.ends_with("panicked: no more"), "{report}");
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
async fn an_interrupted_cleanup_of_a_set_can_be_resumed() {
    let (end, held) = std::sync::mpsc::channel::<()>();
    let (tell, runs) = oneshot::channel();
    let mut set = JoinSet::new();
    set.spawn_blocking(move || {
        let _ = tell.send(());
        let _ = held.recv();
    });
    set.spawn(async {});
    runs.await.unwrap();
    assert_pending!(spawn(set.cleanup(&context())).poll());
    assert!(!set.is_empty());
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

#[derive(GracefulShutdown)]
struct Skipping<T: Component> {
    #[shutdown(required)]
    first: Probe,
    #[shutdown]
    task: T,
    #[shutdown(state)]
    state: ShutdownState,
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_step_is_skipped_is_aborted() {
    async fn check<T: Component>(wrap: impl FnOnce(JoinHandle<()>) -> T) {
        let task = tokio::spawn(pending());
        let handle = task.abort_handle();
        let mut server = Skipping {
            first: Probe::new(&Trace::new(), "first").error("no"),
            task: wrap(task),
            state: ShutdownState::new(),
        };
        let report = server.shutdown().await;
        let step = report.step("task").unwrap();
        assert!(matches!(step.outcome(), Outcome::Skipped), "{report}");
        tokio::task::yield_now().await;
        assert!(handle.is_finished());
    }
    check(|task| task).await;
    check(AbortOnDropHandle::new).await;
}

#[tokio::test(start_paused = true)]
async fn a_set_says_how_many_tasks_it_waits_for() {
    let mut tasks = JoinSet::new();
    tasks.spawn(pending::<()>());
    tasks.spawn(pending::<()>());
    let one = tasks.spawn(pending::<()>());
    let mut server = Skipping {
        first: Probe::new(&Trace::new(), "first"),
        task: tasks,
        state: ShutdownState::new(),
    };
    assert_pending!(spawn(server.shutdown()).poll());
    one.abort();
    tokio::task::yield_now().await;
    let interrupt = Interrupt::of(&server.state).unwrap();
    let mut shutdown = spawn(server.shutdown());
    assert_pending!(shutdown.poll());
    interrupt.force();
    let report = assert_ready!(shutdown.poll());
    let why = report.step("task").unwrap().why().unwrap_or_default();
    assert!(why.ends_with("waiting for 2 tasks to end"), "{why}");
}
