//! The shutdown of a task group fires `stop` for all its tasks and awaits them. It aborts and awaits the tasks that do
//! not end in time, and the report names them.

use std::future::{pending, ready};
use std::sync::mpsc;

use lifecycle_runtime::{
    BoxError, Closed, Component, Context, GracefulShutdown, Outcome, Reason, Report,
    ShutdownHandle, ShutdownState, Spawner, TaskGroup,
};
use lifecycle_tests::{Logs, Trace, context, ms, secs};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{advance, sleep};
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready};
use tracing::Level;

#[derive(GracefulShutdown)]
#[shutdown(timeout = "10s")]
struct Server {
    #[shutdown]
    tasks: TaskGroup,
    #[shutdown(state)]
    state: ShutdownState,
}

impl Server {
    fn new() -> Self {
        Self::of(TaskGroup::new())
    }

    fn of(tasks: TaskGroup) -> Self {
        Self {
            tasks,
            state: ShutdownState::new(),
        }
    }
}

/// A guard that records `x is gone` when its task is dropped.
struct EndGuard(Trace, &'static str);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.add(format!("{} is gone", self.1));
    }
}

fn error_of(report: &Report) -> String {
    match report.step("tasks").unwrap().outcome() {
        Outcome::Failed(error) => error.to_string(),
        outcome => panic!("{outcome:?}"),
    }
}

fn both_flavours() -> [Runtime; 2] {
    [Builder::new_current_thread(), Builder::new_multi_thread()]
        .map(|mut builder| builder.enable_all().build().expect("a runtime"))
}

