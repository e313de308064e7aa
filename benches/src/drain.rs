//! Measures the drain of N waiting tasks: the time from the signal to stop until all tasks have ended and the task that
//! awaits the drain runs again.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_shutdown::ShutdownManager;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use lifecycle_runtime::{Component, Connections, Context, Gate, Reason, TaskGroup};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_graceful_shutdown::{SubsystemBuilder, SubsystemHandle, Toplevel};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::alloc::{Allocated, Count};
use crate::table::{Contest, Table};

/// The number of tasks that have started. After its start a task waits for the signal to stop.
static PARKED: AtomicUsize = AtomicUsize::new(0);
/// The number of tasks that have ended, counted only while [`CHECKED`] is `true`.
static GONE: AtomicUsize = AtomicUsize::new(0);
static CHECKED: AtomicBool = AtomicBool::new(false);

/// A guard in every task. Creating it counts the task as started, and dropping it counts the task as ended.
struct Inside;

impl Inside {
    fn parks() -> Self {
        PARKED.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // Rounds that measure time do not count ended tasks, since all tasks would wait for the counter's cache line.
        if CHECKED.load(Ordering::Relaxed) {
            GONE.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// The time of a drain, and the allocations that its tasks held while they waited for it.
struct Drained {
    time: Duration,
    parked: Allocated,
}

type Turn = fn(usize) -> Pin<Box<dyn Future<Output = Drained>>>;

struct Contestant {
    name: &'static str,
    /// The largest number of tasks with which the contestant is measured.
    most: usize,
    turn: Turn,
}

macro_rules! contestants {
    ($($name:expr, $most:expr, $turn:path;)*) => {
        [$(Contestant { name: $name, most: $most, turn: |n| Box::pin($turn(n)) }),*]
    };
}

const LIMIT: &str = "wake-only (limit)";
const GATE: &str = "lifecycle: Gate";
const GROUP: &str = "lifecycle: TaskGroup";
const ALL: usize = usize::MAX;

fn contestants() -> [Contestant; 13] {
    contestants! {
        LIMIT, ALL, wake_only;
        "floor", ALL, floor;
        GATE, ALL, gate;
        GROUP, ALL, group;
        "lifecycle: Connections", ALL, connections;
        "tokio-util: token + tracker", ALL, tracker;
        "tokio-graceful", ALL, graceful;
        "async-shutdown", ALL, manager;
        "drain", ALL, drain_watch;
        "elegant-departure (its own process)", ALL, elegant_child;
        "tokio-graceful-shutdown", 10_000, subsystems;
        "hyper-util graceful (real connections)", 1_000, hyper_graceful;
        "a Vec of JoinHandles", ALL, handles;
    }
}

pub const CHILD: &str = "--elegant-departure";

pub fn run(rounds: usize) -> Vec<Table> {
    let mut tables = Vec::new();
    for (flavour, runtime) in [("current-thread", one()), ("multi-thread", many())] {
        for (tasks, rounds) in [
            (100, rounds),
            (1_000, rounds),
            (10_000, rounds.min(15)),
            (100_000, rounds.min(7)),
        ] {
            tables.push(contest(flavour, &runtime, tasks, rounds));
        }
    }
    tables.push(memory(&one()));
    tables
}

fn one() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn many() -> Runtime {
    Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn contest(flavour: &'static str, runtime: &Runtime, tasks: usize, rounds: usize) -> Table {
    let mut contest = Contest::new(format!("Draining {tasks} parked tasks, {flavour}"), "µs");
    let mut absent = Vec::new();
    for Contestant { name, most, turn } in contestants() {
        if tasks > most {
            absent.push((name, format!("left out above {most} tasks")));
            continue;
        }
        let mut checked = false;
        contest.add(name, move || {
            let check = !std::mem::replace(&mut checked, true);
            let drained = turn_of(runtime, turn, tasks, check)?;
            Ok(drained.time.as_secs_f64() * 1e6)
        });
    }
    contest.goal(GATE, LIMIT, 1.15);
    contest.goal(GROUP, LIMIT, 1.15);
    let table = contest.run(rounds);
    absent
        .iter()
        .fold(table, |table, (name, why)| table.absent(name, why))
}

fn turn_of(runtime: &Runtime, turn: Turn, tasks: usize, check: bool) -> Result<Drained, String> {
    PARKED.store(0, Ordering::SeqCst);
    GONE.store(0, Ordering::SeqCst);
    CHECKED.store(check, Ordering::SeqCst);
    let drained = runtime.block_on(turn(tasks));
    let gone = GONE.load(Ordering::SeqCst);
    if check && gone != tasks && gone != ELSEWHERE {
        return Err(format!("returned when {gone} of {tasks} tasks had ended"));
    }
    Ok(drained)
}

/// A result in place of the number of ended tasks, for a contestant that counts its tasks in another process.
const ELSEWHERE: usize = usize::MAX;

fn memory(runtime: &Runtime) -> Table {
    const TASKS: usize = 1_000;
    let mut table = Table::counted(
        "Memory of a parked task, over a bare one's that waits for the same",
        "bytes",
    );
    let bytes = |turn| {
        let drained = turn_of(runtime, turn, TASKS, false).expect("it is not checked");
        drained.parked.bytes as f64 / TASKS as f64
    };
    let wake: Turn = |n| Box::pin(wake_only(n));
    // The first turn is discarded: in it the runtime also allocates memory that it keeps for later turns.
    bytes(wake);
    let bare = bytes(wake);
    for Contestant { name, turn, .. } in contestants() {
        if !name.starts_with("elegant") {
            table.count(name, bytes(turn) - bare, None);
        }
    }
    table.absent(
        "elegant-departure (its own process)",
        "not counted across processes",
    )
}

/// Spawns `n` tasks, waits until all of them wait for the signal to stop, then measures the time of the drain.
async fn timed<D: Future>(
    n: usize,
    spawn: impl FnMut(usize),
    drain: impl FnOnce() -> D,
) -> Drained {
    let count = Count::begin();
    (0..n).for_each(spawn);
    while PARKED.load(Ordering::SeqCst) < n {
        tokio::task::yield_now().await;
    }
    // The last task has counted itself as started, but may not wait for the signal yet. This sleep gives it the time.
    sleep(Duration::from_millis(2)).await;
    let parked = count.end();
    let began = Instant::now();
    drain().await;
    Drained {
        time: began.elapsed(),
        parked,
    }
}

#[derive(Default)]
struct Wake {
    closed: AtomicBool,
    stop: Notify,
    left: AtomicUsize,
    last: Notify,
}

async fn wake_only(n: usize) -> Drained {
    let wake = Arc::new(Wake::default());
    wake.left.store(n, Ordering::SeqCst);
    let spawn = |_| {
        let wake = Arc::clone(&wake);
        tokio::spawn(async move {
            {
                let _inside = Inside::parks();
                wake.stop.notified().await;
            }
            if wake.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                wake.last.notify_one();
            }
        });
    };
    timed(n, spawn, || {
        wake.stop.notify_waiters();
        wake.last.notified()
    })
    .await
}

/// Measures a drain written by hand with a counter and a `Notify`.
async fn floor(n: usize) -> Drained {
    struct Pass(Arc<Wake>);
    impl Drop for Pass {
        fn drop(&mut self) {
            if self.0.left.fetch_sub(1, Ordering::AcqRel) == 1
                && self.0.closed.load(Ordering::Acquire)
            {
                self.0.last.notify_one();
            }
        }
    }
    let wake = Arc::new(Wake::default());
    let spawn = |_| {
        wake.left.fetch_add(1, Ordering::AcqRel);
        let pass = Pass(Arc::clone(&wake));
        tokio::spawn(async move {
            let _inside = Inside::parks();
            let stop = pass.0.stop.notified();
            if !pass.0.closed.load(Ordering::Acquire) {
                stop.await;
            }
        });
    };
    timed(n, spawn, || {
        wake.closed.store(true, Ordering::Release);
        wake.stop.notify_waiters();
        wake.last.notified()
    })
    .await
}

async fn gate(n: usize) -> Drained {
    let gate = Gate::new();
    let spawn = |_| {
        let pass = gate.enter().expect("it is open");
        tokio::spawn(async move {
            let _inside = Inside::parks();
            pass.cancelled().await;
        });
    };
    timed(n, spawn, || {
        gate.close();
        gate.drained()
    })
    .await
}

fn context() -> Context {
    Context::new(Reason::Requested, Duration::from_secs(600))
}

async fn group(n: usize) -> Drained {
    let tasks = TaskGroup::new();
    let spawn = |_| {
        let spawned = tasks.spawn_with("task", |stop| async move {
            let _inside = Inside::parks();
            stop.cancelled().await;
        });
        spawned.expect("it is open");
    };
    timed(n, spawn, || async {
        (&tasks).cleanup(&context()).await.expect("none is aborted")
    })
    .await
}

async fn connections(n: usize) -> Drained {
    let connections = Connections::new(n.try_into().expect("some"));
    let spawn = |_| {
        let spawned = connections.spawn("peer", |connection| async move {
            let _inside = Inside::parks();
            connection.cancelled().await;
        });
        spawned.expect("there is a place");
    };
    timed(n, spawn, || async {
        (&connections)
            .cleanup(&context())
            .await
            .expect("none is cut")
    })
    .await
}

async fn tracker(n: usize) -> Drained {
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let spawn = |_| {
        let stop = stop.clone();
        tracker.spawn(async move {
            let _inside = Inside::parks();
            stop.cancelled().await;
        });
    };
    timed(n, spawn, || {
        stop.cancel();
        tracker.close();
        tracker.wait()
    })
    .await
}

async fn graceful(n: usize) -> Drained {
    let (trigger, triggered) = tokio::sync::oneshot::channel::<()>();
    let shutdown = tokio_graceful::Shutdown::new(async { triggered.await.expect("it is sent") });
    let spawn = |_| {
        shutdown.spawn_task_fn(|guard| async move {
            let _inside = Inside::parks();
            guard.cancelled().await;
        });
    };
    // The method `shutdown` consumes the value that `spawn` borrows until `timed` returns. So the drain is measured
    // after `timed`.
    let mut drained = timed(n, spawn, || async {}).await;
    let began = Instant::now();
    trigger.send(()).expect("it is awaited");
    shutdown.shutdown().await;
    drained.time = began.elapsed();
    drained
}

async fn manager(n: usize) -> Drained {
    let shutdown = ShutdownManager::<()>::new();
    let spawn = |_| {
        let token = shutdown.delay_shutdown_token().expect("it is open");
        let signal = shutdown.wait_shutdown_triggered();
        tokio::spawn(async move {
            let _token = token;
            let _inside = Inside::parks();
            signal.await;
        });
    };
    timed(n, spawn, || {
        shutdown.trigger_shutdown(()).expect("the first time");
        shutdown.wait_shutdown_complete()
    })
    .await
}

async fn drain_watch(n: usize) -> Drained {
    let (signal, watch) = drain::channel();
    let spawn = |_| {
        let watch = watch.clone();
        tokio::spawn(async move {
            let inside = Inside::parks();
            let release = watch.signaled().await;
            drop((inside, release));
        });
    };
    let mut drained = timed(n, spawn, || async {}).await;
    let began = Instant::now();
    drop(watch);
    signal.drain().await;
    drained.time = began.elapsed();
    drained
}

async fn subsystems(n: usize) -> Drained {
    let stop = CancellationToken::new();
    let count = Count::begin();
    let top = Toplevel::<Box<dyn std::error::Error + Send + Sync>>::new_with_shutdown_token(
        async move |top: &mut SubsystemHandle| {
            for _ in 0..n {
                top.start(SubsystemBuilder::new(
                    "task",
                    async |task: &mut SubsystemHandle| {
                        let _inside = Inside::parks();
                        task.on_shutdown_requested().await;
                        Ok::<_, Infallible>(())
                    },
                ));
            }
        },
        stop.clone(),
    );
    let mut drained = timed(n, |_| {}, || async {}).await;
    drained.parked = count.end();
    let began = Instant::now();
    stop.cancel();
    top.handle_shutdown_requests(Duration::from_secs(600))
        .await
        .expect("in time");
    drained.time = began.elapsed();
    drained
}

async fn hyper_graceful(n: usize) -> Drained {
    let graceful = GracefulShutdown::new();
    let mut clients = Vec::new();
    let spawn = |_| {
        let (client, server) = tokio::io::duplex(1024);
        clients.push(client);
        let answer =
            service_fn(async |_| Ok::<_, Infallible>(hyper::Response::new(Empty::<Bytes>::new())));
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(server), answer);
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            let _inside = Inside::parks();
            watched.await
        });
    };
    let mut drained = timed(n, spawn, || async {}).await;
    let began = Instant::now();
    graceful.shutdown().await;
    drained.time = began.elapsed();
    drained
}

