//! The server that this project began from, with its fields as they were and a derived shutdown.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use lifecycle_tests::{Logs, Trace};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::Level;

struct ConnectionPool(Trace);

impl ConnectionPool {
    async fn close(&self) -> Result<(), std::io::Error> {
        self.0.add("close the pool");
        Ok(())
    }
}

struct TapeRecorder(Trace);

impl TapeRecorder {
    async fn flush(&self) -> Result<(), std::io::Error> {
        self.0.add("flush the recorder");
        Ok(())
    }
}

struct Metrics(Trace);

impl Metrics {
    fn persist(&self) -> Result<(), std::io::Error> {
        self.0.add("persist metrics");
        Ok(())
    }
}

struct SessionManager(Trace);

impl SessionManager {
    async fn close_all(&self) {
        self.0.add("close sessions");
    }
}

#[derive(GracefulShutdown)]
#[shutdown(timeout = "30s")]
struct ReverseProxyServer {
    #[shutdown(priority = 0)]
    signal: CancellationToken,
    #[shutdown(priority = 10, timeout = "10s")]
    connections: TaskTracker,
    #[shutdown(priority = 20, timeout = "2s")]
    background_tasks: Arc<Mutex<Vec<AbortOnDropHandle<()>>>>,
    #[shutdown(priority = 30, timeout = "3s", with = TapeRecorder::flush)]
    tape_recorder: Option<Arc<TapeRecorder>>,
    #[shutdown(priority = 40, timeout = "3s", with = |pool| pool.close())]
    connection_pool: Option<Arc<ConnectionPool>>,
    #[shutdown(priority = 50, timeout = "3s", with = Metrics::persist)]
    metrics: Arc<Metrics>,
    #[shutdown(priority = 60, timeout = "3s", with = |sessions| sessions.close_all())]
    session_manager: Arc<SessionManager>,
    listen_address: String,
    #[shutdown(state)]
    state: ShutdownState,
}

