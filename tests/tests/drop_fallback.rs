//! The drop of an owner that was not shut down logs once, and releases the fields that it alone owns.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use lifecycle_runtime::{
    BoxError, Component, Context, GracefulShutdown, Reason, Runner, ShutdownHandle, ShutdownState,
    Stop,
};
use lifecycle_tests::{Event, Logs, Probe, Trace, listen_everywhere};
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;
use tokio_test::assert_pending;
use tokio_test::task::spawn;
use tracing::Level;

#[derive(GracefulShutdown)]
#[shutdown(timeout = "5s")]
struct Server {
    #[shutdown(priority = 1)]
    last: Probe,
    #[shutdown(priority = 0)]
    first: Probe,
    #[shutdown(state)]
    state: ShutdownState,
}

fn server(trace: &Trace) -> Server {
    let probe = |name| Probe::new(trace, name);
    Server {
        last: probe("last"),
        first: probe("first"),
        state: ShutdownState::new(),
    }
}

const RELEASED: [&str; 2] = ["first releases", "last releases"];

fn assert_logged(event: &Event, fields: &str, panicking: bool) {
    assert_eq!(event.level, Level::WARN);
    assert_eq!(event.field("component"), "Server");
    assert_eq!(event.field("fields"), fields);
    assert_eq!(event.field("panicking"), panicking.to_string());
}

