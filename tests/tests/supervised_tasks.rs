//! A supervised task that fails is restarted with backoff. If it fails more often than its limit allows, the shutdown
//! begins.

use std::collections::BTreeSet;
use std::future::{pending, ready};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lifecycle_runtime::{
    BoxError, Closed, Component, GracefulShutdown, Outcome, Reason, Report, Restart, Runner,
    ShutdownHandle, ShutdownState, Stop, Supervised, TaskGroup, TaskState,
};
use lifecycle_tests::{Logs, context, ms, secs};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use tracing::Level;

#[derive(GracefulShutdown)]
#[shutdown(timeout = "10s")]
struct Server {
    #[shutdown]
    tasks: TaskGroup,
    #[shutdown(state)]
    state: ShutdownState,
}

fn server(tasks: TaskGroup) -> Server {
    Server {
        tasks,
        state: ShutdownState::new(),
    }
}

fn error_of(report: &Report) -> String {
    match report.step("tasks").unwrap().outcome() {
        Outcome::Failed(error) => error.to_string(),
        outcome => panic!("{outcome:?}"),
    }
}

/// Returns a policy that restarts a task after about a second, without limit.
fn every_second() -> Restart {
    Restart::on_failure()
        .backoff(secs(1), secs(1))
        .at_most(u32::MAX, secs(60))
}

/// The times at which the runs of a task began.
#[derive(Clone, Default)]
struct Runs(Arc<Mutex<Vec<Instant>>>);