/// A value that records its drop in the trace. A task holds it, so the drop shows the end of the task.
struct RecordsDrop(Trace, &'static str);

impl Drop for RecordsDrop {
    fn drop(&mut self) {
        self.0.add(self.1);
    }
}

fn background(trace: &Trace, runtime: &Handle) -> Arc<Mutex<Vec<AbortOnDropHandle<()>>>> {
    let gone = RecordsDrop(trace.clone(), "abort background tasks");
    let task = runtime.spawn(async move {
        let _gone = gone;
        pending::<()>().await;
    });
    Arc::new(Mutex::new(vec![AbortOnDropHandle::new(task)]))
}

fn server(trace: &Trace, runtime: &Handle) -> ReverseProxyServer {
    let server = ReverseProxyServer {
        signal: CancellationToken::new(),
        connections: TaskTracker::new(),
        background_tasks: background(trace, runtime),
        tape_recorder: Some(Arc::new(TapeRecorder(trace.clone()))),
        connection_pool: Some(Arc::new(ConnectionPool(trace.clone()))),
        metrics: Arc::new(Metrics(trace.clone())),
        session_manager: Arc::new(SessionManager(trace.clone())),
        listen_address: "127.0.0.1:0".into(),
        state: ShutdownState::new(),
    };
    let (signal, trace) = (server.signal.clone(), trace.clone());
    // The first connection ends soon after its close signal.
    server.connections.spawn_on(
        async move {
            signal.cancelled().await;
            trace.add("signal");
            tokio::task::yield_now().await;
            trace.add("drain");
        },
        runtime,
    );
    server
}

#[tokio::test(start_paused = true)]
async fn the_first_server_is_cleaned_in_its_order() {
    let trace = Trace::new();
    let mut server = server(&trace, &Handle::current());
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(
        trace.all(),
        [
            "signal",
            "drain",
            "abort background tasks",
            "flush the recorder",
            "close the pool",
            "persist metrics",
            "close sessions",
        ]
    );
    let steps: Vec<_> = report.steps().iter().map(|step| step.name()).collect();
    let fields = [
        "signal",
        "connections",
        "background_tasks",
        "tape_recorder",
        "connection_pool",
        "metrics",
        "session_manager",
    ];
    assert_eq!(steps, fields);
    assert_eq!(
        server.listen_address, "127.0.0.1:0",
        "what is no component is left as it is"
    );
}

#[tokio::test(start_paused = true)]
async fn missing_optional_parts_are_not_failures() {
    let trace = Trace::new();
    let mut server = server(&trace, &Handle::current());
    (server.tape_recorder, server.connection_pool) = (None, None);
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(
        trace.all()[2..],
        [
            "abort background tasks",
            "persist metrics",
            "close sessions"
        ]
    );
}

/// Asserts that the drop of the server logged once, aborted the tasks, and did nothing else.
fn assert_fell_back(logs: &Logs, trace: &Trace) {
    let event = logs.only("dropped_unshut");
    assert_eq!(event.level, Level::WARN);
    assert_eq!(event.field("component"), "ReverseProxyServer");
    assert_eq!(
        event.field("fields"),
        "signal, connections, background_tasks, tape_recorder, connection_pool, metrics, session_manager"
    );
    assert_eq!(logs.all().len(), 1, "{logs:#?}");
    assert_eq!(trace.all(), ["abort background tasks"]);
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Lets every ready task run, aborted ones included.
async fn settle() {
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn an_unawaited_drop_inside_a_runtime_aborts_the_tasks_and_logs_once() {
    let trace = Trace::new();
    let runtime = current_thread();
    let (logs, ()) = Logs::of(|| {
        runtime.block_on(async {
            let server = server(&trace, &Handle::current());
            settle().await;
            drop(server);
            settle().await;
        });
    });
    assert_fell_back(&logs, &trace);
}

#[test]
fn an_unawaited_drop_outside_the_runtime_aborts_the_tasks_and_logs_once() {
    let trace = Trace::new();
    let runtime = current_thread();
    let server = server(&trace, runtime.handle());
    runtime.block_on(settle());
    let (logs, ()) = Logs::of(|| drop(server));
    runtime.block_on(settle());
    assert_fell_back(&logs, &trace);
}

#[test]
fn an_unawaited_drop_after_the_runtime_neither_panics_nor_blocks() {
    let trace = Trace::new();
    let runtime = current_thread();
    let server = server(&trace, runtime.handle());
    runtime.block_on(settle());
    drop(runtime);
    let (logs, ()) = Logs::of(|| drop(server));
    assert_fell_back(&logs, &trace);
}

#[test]
fn an_unawaited_drop_does_not_wait_for_a_held_lock() {
    let trace = Trace::new();
    let runtime = current_thread();
    let server = server(&trace, runtime.handle());
    let tasks = Arc::clone(&server.background_tasks);
    let held = tasks.lock().unwrap();
    let (logs, ()) = Logs::of(|| drop(server));
    logs.only("dropped_unshut");
    assert!(!held[0].is_finished());
}

#[test]
fn an_unawaited_drop_leaves_tasks_that_others_own_alone() {
    let trace = Trace::new();
    let runtime = current_thread();
    let server = server(&trace, runtime.handle());
    let tasks = Arc::clone(&server.background_tasks);
    drop(server);
    runtime.block_on(settle());
    assert_eq!(trace.all(), [""; 0]);
    assert!(!tasks.lock().unwrap()[0].is_finished());
}

#[tokio::test(start_paused = true)]
async fn dropping_a_clone_of_any_shared_part_changes_nothing() {
    let trace = Trace::new();
    let mut server = server(&trace, &Handle::current());
    let (logs, guard) = Logs::capture();
    drop(server.signal.clone());
    drop(server.connections.clone());
    drop(Arc::clone(&server.background_tasks));
    drop(server.tape_recorder.clone());
    drop(server.connection_pool.clone());
    drop(Arc::clone(&server.metrics));
    drop(Arc::clone(&server.session_manager));
    settle().await;
    drop(guard);
    assert_eq!(logs.all().len(), 0, "{logs:#?}");
    assert_eq!(trace.all(), [""; 0]);
    assert!(!server.signal.is_cancelled());
    assert!(server.shutdown().await.is_clean());
    assert_eq!(trace.all().len(), 7);
}

#[tokio::test(start_paused = true)]
async fn an_awaited_shutdown_ends_tasks_that_others_hold() {
    let trace = Trace::new();
    let mut server = server(&trace, &Handle::current());
    let tasks = Arc::clone(&server.background_tasks);
    assert!(server.shutdown().await.is_clean());
    assert_eq!(trace.count("abort background tasks"), 1);
    assert_eq!(tasks.lock().unwrap().len(), 0);
}

#[test]
fn a_drop_on_another_thread_than_the_runtimes_aborts_the_tasks() {
    let trace = Trace::new();
    let ended = Arc::new(AtomicBool::new(false));
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let server = server(&trace, runtime.handle());
    let told = Arc::clone(&ended);
    thread::spawn(move || {
        drop(server);
        told.store(true, Ordering::Relaxed);
    })
    .join()
    .unwrap();
    assert!(ended.load(Ordering::Relaxed));
    // The aborted tasks end when their runtime drops them.
    drop(runtime);
    assert_eq!(trace.count("abort background tasks"), 1);
}
