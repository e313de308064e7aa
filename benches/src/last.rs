//! Measures the time from the drop of the last pass until the task that waits for all passes runs again.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lifecycle_runtime::Gate;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio_util::task::TaskTracker;

use crate::table::{Contest, Table};

const FLOOR: &str = "floor";
const GATE: &str = "lifecycle: Gate";

pub fn run(rounds: usize) -> Vec<Table> {
    let one = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let many = Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    [("current-thread", &one), ("multi-thread", &many)]
        .map(|(flavour, runtime)| {
            let mut contest = Contest::new(format!("Last pass → waiter resumed, {flavour}"), "ns");
            contest.add(FLOOR, turn(runtime, floor));
            contest.add("tokio-util: TaskTracker", turn(runtime, tracker));
            contest.add("async-shutdown", turn(runtime, manager));
            contest.add("drain", turn(runtime, drain_watch));
            contest.add(GATE, turn(runtime, gate));
            contest.goal(GATE, FLOOR, 1.1);
            contest
                .run(rounds)
                .absent(
                    "tokio-graceful, hyper-util",
                    "the waiter is what closes: see the drain",
                )
                .absent(
                    "tokio-graceful-shutdown, elegant-departure",
                    "see the drain",
                )
        })
        .into()
}

/// A pass, and a future that waits for the drop of the pass. The future returns the time at which it resumed.
type Parts<P, W> = (P, W);

fn turn<'a, P, W>(
    runtime: &'a Runtime,
    make: fn() -> Parts<P, W>,
) -> impl FnMut() -> Result<f64, String> + 'a
where
    P: 'static,
    W: Future<Output = Instant> + Send + 'static,
{
    const TIMES: u32 = 200;
    move || {
        let mut spent = Duration::ZERO;
        runtime
            .block_on(async {
                for _ in 0..TIMES {
                    let (pass, wait) = make();
                    let parked = Arc::new(Notify::new());
                    let tell = Arc::clone(&parked);
                    let waiter = tokio::spawn(async move {
                        tell.notify_one();
                        wait.await
                    });
                    parked.notified().await;
                    for _ in 0..4 {
                        yield_now().await;
                    }
                    let began = Instant::now();
                    if waiter.is_finished() {
                        return Err("it did not wait for the pass".into());
                    }
                    drop(pass);
                    spent += waiter.await.expect("it does not panic") - began;
                }
                Ok(())
            })
            .map(|()| spent.as_secs_f64() * 1e9 / f64::from(TIMES))
    }
}

fn floor() -> Parts<impl Drop, impl Future<Output = Instant> + Send> {
    struct Pass(Arc<(AtomicUsize, Notify)>);
    impl Drop for Pass {
        fn drop(&mut self) {
            if self.0.0.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.0.1.notify_waiters();
            }
        }
    }
    let shared = Arc::new((AtomicUsize::new(1), Notify::new()));
    let wait = Arc::clone(&shared);
    let wait = async move {
        loop {
            let notified = wait.1.notified();
            if wait.0.load(Ordering::Acquire) == 0 {
                return Instant::now();
            }
            notified.await;
        }
    };
    (Pass(shared), wait)
}

fn tracker()
-> Parts<tokio_util::task::task_tracker::TaskTrackerToken, impl Future<Output = Instant> + Send> {
    let tracker = TaskTracker::new();
    let pass = tracker.token();
    tracker.close();
    (pass, async move {
        tracker.wait().await;
        Instant::now()
    })
}

fn manager() -> Parts<async_shutdown::DelayShutdownToken<()>, impl Future<Output = Instant> + Send>
{
    let manager = async_shutdown::ShutdownManager::new();
    let pass = manager.delay_shutdown_token().expect("it is open");
    manager.trigger_shutdown(()).expect("the first time");
    (pass, async move {
        manager.wait_shutdown_complete().await;
        Instant::now()
    })
}

fn drain_watch() -> Parts<drain::Watch, impl Future<Output = Instant> + Send> {
    let (signal, watch) = drain::channel();
    (watch, async move {
        signal.drain().await;
        Instant::now()
    })
}

fn gate() -> Parts<lifecycle_runtime::Pass, impl Future<Output = Instant> + Send> {
    let gate = Gate::new();
    let pass = gate.enter().expect("it is open");
    gate.close();
    (pass, async move {
        gate.drained().await;
        Instant::now()
    })
}
