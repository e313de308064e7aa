//! Compares `TaskGroup::spawn` with `tokio::spawn` in time, allocations and bytes.

use std::future::Future;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lifecycle_runtime::TaskGroup;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::{JoinSet, yield_now};
use tokio_util::task::TaskTracker;

use crate::alloc::{Allocated, Count};
use crate::table::{Contest, Table};

const BARE: &str = "tokio::spawn";
const GROUP: &str = "lifecycle: TaskGroup::spawn";

/// Counts of the tasks of a turn: those that wait, and those that have not ended.
#[derive(Default)]
struct Out {
    parked: AtomicUsize,
    left: AtomicUsize,
    last: Notify,
}

impl Out {
    fn one(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.last.notify_one();
        }
    }
}

/// A way to spawn tasks. The tasks may run as long as the value exists.
trait Spawns {
    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static);
}

struct Bare;
struct Tracker(TaskTracker);
struct Set(JoinSet<()>);
struct Guarded(tokio_graceful::Shutdown);
struct Group(TaskGroup);

impl Spawns for Bare {
    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }
}

impl Spawns for Tracker {
    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }
}

impl Spawns for Set {
    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }
}

impl Spawns for Guarded {
    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn_task(task);
    }
}

impl Spawns for Group {
    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn("task", task).expect("it is open");
    }
}

pub fn run(rounds: usize) -> Vec<Table> {
    let one = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let many = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut tables = Vec::new();
    for (title, runtime, part) in [
        ("the call, current-thread", &one, Part::Call),
        ("to the task's end, current-thread", &one, Part::Whole),
        ("to the task's end, multi-thread", &many, Part::Whole),
    ] {
        let out = Arc::new(Out::default());
        let mut contest = Contest::new(format!("Spawning a task: {title}"), "ns");
        contest.add(BARE, turn(runtime, &out, part, Bare));
        contest.add(
            "tokio-util: TaskTracker::spawn",
            turn(runtime, &out, part, Tracker(TaskTracker::new())),
        );
        contest.add(
            "tokio: JoinSet::spawn",
            turn(runtime, &out, part, Set(JoinSet::new())),
        );
        contest.add("tokio-graceful: spawn_task", {
            let _inside = runtime.enter();
            turn(
                runtime,
                &out,
                part,
                Guarded(tokio_graceful::Shutdown::no_signal()),
            )
        });
        contest.add(GROUP, turn(runtime, &out, part, Group(TaskGroup::new())));
        contest.goal(GROUP, BARE, 1.15);
        let table = contest.run(rounds);
        tables.push(
            table
                .absent("async-shutdown, drain, elegant-departure", "spawn nothing")
                .absent(
                    "tokio-graceful-shutdown",
                    "spawns subsystems only: see the drain",
                )
                .absent("hyper-util", "spawns nothing"),
        );
    }
    tables.extend(memory(&one));
    tables
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Call,
    Whole,
}

const TASKS: usize = 2_000;

/// The values that each task holds while it waits, since a task that holds nothing would be far smaller than a usual
/// task.
const STATE: [usize; 6] = [0; 6];

fn turn<'a>(
    runtime: &'a Runtime,
    out: &'a Arc<Out>,
    part: Part,
    mut spawner: impl Spawns + 'a,
) -> impl FnMut() -> Result<f64, String> + 'a {
    let out = Arc::clone(out);
    move || {
        let spent = runtime.block_on(async {
            out.left.store(TASKS, Ordering::SeqCst);
            let began = Instant::now();
            for _ in 0..TASKS {
                let (out, state) = (Arc::clone(&out), STATE);
                spawner.spawn(async move {
                    black_box(&state);
                    out.one();
                });
            }
            let called = began.elapsed();
            out.last.notified().await;
            let whole = began.elapsed();
            if part == Part::Call { called } else { whole }
        });
        match out.left.load(Ordering::SeqCst) {
            0 => Ok(per_task(spent)),
            left => Err(format!("{left} tasks had not ended")),
        }
    }
}

fn per_task(spent: Duration) -> f64 {
    spent.as_secs_f64() * 1e9 / TASKS as f64
}

fn memory(runtime: &Runtime) -> Vec<Table> {
    let mut calls = Table::counted("Spawning a task: allocations over a bare task's", "calls");
    let mut bytes = Table::counted("Memory of a parked task over a bare one's", "bytes");
    let bare = parked(runtime, Bare);
    let mut add = |name, spent: Allocated, goals: Option<(f64, f64)>| {
        let over = |spent: f64, bare: f64| ((spent - bare) / TASKS as f64 * 100.0).round() / 100.0;
        calls.count(
            name,
            over(spent.calls as f64, bare.calls as f64),
            goals.map(|(calls, _)| calls),
        );
        bytes.count(
            name,
            over(spent.bytes as f64, bare.bytes as f64),
            goals.map(|(_, bytes)| bytes),
        );
    };
    add(
        "tokio-util: TaskTracker::spawn",
        parked(runtime, Tracker(TaskTracker::new())),
        None,
    );
    add(
        "tokio: JoinSet::spawn",
        parked(runtime, Set(JoinSet::new())),
        None,
    );
    let shutdown = {
        let _inside = runtime.enter();
        tokio_graceful::Shutdown::no_signal()
    };
    add(
        "tokio-graceful: spawn_task",
        parked(runtime, Guarded(shutdown)),
        None,
    );
    add(
        GROUP,
        parked(runtime, Group(TaskGroup::new())),
        Some((1.0, 192.0)),
    );
    vec![calls, bytes]
}

/// Returns the allocations that `TASKS` waiting tasks hold.
fn parked(runtime: &Runtime, mut spawner: impl Spawns) -> Allocated {
    runtime.block_on(async {
        let stop = Arc::new(Notify::new());
        let out = Arc::new(Out::default());
        out.left.store(TASKS, Ordering::SeqCst);
        let count = Count::begin();
        for _ in 0..TASKS {
            let (stop, out) = (Arc::clone(&stop), Arc::clone(&out));
            spawner.spawn(async move {
                out.parked.fetch_add(1, Ordering::SeqCst);
                stop.notified().await;
                out.one();
            });
        }
        while out.parked.load(Ordering::SeqCst) < TASKS {
            yield_now().await;
        }
        let allocated = count.end();
        stop.notify_waiters();
        out.last.notified().await;
        allocated
    })
}
