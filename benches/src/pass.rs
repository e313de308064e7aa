//! Measures a pass: the admission of a request, and its end.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use async_shutdown::ShutdownManager;
use lifecycle_runtime::Gate;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::alloc::Count;
use crate::table::{Contest, Table};

/// A gate that counts the passes in use. A pass is a value, which the gate counts until it is dropped.
trait Admits: Send + Sync {
    type Pass<'a>: Send
    where
        Self: 'a;

    fn enter(&self) -> Self::Pass<'_>;
}

/// A gate of a counter and a `Notify`, as a lower bound. A pass borrows the gate, so a spawned task could not hold a
/// pass.
struct Floor {
    closed: AtomicBool,
    count: AtomicUsize,
    notify: Notify,
}

struct FloorPass<'a>(&'a Floor);

impl Admits for Floor {
    type Pass<'a> = FloorPass<'a>;

    fn enter(&self) -> FloorPass<'_> {
        self.count.fetch_add(1, Ordering::AcqRel);
        FloorPass(self)
    }
}

impl Drop for FloorPass<'_> {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 && self.0.closed.load(Ordering::Acquire)
        {
            self.0.notify.notify_waiters();
        }
    }
}

/// A gate whose passes borrow nothing. The function in the field returns a new pass.
struct Owned<F>(F);

impl<P: Send, F: Fn() -> P + Send + Sync> Admits for Owned<F> {
    type Pass<'a>
        = P
    where
        F: 'a;

    fn enter(&self) -> P {
        (self.0)()
    }
}

const FLOOR: &str = "floor (borrowed)";
const TOKEN: &str = "tokio-util: token";
const BOTH: &str = "tokio-util: token + CancellationToken";
const GATE: &str = "lifecycle: Gate";

/// The greatest allowed ratios of `Gate`'s time to the time of tokio-util's `TaskTrackerToken`: first of that token
/// alone, then of that token with a `CancellationToken`.
type Goals = Option<(f64, f64)>;

pub fn run(rounds: usize) -> Vec<Table> {
    // Each way of using a pass gets a table with all contestants.
    let mut tables = Vec::new();
    let ways: [(&str, Goals, Way); 3] = [
        ("1 thread", Some((0.65, 0.35)), Way::Alone),
        ("2 threads", Some((0.07, 0.03)), Way::Two),
        ("moved to another thread", None, Way::Moved),
    ];
    for (title, goals, way) in ways {
        let mut contest = Contest::new(format!("Pass, {title}"), "ns");
        each(&mut |name, contestant| contest.add(name, move || Ok(contestant.time(way))));
        if let Some((token, both)) = goals {
            contest.goal(GATE, TOKEN, token);
            contest.goal(SIGNAL, BOTH, both);
        }
        tables.push(absent(contest.run(rounds)));
    }
    let mut counted = Table::counted("Pass, allocations", "calls for 1,000 passes");
    each(&mut |name, mut contestant| {
        let most = name.starts_with("lifecycle: Gate").then_some(0.0);
        counted.count(name, contestant.allocations() as f64, most);
    });
    tables.push(counted);
    tables
}

/// The name of the row in which a task also asks each pass whether its gate is closing.
const SIGNAL: &str = "lifecycle: Gate, with its closing signal";

fn absent(table: Table) -> Table {
    table
        .absent(
            "elegant-departure",
            "left out: keeps an entry for every guard ever made",
        )
        .absent(
            "tokio-graceful-shutdown",
            "has no pass: only tasks of its own",
        )
}

#[derive(Clone, Copy)]
enum Way {
    Alone,
    Two,
    Moved,
}

trait Contestant {
    fn time(&self, way: Way) -> f64;
    fn allocations(&mut self) -> usize;
}