/// Passes a server to `place`, which drops it on this thread. Asserts that the drop logs once and releases the fields.
fn assert_releases_and_logs(place: impl FnOnce(Server)) {
    let trace = Trace::new();
    let (logs, ()) = Logs::of(|| place(server(&trace)));
    assert_logged(&logs.only("dropped_unshut"), "first, last", false);
    assert_eq!(logs.all().len(), 1, "{logs:#?}");
    assert_eq!(
        trace.all(),
        RELEASED,
        "each is released once, in plan order"
    );
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn an_owner_dropped_without_a_runtime_releases_and_logs_once() {
    assert_releases_and_logs(drop);
}

#[test]
fn an_owner_dropped_inside_block_on_of_a_current_thread_runtime_releases_and_logs_once() {
    assert_releases_and_logs(|server| current_thread().block_on(async { drop(server) }));
}

#[test]
fn an_owner_dropped_inside_block_on_of_a_multi_thread_runtime_releases_and_logs_once() {
    assert_releases_and_logs(|server| multi_thread().block_on(async { drop(server) }));
}

#[test]
fn an_owner_dropped_in_a_task_of_a_current_thread_runtime_releases_and_logs_once() {
    assert_releases_and_logs(|server| {
        current_thread().block_on(async { tokio::spawn(async { drop(server) }).await.unwrap() })
    });
}

#[test]
fn an_owner_dropped_in_a_worker_of_a_multi_thread_runtime_releases_and_logs_once() {
    listen_everywhere();
    let (trace, logs) = (Trace::new(), Logs::default());
    let (server, to) = (server(&trace), logs.clone());
    multi_thread().block_on(async {
        let task = tokio::spawn(async move {
            // The task has no await point before the drop, so it cannot move to another worker.
            let _guard = tracing::subscriber::set_default(to.subscriber());
            drop(server);
        });
        task.await.unwrap();
    });
    assert_logged(&logs.only("dropped_unshut"), "first, last", false);
    assert_eq!(trace.all(), RELEASED);
}

#[test]
fn an_owner_dropped_in_a_local_set_releases_and_logs_once() {
    assert_releases_and_logs(|server| {
        current_thread().block_on(LocalSet::new().run_until(async {
            tokio::task::spawn_local(async { drop(server) })
                .await
                .unwrap();
        }));
    });
}

#[test]
fn an_owner_dropped_with_its_task_by_the_runtime_releases_and_logs_once() {
    assert_releases_and_logs(|server| {
        let runtime = current_thread();
        runtime.spawn(async move {
            let _server = server;
            std::future::pending::<()>().await;
        });
        runtime.block_on(tokio::task::yield_now());
        drop(runtime);
    });
}

#[test]
fn an_owner_dropped_after_its_runtime_releases_and_logs_once() {
    assert_releases_and_logs(|server| {
        let runtime = multi_thread();
        let server = runtime.block_on(async move { server });
        drop(runtime);
        drop(server);
    });
}

#[test]
fn an_owner_dropped_in_a_blocking_task_releases_and_logs_once() {
    listen_everywhere();
    let (trace, logs) = (Trace::new(), Logs::default());
    let (server, to) = (server(&trace), logs.clone());
    current_thread().block_on(async {
        let task = tokio::task::spawn_blocking(move || {
            let _guard = tracing::subscriber::set_default(to.subscriber());
            drop(server);
        });
        task.await.unwrap();
    });
    assert_logged(&logs.only("dropped_unshut"), "first, last", false);
    assert_eq!(trace.all(), RELEASED);
}

#[test]
fn an_owner_dropped_in_a_panic_releases_and_logs_once() {
    let trace = Trace::new();
    let (logs, unwound) = Logs::of(|| {
        let server = server(&trace);
        catch_unwind(AssertUnwindSafe(move || {
            let _server = server;
            panic!("of the caller");
        }))
    });
    assert!(unwound.is_err());
    assert_logged(&logs.only("dropped_unshut"), "first, last", true);
    assert_eq!(trace.all(), RELEASED);
}

#[test]
fn a_release_that_panics_is_contained_and_the_others_run() {
    let panics = |trace: &Trace| Server {
        last: Probe::new(trace, "last"),
        first: Probe::new(trace, "first").release_panics(),
        state: ShutdownState::new(),
    };
    let trace = Trace::new();
    let (logs, ()) = Logs::of(|| drop(panics(&trace)));
    assert_eq!(trace.all(), RELEASED);
    assert!(
        logs.all()
            .iter()
            .any(|event| event.field("error") == "the release of first"),
        "{logs:#?}"
    );

    // The engine must catch a panic during this drop, since a second panic during unwinding aborts the process.
    let trace = Trace::new();
    let (logs, unwound) = Logs::of(|| {
        let server = panics(&trace);
        catch_unwind(AssertUnwindSafe(move || {
            let _server = server;
            panic!("of the caller");
        }))
    });
    assert!(unwound.is_err());
    assert_logged(&logs.only("dropped_unshut"), "first, last", true);
    assert_eq!(trace.all(), RELEASED);
}

#[test]
fn a_subscriber_that_panics_is_contained() {
    struct Panics;
    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Panics {
        fn on_event(&self, _: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            panic!("the subscriber");
        }
    }
    use tracing_subscriber::layer::SubscriberExt as _;
    listen_everywhere();
    let trace = Trace::new();
    let subscriber = tracing_subscriber::registry().with(Panics);
    tracing::subscriber::with_default(subscriber, || drop(server(&trace)));
    assert_eq!(trace.all(), RELEASED);
}

#[tokio::test(start_paused = true)]
async fn after_an_awaited_shutdown_the_drop_neither_logs_nor_releases() {
    let trace = Trace::new();
    let mut server = server(&trace);
    server.shutdown().await;
    trace.take();
    let (logs, ()) = Logs::of(|| drop(server));
    assert_eq!(logs.all().len(), 0, "{logs:#?}");
    assert_eq!(trace.all(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn after_a_shutdown_with_failed_steps_the_drop_neither_logs_nor_releases() {
    let trace = Trace::new();
    let mut server = Server {
        last: Probe::new(&trace, "last").hang(),
        first: Probe::new(&trace, "first").error("no"),
        state: ShutdownState::new(),
    };
    server.shutdown().await;
    trace.take();
    let (logs, ()) = Logs::of(|| drop(server));
    assert_eq!(logs.all().len(), 0, "{logs:#?}");
    assert_eq!(trace.all(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn after_an_interrupted_shutdown_only_unfinished_fields_are_named_and_released() {
    let trace = Trace::new();
    let mut server = Server {
        last: Probe::new(&trace, "last").hang(),
        first: Probe::new(&trace, "first"),
        state: ShutdownState::new(),
    };
    assert_pending!(spawn(server.shutdown()).poll());
    assert_eq!(
        trace.take(),
        ["first begins", "first ends", "last begins", "last is cut"]
    );
    let (logs, ()) = Logs::of(|| drop(server));
    assert_logged(&logs.only("dropped_unshut"), "last", false);
    assert_eq!(trace.all(), ["last releases"]);
}

#[derive(GracefulShutdown)]
struct Outer {
    #[shutdown(priority = 1)]
    inner: Server,
    #[shutdown(priority = 0)]
    own: Probe,
    #[shutdown(state)]
    state: ShutdownState,
}

fn outer(trace: &Trace) -> Outer {
    Outer {
        inner: server(trace),
        own: Probe::new(trace, "own"),
        state: ShutdownState::new(),
    }
}

#[test]
fn the_outer_owner_logs_once_for_the_inner_one_too() {
    let trace = Trace::new();
    let (logs, ()) = Logs::of(|| drop(outer(&trace)));
    let event = logs.only("dropped_unshut");
    assert_eq!(
        (event.field("component"), event.field("fields")),
        ("Outer", "own, inner")
    );
    assert_eq!(
        trace.all(),
        ["own releases", "first releases", "last releases"]
    );
}

#[tokio::test(start_paused = true)]
async fn the_inner_owner_of_one_that_was_shut_down_logs_nothing() {
    let trace = Trace::new();
    let mut server = outer(&trace);
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    let (logs, ()) = Logs::of(|| drop(server));
    assert_eq!(logs.all().len(), 0, "{logs:#?}");
    assert_eq!(trace.count("first releases"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_inner_owner_that_was_cut_or_skipped_logs_nothing() {
    #[derive(GracefulShutdown)]
    struct Outer {
        #[shutdown(timeout = "2s", required)]
        cut: Server,
        #[shutdown(timeout = "2s")]
        skipped: Server,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let cut = Server {
        last: Probe::new(&trace, "last"),
        first: Probe::new(&trace, "first").hang(),
        state: ShutdownState::new(),
    };
    let mut outer = Outer {
        cut,
        skipped: server(&trace),
        state: ShutdownState::new(),
    };
    let report = outer.shutdown().await;
    assert!(!report.is_clean());
    assert_eq!(
        trace.count("first aborts"),
        2,
        "the one that was cut and the one that was skipped"
    );
    trace.take();
    let (logs, ()) = Logs::of(|| drop(outer));
    assert_eq!(
        logs.all().len(),
        0,
        "the report names it already: {logs:#?}"
    );
    assert_eq!(trace.all(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_inner_owner_of_an_interrupted_shutdown_releases_only_unfinished_fields() {
    let trace = Trace::new();
    let mut server = outer(&trace);
    server.inner.last = Probe::new(&trace, "last").hang();
    assert_pending!(spawn(server.shutdown()).poll());
    trace.take();
    let (logs, ()) = Logs::of(|| drop(server));
    let event = logs.only("dropped_unshut");
    assert_eq!(
        (event.field("component"), event.field("fields")),
        ("Outer", "inner")
    );
    assert_eq!(trace.all(), ["last releases"]);
}

#[test]
fn a_disarmed_owner_neither_logs_nor_releases() {
    let trace = Trace::new();
    let (logs, ()) = Logs::of(|| {
        let mut server = server(&trace);
        server.state.disarm();
    });
    assert_eq!(logs.all().len(), 0, "{logs:#?}");
    assert_eq!(trace.all(), [""; 0]);
}

#[derive(GracefulShutdown)]
#[shutdown(no_drop)]
struct Movable {
    #[shutdown]
    only: Probe,
    #[shutdown(state)]
    state: ShutdownState,
}

#[test]
fn with_no_drop_fields_can_be_moved_out() {
    let trace = Trace::new();
    let (logs, ()) = Logs::of(|| {
        let Movable { only, mut state } = Movable {
            only: Probe::new(&trace, "only"),
            state: ShutdownState::new(),
        };
        state.disarm();
        drop(only);
    });
    assert_eq!(logs.all().len(), 0, "{logs:#?}");
}

#[test]
fn with_no_drop_the_states_own_drop_logs() {
    let trace = Trace::new();
    let (logs, ()) = Logs::of(|| {
        drop(Movable {
            only: Probe::new(&trace, "only"),
            state: ShutdownState::new(),
        })
    });
    assert_eq!(logs.only("dropped_unshut").level, Level::WARN);
}

#[tokio::test(start_paused = true)]
async fn with_no_drop_an_awaited_shutdown_leaves_nothing_to_log() {
    let trace = Trace::new();
    let mut server = Movable {
        only: Probe::new(&trace, "only"),
        state: ShutdownState::new(),
    };
    server.shutdown().await;
    let (logs, ()) = Logs::of(|| drop(server));
    assert_eq!(logs.all().len(), 0, "{logs:#?}");
}

/// A value that the server shares with its handlers in an `Arc`.
struct Shared(Trace);

impl Component for &Shared {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        self.0.add("shared ends");
        Ok(())
    }

    fn release(&mut self) {
        self.0.add("shared releases");
    }
}

#[derive(GracefulShutdown)]
struct Shares {
    #[shutdown]
    shared: Arc<Shared>,
    #[shutdown(state)]
    state: ShutdownState,
}

#[test]
fn dropping_a_clone_of_a_shared_part_changes_nothing() {
    let trace = Trace::new();
    let server = Shares {
        shared: Arc::new(Shared(trace.clone())),
        state: ShutdownState::new(),
    };
    let (logs, ()) = Logs::of(|| drop(Arc::clone(&server.shared)));
    assert_eq!(logs.all().len(), 0, "{logs:#?}");
    assert_eq!(trace.all(), [""; 0]);
    drop(server);
    assert_eq!(trace.all(), ["shared releases"]);
}

#[test]
fn a_value_that_others_hold_is_not_released() {
    let trace = Trace::new();
    let shared = Arc::new(Shared(trace.clone()));
    drop(Shares {
        shared: Arc::clone(&shared),
        state: ShutdownState::new(),
    });
    assert_eq!(trace.all(), [""; 0]);

    // Code with a `Weak` could still get the value, so the drop of the last `Arc` of a server releases nothing either.
    let weak = Arc::downgrade(&shared);
    drop(Shares {
        shared,
        state: ShutdownState::new(),
    });
    assert_eq!(trace.all(), [""; 0]);
    assert!(weak.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_awaited_shutdown_acts_on_a_shared_value_that_others_hold() {
    let trace = Trace::new();
    let shared = Arc::new(Shared(trace.clone()));
    let mut server = Shares {
        shared: Arc::clone(&shared),
        state: ShutdownState::new(),
    };
    server.shutdown().await;
    assert_eq!(trace.all(), ["shared ends"]);
    drop(shared);
    assert_eq!(trace.all(), ["shared ends"]);
}

#[test]
fn owners_dropped_on_many_threads_log_once_each() {
    listen_everywhere();
    let logs = Logs::default();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let to = logs.clone();
            thread::spawn(move || {
                tracing::subscriber::with_default(to.subscriber(), || drop(server(&Trace::new())))
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(logs.named("dropped_unshut").len(), 4);
}

#[tokio::test(start_paused = true)]
async fn with_no_drop_an_interrupted_shutdown_is_logged_with_its_unfinished_fields() {
    let trace = Trace::new();
    let mut server = Movable {
        only: Probe::new(&trace, "only").hang(),
        state: ShutdownState::new(),
    };
    assert_pending!(spawn(server.shutdown()).poll());
    let (logs, ()) = Logs::of(|| drop(server));
    let told = logs.only("dropped_unshut");
    assert_eq!(told.field("component"), "Movable");
    assert_eq!(told.field("fields"), "only");
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Part {
    #[shutdown]
    it: Probe,
}

#[derive(GracefulShutdown)]
struct Parts {
    #[shutdown]
    one: Part,
    #[shutdown]
    two: Part,
    #[shutdown(state)]
    state: ShutdownState,
}

#[tokio::test]
async fn a_runner_that_is_dropped_while_main_ends_releases_every_part() {
    let trace = Trace::new();
    let part = |name| Part {
        it: Probe::new(&trace, name),
    };
    let server = Parts {
        one: part("one"),
        two: part("two"),
        state: ShutdownState::new(),
    };
    let handle = ShutdownHandle::new();
    let mut run = spawn(Runner::new(server).handle(&handle).run(
        async |_: &mut Parts, stop: Stop| {
            stop.cancelled().await;
            std::future::pending::<()>().await
        },
    ));
    // The runner starts only after its signal thread has registered the signals. So the test polls until the shutdown
    // has begun.
    while handle.progress().unfinished().is_empty() {
        assert_pending!(run.poll());
        handle.request(Reason::Requested);
        tokio::task::yield_now().await;
    }
    let unfinished = handle.progress().unfinished();
    let paths: Vec<_> = unfinished.iter().map(|step| step.path()).collect();
    assert_eq!(paths, ["main"], "nothing of the plan has begun");
    drop(run);
    assert_eq!(trace.all(), ["one releases", "two releases"]);
}