async fn handles(n: usize) -> Drained {
    let stop = CancellationToken::new();
    let handles = std::cell::RefCell::new(Vec::new());
    let spawn = |_| {
        let stop = stop.clone();
        handles.borrow_mut().push(tokio::spawn(async move {
            let _inside = Inside::parks();
            stop.cancelled().await;
        }));
    };
    timed(n, spawn, || async {
        stop.cancel();
        for handle in handles.take() {
            handle.await.expect("none panics");
        }
    })
    .await
}

/// Measures elegant-departure in a new process for each turn, since its registry is global and shuts down only once in
/// a process.
async fn elegant_child(n: usize) -> Drained {
    let flavour = match tokio::runtime::Handle::current().runtime_flavor() {
        tokio::runtime::RuntimeFlavor::CurrentThread => "one",
        _ => "many",
    };
    let output = std::env::current_exe()
        .and_then(|this| {
            Command::new(this)
                .args([CHILD, flavour, &n.to_string()])
                .output()
        })
        .expect("this program can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text
        .split_whitespace()
        .map(|number| number.parse::<u64>().expect("a number"));
    let (nanos, gone) = (
        numbers.next().expect("the time"),
        numbers.next().expect("the count"),
    );
    GONE.store(
        if gone == n as u64 {
            ELSEWHERE
        } else {
            gone as usize
        },
        Ordering::SeqCst,
    );
    Drained {
        time: Duration::from_nanos(nanos),
        parked: Allocated::default(),
    }
}

/// Runs one turn of elegant-departure in this process. Prints the time of the drain in nanoseconds and the number of
/// tasks that had ended.
pub fn child(mut args: impl Iterator<Item = String>) -> ExitCode {
    let runtime = match args.next().as_deref() {
        Some("one") => one(),
        _ => many(),
    };
    let Some(n) = args.next().and_then(|n| n.parse().ok()) else {
        return ExitCode::from(2);
    };
    CHECKED.store(true, Ordering::SeqCst);
    let drained = runtime.block_on(async {
        let spawn = |_| {
            let guard = elegant_departure::get_shutdown_guard();
            tokio::spawn(async move {
                let _inside = Inside::parks();
                guard.wait().await;
            });
        };
        timed(n, spawn, elegant_departure::shutdown).await
    });
    println!(
        "{} {}",
        drained.time.as_nanos(),
        GONE.load(Ordering::SeqCst)
    );
    ExitCode::SUCCESS
}