fn each(add: &mut dyn FnMut(&'static str, Box<dyn Contestant>)) {
    add(
        FLOOR,
        Box::new(Floor {
            closed: AtomicBool::new(false),
            count: AtomicUsize::new(1),
            notify: Notify::new(),
        }),
    );
    let tracker = TaskTracker::new();
    add(TOKEN, Box::new(Owned(move || tracker.token())));
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    add(
        BOTH,
        Box::new(Owned(move || (tracker.token(), stop.clone()))),
    );
    let (signal, watch) = drain::channel();
    add(
        "drain: Watch",
        Box::new(Owned(move || {
            let _ = &signal;
            watch.clone()
        })),
    );
    let shutdown = Arc::new(tokio_graceful::Shutdown::no_signal());
    let guard = shutdown.guard();
    add(
        "tokio-graceful: ShutdownGuard",
        Box::new(Owned(move || {
            let _ = &shutdown;
            guard.clone()
        })),
    );
    let manager = ShutdownManager::<()>::new();
    add(
        "async-shutdown: DelayShutdownToken",
        Box::new(Owned(move || manager.delay_shutdown_token().ok())),
    );
    let graceful = hyper_util::server::graceful::GracefulShutdown::new();
    add(
        "hyper-util: Watcher",
        Box::new(Owned(move || graceful.watcher())),
    );
    let gate = Gate::new();
    add(GATE, Box::new(Owned(move || gate.enter().ok())));
    let gate = Gate::new();
    add(
        SIGNAL,
        Box::new(Owned(move || {
            let pass = gate.enter().ok();
            black_box(pass.as_ref().is_some_and(|pass| pass.is_cancelled()));
            pass
        })),
    );
    let gate = Gate::new();
    add(
        "lifecycle: labelled",
        Box::new(Owned(move || gate.enter_labelled("request").ok())),
    );
}

impl<A: Admits + 'static> Contestant for A {
    fn time(&self, way: Way) -> f64 {
        match way {
            Way::Alone => alone(self),
            Way::Two => two(self),
            Way::Moved => moved(self),
        }
    }

    fn allocations(&mut self) -> usize {
        drop(self.enter());
        let count = Count::begin();
        for _ in 0..1_000 {
            black_box(self.enter());
        }
        count.end().calls
    }
}

const PASSES: usize = 200_000;

fn alone<A: Admits>(gate: &A) -> f64 {
    passes(gate, PASSES)
}

fn passes<A: Admits>(gate: &A, count: usize) -> f64 {
    let began = Instant::now();
    for _ in 0..count {
        drop(black_box(gate.enter()));
    }
    began.elapsed().as_secs_f64() * 1e9 / count as f64
}

/// Measures a pass while two threads take and drop passes of the same gate at the same time.
///
/// The threads work in short slices that begin together. The result uses only the slices in which both threads really
/// ran at the same time, since on a busy machine threads often run one after the other, without contention.
fn two<A: Admits>(gate: &A) -> f64 {
    const COUNT: usize = 200;
    const SLICES: usize = 1_000;
    let begun = AtomicUsize::new(0);
    let work = || {
        let mut slices = Vec::with_capacity(SLICES);
        for slice in 1..=SLICES {
            begun.fetch_add(1, Ordering::AcqRel);
            let mut spins = 0;
            while begun.load(Ordering::Acquire) < 2 * slice {
                spins += 1;
                match spins % 1_000 {
                    // The other thread may be waiting for this thread's core, so this thread yields now and then.
                    0 => thread::yield_now(),
                    _ => std::hint::spin_loop(),
                }
            }
            let began = Instant::now();
            passes(gate, COUNT);
            slices.push((began, Instant::now()));
        }
        slices
    };
    let (these, those) = thread::scope(|scope| {
        let other = scope.spawn(work);
        (work(), other.join().expect("it counts"))
    });
    let mut met = Vec::new();
    for (this, that) in these.iter().zip(&those) {
        let longer = (this.1 - this.0).max(that.1 - that.0);
        let both = this
            .1
            .min(that.1)
            .saturating_duration_since(this.0.max(that.0));
        if both >= longer * 4 / 5 {
            met.push(longer.as_secs_f64() * 1e9 / COUNT as f64);
        }
    }
    met.sort_by(f64::total_cmp);
    met.get(met.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Measures a pass that one thread takes and another thread drops. Both threads work at the same time, on different
/// batches.
fn moved<A: Admits>(gate: &A) -> f64 {
    const BATCH: usize = 256;
    let batches = PASSES / BATCH;
    thread::scope(|scope| {
        let (send, receive) = mpsc::sync_channel::<Vec<A::Pass<'_>>>(4);
        let (give_back, empty) = mpsc::sync_channel(8);
        let leaver = scope.spawn(move || {
            let mut inside = std::time::Duration::ZERO;
            for mut passes in receive {
                let began = Instant::now();
                passes.clear();
                inside += began.elapsed();
                // Sending fails if the other thread has finished, and then the empty batch is not needed.
                let _ = give_back.send(passes);
            }
            inside
        });
        let mut inside = std::time::Duration::ZERO;
        for _ in 0..batches {
            let mut passes = empty
                .try_recv()
                .unwrap_or_else(|_| Vec::with_capacity(BATCH));
            let began = Instant::now();
            passes.extend((0..BATCH).map(|_| gate.enter()));
            inside += began.elapsed();
            send.send(passes).expect("the other side listens");
        }
        drop((send, empty));
        let inside = inside + leaver.join().expect("it counts");
        inside.as_secs_f64() * 1e9 / (batches * BATCH) as f64
    })
}