impl Runs {
    fn begin(&self) -> usize {
        let mut runs = self.0.lock().unwrap();
        runs.push(Instant::now());
        runs.len()
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Returns the time from each run to the next.
    fn gaps(&self) -> Vec<Duration> {
        let runs = self.0.lock().unwrap();
        runs.windows(2).map(|two| two[1] - two[0]).collect()
    }
}

/// Waits until the task has the given state.
async fn reaches(task: &mut Supervised, state: TaskState) {
    while task.state() != state {
        assert!(task.changed().await, "{task:?} does not become {state}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_fails_or_panics_is_restarted_and_counted_and_the_report_is_clean() {
    let mut server = server(TaskGroup::new());
    let runs = Runs::default();
    let began = runs.clone();
    let task =
        server.tasks.supervise(
            "feed",
            Restart::on_failure(),
            async move |stop| match began.begin() {
                1 => Err("the socket is closed"),
                2 => panic!("no {}", "feed"),
                _ => {
                    stop.cancelled().await;
                    Ok(())
                }
            },
        );
    let task = task.unwrap();
    assert_eq!((task.name(), task.restarts()), ("feed", 0));
    assert_eq!(task.last_failure(), None);
    sleep(secs(5)).await;
    assert_eq!(runs.count(), 3);
    assert_eq!((task.restarts(), task.state()), (2, TaskState::Running));
    assert_eq!(task.last_failure().as_deref(), Some("panicked: no feed"));
    assert_eq!(server.tasks.len(), 1, "it is one task");
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.elapsed(), secs(0));
    assert_eq!(task.state(), TaskState::Ended);
    assert_eq!(runs.count(), 3, "nothing is restarted by a shutdown");
}

#[tokio::test(start_paused = true)]
async fn the_state_of_a_task_is_running_then_waiting_and_at_last_given_up_or_ended() {
    let tasks = TaskGroup::new();
    let restart = Restart::on_failure().at_most(1, secs(60));
    let fails = async |_| {
        sleep(secs(1)).await;
        Err::<(), _>("no feed")
    };
    let mut task = tasks.supervise("feed", restart, fails).unwrap();
    let mut states = vec![task.state()];
    while task.changed().await {
        states.push(task.state());
    }
    let [running, waiting] = [TaskState::Running, TaskState::Waiting];
    assert_eq!(states, [running, waiting, running, TaskState::GivenUp]);
    assert!(!task.changed().await, "no change follows");

    let ends = async |_| sleep(secs(1)).await;
    let mut task = tasks.supervise("feed", restart, ends).unwrap();
    assert!(task.changed().await);
    assert_eq!(task.state(), TaskState::Ended);
    let texts = [running, waiting, TaskState::GivenUp, TaskState::Ended].map(|it| it.to_string());
    assert_eq!(
        texts,
        ["running", "waiting to be restarted", "given up", "ended"]
    );
}

#[tokio::test(start_paused = true)]
async fn the_backoff_doubles_up_to_its_maximum_with_jitter_down_to_half() {
    let tasks = TaskGroup::new();
    let runs = Runs::default();
    let began = runs.clone();
    let restart = Restart::on_failure()
        .backoff(secs(1), secs(10))
        .at_most(u32::MAX, secs(60));
    let fails = async move |_| {
        began.begin();
        Err::<(), _>("no feed")
    };
    tasks.supervise("feed", restart, fails).unwrap();
    sleep(secs(300)).await;
    let gaps = runs.gaps();
    for (gap, whole) in gaps.iter().zip([1, 2, 4, 8]) {
        // A gap may be a millisecond longer, since the timer rounds up to the next millisecond.
        let range = secs(whole) / 2..=secs(whole) + ms(1);
        assert!(range.contains(gap), "{whole} s: {gaps:?}");
    }
    for gap in &gaps[4..] {
        let range = secs(5)..=secs(10) + ms(1);
        assert!(range.contains(gap), "{gaps:?}");
    }
    let different: BTreeSet<_> = gaps[4..].iter().collect();
    assert!(different.len() > 10, "they are random: {gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn a_long_run_resets_the_backoff() {
    let tasks = TaskGroup::new();
    let runs = Runs::default();
    let began = runs.clone();
    let restart = Restart::on_failure()
        .backoff(secs(1), secs(10))
        .at_most(u32::MAX, secs(60));
    let fails = async move |_| {
        if began.begin() == 5 {
            sleep(secs(10)).await;
        }
        Err::<(), _>("no feed")
    };
    tasks.supervise("feed", restart, fails).unwrap();
    sleep(secs(60)).await;
    let gaps = runs.gaps();
    assert!(gaps[3] > secs(3), "{gaps:?}");
    assert!(gaps[4] <= secs(11) + ms(1), "{gaps:?}");
    assert!(gaps[5] <= secs(2) + ms(1), "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn past_its_limit_a_task_begins_the_servers_shutdown_as_its_reason() {
    let handle = ShutdownHandle::new();
    let server = server(TaskGroup::critical(&handle));
    let runs = Runs::default();
    let began = runs.clone();
    let mut supervised = None;
    let report = Runner::new(server)
        .handle(&handle)
        .run(async |server: &mut Server, stop: Stop| {
            let restart = Restart::on_failure()
                .backoff(ms(100), secs(30))
                .at_most(5, secs(60));
            let fails = async move |_| {
                began.begin();
                Err::<(), _>("the socket is closed")
            };
            supervised = Some(server.tasks.supervise("feed", restart, fails)?);
            stop.cancelled().await;
            Ok::<_, BoxError>(())
        })
        .await;
    assert_eq!(runs.count(), 6, "the first run and 5 restarts");
    assert_eq!(
        report.reason().to_string(),
        "feed failed: given up after 5 restarts within 60s: the socket is closed"
    );
    assert!(matches!(report.reason(), Reason::TaskFailed(..)));
    assert_eq!(report.exit_code(), 1);
    let given_up = "feed: given up after 5 restarts within 60s: the socket is closed";
    assert_eq!(error_of(&report), given_up);
    let task = supervised.unwrap();
    assert_eq!((task.state(), task.restarts()), (TaskState::GivenUp, 5));
    assert_eq!(task.last_failure().as_deref(), Some("the socket is closed"));
}

#[tokio::test(start_paused = true)]
async fn failures_far_apart_never_reach_the_limit() {
    let handle = ShutdownHandle::new();
    let tasks = TaskGroup::critical(&handle);
    let restart = Restart::on_failure().at_most(2, secs(60));
    let fails = async |_| {
        sleep(secs(31)).await;
        Err::<(), _>("no feed")
    };
    let task = tasks.supervise("feed", restart, fails).unwrap();
    sleep(secs(3600)).await;
    assert!(task.restarts() > 100, "{task:?}");
    assert!(!handle.is_requested());

    let often = restart.at_most(2, secs(70));
    let mut task = tasks.supervise("feed", often, fails).unwrap();
    reaches(&mut task, TaskState::GivenUp).await;
    assert!(handle.is_requested());
}

#[tokio::test(start_paused = true)]
async fn a_given_up_task_of_a_group_that_is_not_critical_is_a_failure_in_the_report() {
    let mut server = server(TaskGroup::new());
    let restart = Restart::on_failure().at_most(0, secs(60));
    let fails = async |_| Err::<(), _>("no feed");
    let mut task = server.tasks.supervise("feed", restart, fails).unwrap();
    reaches(&mut task, TaskState::GivenUp).await;
    server.tasks.spawn("other", ready(())).unwrap();
    let report = server.shutdown().await;
    assert_eq!(
        error_of(&report),
        "feed: given up without a restart: no feed"
    );
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ends_is_restarted_only_under_restart_always() {
    let handle = ShutdownHandle::new();
    let tasks = TaskGroup::critical(&handle);
    let runs = [Runs::default(), Runs::default()];
    let policies = [Restart::on_failure(), Restart::always()];
    for (runs, policy) in runs.clone().into_iter().zip(policies) {
        let restart = policy.at_most(1, secs(60));
        let ends = async move |_| {
            runs.begin();
        };
        tasks.supervise("feed", restart, ends).unwrap();
    }
    let reason = handle.requested().await;
    assert_eq!(runs.map(|runs| runs.count()), [1, 2]);
    assert_eq!(
        reason.to_string(),
        "feed failed: given up after 1 restart within 60s: \
         it ended, though it should run until the shutdown"
    );
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_the_wait_for_a_restart_at_once_and_is_clean() {
    let mut server = server(TaskGroup::new());
    let restart = Restart::on_failure().backoff(secs(3600), secs(3600));
    let fails = async |_| Err::<(), _>("no feed");
    let mut task = server.tasks.supervise("feed", restart, fails).unwrap();
    reaches(&mut task, TaskState::Waiting).await;
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.elapsed(), secs(0));
    assert_eq!((task.state(), task.restarts()), (TaskState::Ended, 0));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_fails_during_the_shutdown_is_not_restarted_and_is_in_the_report() {
    let mut server = server(TaskGroup::new());
    let runs = Runs::default();
    let began = runs.clone();
    let fails = async move |stop: lifecycle_runtime::TaskStop| {
        began.begin();
        stop.cancelled().await;
        Err::<(), _>("the last batch is lost")
    };
    let task = server.tasks.supervise("feed", every_second(), fails);
    yield_now().await;
    let report = server.shutdown().await;
    assert_eq!(error_of(&report), "feed: the last batch is lost");
    assert_eq!(runs.count(), 1);
    assert_eq!(task.unwrap().state(), TaskState::Ended);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_does_not_stop_is_aborted_at_the_soft_deadline_and_named() {
    let mut server = server(TaskGroup::new());
    let (tell, gone) = oneshot::channel::<()>();
    let tell = Arc::new(tell);
    let stuck = async move |_| {
        let _tell = tell;
        pending::<()>().await;
    };
    let task = server.tasks.supervise("feed", every_second(), stuck);
    yield_now().await;
    let report = server.shutdown().await;
    assert_eq!(
        error_of(&report),
        "aborted at the deadline: 1 task: feed for 9.0 s"
    );
    assert!(gone.await.is_err(), "its future is dropped");
    assert_eq!(task.unwrap().state(), TaskState::Ended);
}

#[tokio::test(start_paused = true)]
async fn each_run_begins_with_what_the_closure_captured() {
    let tasks = TaskGroup::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&seen);
    let mut queue = vec![1];
    let fails = async move |_| {
        queue.push(2);
        all.lock().unwrap().push(queue.clone());
        Err::<(), _>("no feed")
    };
    tasks.supervise("async", every_second(), fails).unwrap();
    // `supervise` also takes a closure that returns a future.
    let name = String::from("a name");
    let all = Arc::clone(&seen);
    let fails = move |_| async move {
        all.lock().unwrap().push(vec![name.len()]);
        Err::<(), _>("no feed")
    };
    tasks.supervise("plain", every_second(), fails).unwrap();
    sleep(ms(1_500)).await;
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    seen.dedup();
    assert_eq!(seen, [vec![1, 2], vec![6]]);
}

#[tokio::test(start_paused = true)]
async fn failures_are_logged_when_they_happen() {
    let (logs, guard) = Logs::capture();
    let tasks = TaskGroup::new();
    let restart = Restart::on_failure()
        .backoff(secs(10), secs(10))
        .at_most(2, secs(60));
    let fails = async |_| Err::<(), _>("no feed");
    let mut task = tasks.supervise("feed", restart, fails).unwrap();
    reaches(&mut task, TaskState::Waiting).await;
    let first = logs.only("task_restart");
    assert_eq!(first.level, Level::WARN);
    assert_eq!(
        (first.field("task"), first.field("error")),
        ("feed", "no feed")
    );
    assert_eq!(first.number("restarts"), 0);
    let wait = first.number("wait_ms");
    assert!((5_000..=10_000).contains(&wait), "{first:?}");
    assert!(logs.named("task_failed").is_empty());

    reaches(&mut task, TaskState::GivenUp).await;
    tasks.close();
    tasks.drained().await;
    let again = logs.named("task_restart");
    let counts: Vec<_> = again.iter().map(|event| event.number("restarts")).collect();
    assert_eq!(counts, [0, 1]);
    let last = logs.only("task_failed");
    assert_eq!(last.level, Level::ERROR);
    assert!(last.field("error").contains("given up"), "{last:?}");
    drop(guard);
}

/// A value that panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the drop of a run");
    }
}

/// A value that panics when it is cloned for the second time.
struct OnceCloned(Arc<AtomicU32>);

impl Clone for OnceCloned {
    fn clone(&self) -> Self {
        assert_eq!(self.0.fetch_add(1, Ordering::Relaxed), 0, "cloned again");
        Self(Arc::clone(&self.0))
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_tasks_closure_future_or_drop_is_a_failure_of_its_run() {
    let tasks = TaskGroup::new();
    let restart = Restart::on_failure().at_most(1, secs(60));
    let last_failure = async |mut task: Supervised| {
        reaches(&mut task, TaskState::GivenUp).await;
        task.last_failure().unwrap().to_string()
    };

    let task = tasks.supervise("drop", restart, |_| {
        let bomb = Bomb;
        std::future::poll_fn(move |_| {
            let _held = &bomb;
            std::task::Poll::Ready(())
        })
    });
    let error = last_failure(task.unwrap()).await;
    assert_eq!(error, "panicked: the drop of a run");

    let task = tasks.supervise("call", restart, |_| -> std::future::Ready<()> {
        panic!("the call of a task")
    });
    let error = last_failure(task.unwrap()).await;
    assert_eq!(error, "panicked: the call of a task");

    let captured = OnceCloned(Arc::default());
    let task = tasks.supervise("clone", restart, async move |_| {
        let _captured = captured;
        Err::<(), _>("no feed")
    });
    let error = last_failure(task.unwrap()).await;
    assert!(error.contains("cloned again"), "{error}");
}

#[tokio::test]
async fn a_closed_group_refuses_to_supervise() {
    let mut tasks = TaskGroup::new();
    tasks.close();
    let late = async |_| unreachable!("it is refused");
    let refused = tasks.supervise::<_>("late", every_second(), late);
    assert_eq!(refused.err(), Some(Closed));
    tasks.cleanup(&context()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropping_the_group_ends_a_supervised_task_also_while_it_waits() {
    let tasks = TaskGroup::new();
    let fails = async |_| Err::<(), _>("no feed");
    let mut task = tasks.supervise("feed", every_second(), fails).unwrap();
    reaches(&mut task, TaskState::Waiting).await;
    drop(tasks);
    while task.changed().await {}
    assert_eq!(task.state(), TaskState::Ended);
}

#[test]
fn a_task_that_never_waits_for_a_restart_needs_no_timer() {
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut tasks = TaskGroup::new();
        let polite = async |stop: lifecycle_runtime::TaskStop| stop.cancelled().await;
        tasks.supervise("polite", every_second(), polite).unwrap();
        tasks.cleanup(&context()).await.unwrap();
    });
}