#[tokio::test(start_paused = true)]
async fn all_tasks_get_stop_together_and_are_awaited() {
    let trace = Trace::new();
    let mut server = Server::new();
    for name in ["fast", "slow"] {
        let inside = EndGuard(trace.clone(), name);
        let takes = if name == "slow" { secs(3) } else { secs(1) };
        let spawned = server.tasks.spawn_with(name, |stop| async move {
            stop.cancelled().await;
            inside.0.add(format!("{} is told", inside.1));
            sleep(takes).await;
        });
        spawned.unwrap();
    }
    yield_now().await;
    assert_eq!(server.tasks.len(), 2);
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.elapsed(), secs(3), "no longer than the slowest");
    assert_eq!(
        trace.all(),
        [
            "fast is told",
            "slow is told",
            "fast is gone",
            "slow is gone"
        ]
    );
    assert!(server.tasks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn stragglers_are_aborted_at_the_soft_deadline_awaited_and_named() {
    let trace = Trace::new();
    let mut server = Server::new();
    let inside = EndGuard(trace.clone(), "stuck");
    let spawned = server.tasks.spawn("stuck", async move {
        let _inside = inside;
        pending::<()>().await;
    });
    spawned.unwrap();
    advance(secs(2)).await;
    server
        .tasks
        .spawn_with("polite", async |stop| stop.cancelled().await)
        .unwrap();
    let report = server.shutdown().await;
    assert_eq!(
        error_of(&report),
        "aborted at the deadline: 1 task: stuck for 11.0 s"
    );
    assert_eq!(report.elapsed(), secs(9), "a tenth is the reserve");
    assert_eq!(trace.all(), ["stuck is gone"]);
    assert!(server.tasks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_straggler_that_takes_long_to_end_is_awaited() {
    let mut server = Server::new();
    let (end, ended) = mpsc::channel::<()>();
    // The abort of a blocking task that runs has no effect, so this task ends only when the test lets it.
    let blocks = server.tasks.spawn_blocking("index", move |_| {
        let _ = ended.recv();
    });
    blocks.unwrap();
    let mut shutdown = spawn(server.shutdown());
    assert_pending!(shutdown.poll());
    advance(ms(9_500)).await;
    assert_pending!(shutdown.poll(), "past the soft deadline");
    drop(end);
    // The blocking task ends in real time and not on the paused clock, so the test polls until the shutdown is ready.
    let report = loop {
        match shutdown.poll() {
            std::task::Poll::Ready(report) => break report,
            std::task::Poll::Pending => std::thread::yield_now(),
        }
    };
    assert_eq!(
        error_of(&report),
        "aborted at the deadline: 1 task: index for 9.5 s"
    );
}

#[tokio::test(start_paused = true)]
async fn blocking_tasks_are_counted_and_named_and_the_step_is_cut() {
    let mut server = Server::new();
    let (end, ended) = mpsc::channel::<()>();
    let (tell, runs) = oneshot::channel();
    let blocks = server.tasks.spawn_blocking("index", move |_| {
        let _ = tell.send(());
        let _ = ended.recv();
    });
    blocks.unwrap();
    runs.await.unwrap();
    assert_eq!(server.tasks.len(), 1);
    let mut shutdown = spawn(server.shutdown());
    assert_pending!(shutdown.poll());
    advance(secs(9)).await;
    assert_pending!(shutdown.poll());
    advance(secs(1)).await;
    let report = assert_ready!(shutdown.poll());
    let outcome = report.step("tasks").unwrap().outcome();
    let Outcome::TimedOut {
        waiting_for: Some(text),
    } = outcome
    else {
        panic!("{outcome:?}")
    };
    assert_eq!(text, "1 task: index for 10.0 s");
    drop(end);
}

#[test]
fn a_blocking_task_that_checks_its_stop_ends_with_the_shutdown() {
    for runtime in both_flavours() {
        runtime.block_on(async {
            let mut server = Server::new();
            let (tell, runs) = oneshot::channel();
            let asks = server.tasks.spawn_blocking("index", move |stop| {
                let _ = tell.send(stop.is_cancelled());
                while !stop.is_cancelled() {
                    std::thread::yield_now();
                }
            });
            asks.unwrap();
            assert!(!runs.await.unwrap(), "not before the shutdown");
            let report = server.shutdown().await;
            assert!(report.is_clean(), "{report}");
        });
    }
}

#[test]
fn dropping_a_group_aborts_its_tasks_and_detaches_none() {
    for runtime in both_flavours() {
        runtime.block_on(async {
            let (tell, mut gone) = oneshot::channel::<()>();
            let tasks = TaskGroup::new();
            let spawner = tasks.spawner();
            let spawned = tasks.spawn("endless", async move {
                let _tell = tell;
                pending::<()>().await;
            });
            spawned.unwrap();
            yield_now().await;
            drop(tasks);
            assert!((&mut gone).await.is_err(), "its future was dropped");
            while Handle::current().metrics().num_alive_tasks() > 0 {
                yield_now().await;
            }
            assert_eq!(spawner.spawn("late", ready(())), Err(Closed));
        });
    }
}

#[tokio::test]
async fn a_task_that_was_never_polled_is_aborted() {
    let (tell, gone) = oneshot::channel::<()>();
    let tasks = TaskGroup::new();
    let spawned = tasks.spawn("new", async move {
        let _tell = tell;
        unreachable!("it is aborted before it runs");
    });
    spawned.unwrap();
    drop(tasks);
    assert!(gone.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn panics_and_errors_are_kept_with_their_message_and_the_tasks_name() {
    let mut server = Server::new();
    server
        .tasks
        .spawn("poller", async { panic!("no {}", "feed") })
        .unwrap();
    server
        .tasks
        .spawn("feed", ready(Err::<(), _>("the socket is closed")))
        .unwrap();
    server
        .tasks
        .spawn_blocking("index", |_| Err::<(), BoxError>("the disk is full".into()))
        .unwrap();
    server
        .tasks
        .spawn("fine", ready(Ok::<_, BoxError>(())))
        .unwrap();
    while !server.tasks.is_empty() {
        yield_now().await;
    }
    let report = server.shutdown().await;
    let text = error_of(&report);
    for part in [
        "poller: panicked: no feed",
        "feed: the socket is closed",
        "index: the disk is full",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("fine"), "{text}");
}

#[tokio::test]
async fn a_failure_is_logged_when_it_happens() {
    let (logs, guard) = Logs::capture();
    let tasks = TaskGroup::new();
    let fails = ready(Err::<(), _>("the socket is closed"));
    tasks.spawn("feed", fails).unwrap();
    tasks
        .spawn("poller", async { panic!("no {}", "feed") })
        .unwrap();
    while !tasks.is_empty() {
        yield_now().await;
    }
    let failed = logs.named("task_failed");
    let told: Vec<_> = failed
        .iter()
        .map(|event| (event.level, event.field("task"), event.field("error")))
        .collect();
    assert_eq!(
        told,
        [
            (Level::ERROR, "feed", "the socket is closed"),
            (Level::ERROR, "poller", "panicked: no feed")
        ]
    );
    drop(guard);
}

#[tokio::test]
async fn the_first_of_many_failures_are_kept_and_the_others_counted() {
    let mut tasks = TaskGroup::new();
    for _ in 0..40 {
        tasks
            .spawn("poller", ready(Err::<(), _>("no feed")))
            .unwrap();
    }
    let text = tasks.cleanup(&context()).await.unwrap_err().to_string();
    assert_eq!(text.matches("poller: no feed").count(), 32);
    assert!(text.ends_with("; and 8 more failed"), "{text}");
}

#[tokio::test]
async fn an_error_of_a_task_that_panics_when_it_is_shown_is_contained() {
    #[derive(Debug)]
    struct Unshowable;
    impl std::fmt::Display for Unshowable {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("it cannot be shown")
        }
    }
    impl std::error::Error for Unshowable {}
    let mut tasks = TaskGroup::new();
    tasks
        .spawn("poller", ready(Err::<(), _>(Unshowable)))
        .unwrap();
    let text = tasks.cleanup(&context()).await.unwrap_err().to_string();
    assert!(text.starts_with("poller: "), "{text}");
}

#[tokio::test(start_paused = true)]
async fn an_early_error_of_a_critical_task_begins_the_servers_shutdown() {
    let handle = ShutdownHandle::new();
    let mut server = Server::of(TaskGroup::critical(&handle));
    server.tasks.spawn("fine", ready(())).unwrap();
    yield_now().await;
    assert!(!handle.is_requested(), "an end is no failure");
    server
        .tasks
        .spawn("feed", ready(Err::<(), _>("the socket is closed")))
        .unwrap();
    let reason = handle.requested().await;
    assert_eq!(reason.to_string(), "feed failed: the socket is closed");
    let report = server.shutdown().reason(reason).await;
    assert_eq!(report.exit_code(), 1);
    assert_eq!(error_of(&report), "feed: the socket is closed");
}

#[tokio::test]
async fn a_panic_of_a_critical_task_begins_the_servers_shutdown() {
    let handle = ShutdownHandle::new();
    let tasks = TaskGroup::critical(&handle);
    tasks.spawn("feed", async { panic!("no feed") }).unwrap();
    assert_eq!(
        handle.requested().await.to_string(),
        "feed failed: panicked: no feed"
    );
}

#[tokio::test]
async fn a_closed_group_refuses_a_task_and_does_not_start_it() {
    let tasks = TaskGroup::new();
    tasks.close();
    let (tell, gone) = oneshot::channel::<()>();
    let late = tasks.spawn("late", async move {
        let _tell = tell;
        unreachable!("it is refused");
    });
    assert_eq!(late, Err(Closed));
    assert!(gone.await.is_err(), "the future is dropped");
    let late = tasks.spawn_with("late", |_| -> std::future::Ready<()> {
        unreachable!("it is refused")
    });
    assert_eq!(late, Err(Closed));
    assert_eq!(
        tasks.spawn_blocking("late", |_| unreachable!("it is refused")),
        Err::<(), _>(Closed)
    );
    tasks.drained().await;
}

/// A value that spawns tasks when it is dropped.
struct Respawns(Spawner, mpsc::Sender<Result<(), Closed>>);

impl Drop for Respawns {
    fn drop(&mut self) {
        let _ = self.1.send(self.0.spawn("again", pending::<()>()));
        let _ = self.1.send(self.0.spawn_blocking("again", |_| ()));
    }
}

#[test]
fn spawning_on_a_runtime_that_ends_neither_deadlocks_nor_leaks() {
    for runtime in both_flavours() {
        let tasks = TaskGroup::new();
        let (send, sent) = mpsc::channel();
        let respawns = Respawns(tasks.spawner(), send);
        runtime.block_on(async {
            let spawned = tasks.spawn("first", async move {
                let _respawns = respawns;
                pending::<()>().await;
            });
            spawned.unwrap();
            yield_now().await;
        });
        drop(runtime);
        assert_eq!(sent.iter().count(), 2, "it did spawn");
        assert_eq!(tasks.len(), 0, "the spawned tasks are gone");
        tasks.close();
        assert_ready!(spawn(tasks.drained()).poll());
    }
}

#[test]
fn aborting_on_a_runtime_that_has_ended_does_not_deadlock() {
    for runtime in both_flavours() {
        let tasks = TaskGroup::new();
        runtime.block_on(async { tasks.spawn("first", pending::<()>()).unwrap() });
        runtime.shutdown_background();
        drop(tasks);
    }
}

#[test]
fn outside_a_runtime_spawning_panics_and_leaves_nothing_behind() {
    let tasks = TaskGroup::new();
    let spawn_it = std::panic::AssertUnwindSafe(|| tasks.spawn("first", ready(())));
    assert!(std::panic::catch_unwind(spawn_it).is_err());
    assert!(tasks.is_empty());
}

#[test]
fn a_group_needs_no_timer_to_end() {
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut tasks = TaskGroup::new();
        tasks
            .spawn_with("polite", async |stop| stop.cancelled().await)
            .unwrap();
        tasks.cleanup(&context()).await.unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn a_resumed_cleanup_still_names_the_stragglers() {
    let tasks = TaskGroup::new();
    let (end, ended) = mpsc::channel::<()>();
    let (tell, runs) = oneshot::channel();
    let blocks = tasks.spawn_blocking("index", move |_| {
        let _ = tell.send(());
        let _ = ended.recv();
    });
    blocks.unwrap();
    runs.await.unwrap();
    let cx = context();
    let mut first = &tasks;
    let mut first = spawn(first.cleanup(&cx));
    assert_pending!(first.poll());
    advance(secs(9)).await;
    assert_pending!(first.poll());
    drop(first);
    drop(end);
    let error = (&tasks).cleanup(&cx).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "aborted at the deadline: 1 task: index for 9.0 s"
    );
}

#[test]
fn many_tasks_that_come_and_go_are_all_awaited_on_both_flavours() {
    for runtime in both_flavours() {
        runtime.block_on(async {
            let mut tasks = TaskGroup::new();
            for round in 0..20 {
                for i in 0..200 {
                    let spawned = tasks.spawn_with("worker", |stop| async move {
                        if i % 2 == 0 || round % 3 == 0 {
                            stop.cancelled().await;
                        }
                    });
                    spawned.unwrap();
                }
                yield_now().await;
            }
            tasks.cleanup(&context()).await.unwrap();
            assert!(tasks.is_empty());
        });
    }
}

#[tokio::test]
async fn run_until_cancelled_returns_the_output_or_drops_the_future() {
    let tasks = TaskGroup::new();
    let (send, sent) = mpsc::channel();
    let spawned = tasks.spawn_with("worker", |stop| async move {
        let output = stop.run_until_cancelled(ready(7)).await;
        let cut = stop.run_until_cancelled(pending::<()>()).await;
        let _ = send.send((output, cut, stop.is_cancelled()));
    });
    spawned.unwrap();
    yield_now().await;
    tasks.close();
    tasks.drained().await;
    assert_eq!(sent.recv(), Ok((Some(7), None, true)));
}

#[tokio::test(start_paused = true)]
async fn a_task_spawned_until_stop_is_dropped_when_the_shutdown_begins_and_its_error_is_kept() {
    let mut server = Server::new();
    let trace = Trace::new();
    let inside = EndGuard(trace.clone(), "watch");
    let watch = async move {
        let _inside = inside;
        pending::<()>().await;
    };
    server.tasks.spawn_until_stop("watch", watch).unwrap();
    let fails = ready(Err::<(), _>("no such file"));
    server.tasks.spawn_until_stop("reader", fails).unwrap();
    yield_now().await;
    assert_eq!(trace.all(), [""; 0]);
    let report = server.shutdown().await;
    assert_eq!(error_of(&report), "reader: no such file");
    assert_eq!(report.elapsed(), secs(0));
    assert_eq!(trace.all(), ["watch is gone"]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_drop_of_a_task_is_kept_and_the_others_are_awaited() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the drop of a task");
        }
    }
    let mut server = Server::new();
    server
        .tasks
        .spawn("bomb", async {
            let _bomb = Bomb;
            pending::<()>().await;
        })
        .unwrap();
    server.tasks.spawn("other", pending::<()>()).unwrap();
    let report = server.shutdown().await;
    let error = error_of(&report);
    assert!(
        error.contains("bomb: panicked: the drop of a task"),
        "{error}"
    );
    assert!(error.contains("2 tasks"), "{error}");
    assert!(server.tasks.is_empty());
}

#[tokio::test]
async fn each_of_very_many_tasks_is_known_until_it_has_ended() {
    let group = TaskGroup::new();
    let (end, ends) = oneshot::channel::<()>();
    group.spawn("first", async { drop(ends.await) }).unwrap();
    for _ in 0..9_000 {
        group
            .spawn("endless", std::future::pending::<()>())
            .unwrap();
    }
    drop(end);
    while group.len() > 9_000 {
        tokio::task::yield_now().await;
    }
    let mut group = group;
    group.abort();
    let cx = Context::new(Reason::Requested, secs(60));
    assert!(group.cleanup(&cx).await.is_ok());
    assert_eq!(group.len(), 0);
}
