//! A shutdown on any runtime: moved from one to another, without a time driver, without a runtime.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use lifecycle_runtime::{
    BoxError, Component, Context, GracefulShutdown, Outcome, Report, ShutdownState,
};
use lifecycle_tests::{Probe, Trace, ms};
use tokio::runtime::{Builder, Runtime};

#[derive(GracefulShutdown)]
#[shutdown(timeout = "10s")]
struct Server<T: Component> {
    #[shutdown(priority = 0, timeout = "300ms")]
    slow: T,
    #[shutdown(priority = 1)]
    last: Probe,
    #[shutdown(state)]
    state: ShutdownState,
}

fn server<T: Component>(trace: &Trace, slow: T) -> Server<T> {
    Server {
        slow,
        last: Probe::new(trace, "last"),
        state: ShutdownState::new(),
    }
}

fn runtime(time: bool) -> Runtime {
    let mut builder = Builder::new_current_thread();
    if time {
        builder.enable_all();
    } else {
        builder.enable_io();
    }
    builder.build().unwrap()
}

/// These tests look at the threads and the panic hook of the whole process.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// How many timer threads there are.
fn timers() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.trim_end() == "lifecycle-timer")
        .count()
}

/// Counts the panics that a hook sees while `f` runs.
fn panics_seen<T>(f: impl FnOnce() -> T) -> (usize, T) {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let before = std::panic::take_hook();
    SEEN.store(0, Ordering::SeqCst);
    std::panic::set_hook(Box::new(|_| {
        SEEN.fetch_add(1, Ordering::SeqCst);
    }));
    let returned = f();
    std::panic::set_hook(before);
    (SEEN.load(Ordering::SeqCst), returned)
}

fn assert_cut_in_time(report: &Report) {
    let slow = report.step("slow").unwrap();
    assert!(
        matches!(slow.outcome(), Outcome::TimedOut { .. }),
        "{report}"
    );
    assert!(slow.elapsed() < Duration::from_secs(5), "{report}");
    assert!(report.step("last").unwrap().outcome().is_done(), "{report}");
}

#[test]
fn a_shutdown_goes_on_when_the_runtime_it_was_polled_on_is_gone() {
    let _alone = alone();
    for time in [true, false] {
        let trace = Trace::new();
        let mut server = server(&trace, Probe::new(&trace, "slow").hang());
        let (panics, report) = panics_seen(|| {
            let mut shutdown = pin!(server.shutdown());
            let first = runtime(true);
            first.block_on(async {
                assert!(
                    poll_fn(|cx| Poll::Ready(shutdown.as_mut().poll(cx)))
                        .await
                        .is_pending()
                );
            });
            drop(first);
            runtime(time).block_on(shutdown)
        });
        assert_eq!(panics, 0);
        assert_cut_in_time(&report);
    }
}

#[test]
fn a_shutdown_on_paused_time_goes_on_in_another_runtime() {
    let _alone = alone();
    let paused = || {
        let mut builder = Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().unwrap()
    };
    let trace = Trace::new();
    let mut server = server(&trace, Probe::new(&trace, "slow").hang());
    let mut shutdown = pin!(server.shutdown());
    let first = paused();
    first.block_on(async {
        assert!(
            poll_fn(|cx| Poll::Ready(shutdown.as_mut().poll(cx)))
                .await
                .is_pending()
        );
    });
    drop(first);
    assert_cut_in_time(&paused().block_on(shutdown));
}

/// Wakes itself often.
struct Busy(u32);

impl Component for Busy {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        poll_fn(|cx| match self.0 {
            0 => Poll::Ready(()),
            _ => {
                self.0 -= 1;
                assert!(timers() <= 1 || !self.0.is_multiple_of(500));
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await;
        Ok(())
    }
}

#[test]
fn without_a_time_driver_one_thread_wakes_the_plan_and_no_hook_sees_a_panic() {
    let _alone = alone();
    let trace = Trace::new();
    let (panics, report) = panics_seen(|| {
        let mut busy = server(&trace, Busy(5_000));
        assert!(runtime(false).block_on(busy.shutdown()).is_clean());
        let mut slow = server(&trace, Probe::new(&trace, "slow").hang());
        runtime(false).block_on(slow.shutdown())
    });
    assert_eq!(panics, 0);
    assert_cut_in_time(&report);
    let began = Instant::now();
    while timers() > 0 {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "the thread stays"
        );
        std::thread::sleep(ms(5));
    }
}

#[test]
fn many_shutdowns_share_the_thread() {
    let _alone = alone();
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let shutdowns: Vec<_> = (0..20)
        .map(|_| {
            runtime.spawn(async {
                let trace = Trace::new();
                let mut server = server(&trace, Probe::new(&trace, "slow").hang());
                server.shutdown().await
            })
        })
        .collect();
    let mut most = 0;
    for shutdown in shutdowns {
        while !shutdown.is_finished() {
            most = timers().max(most);
            std::thread::sleep(ms(1));
        }
        assert_cut_in_time(&runtime.block_on(shutdown).unwrap());
    }
    assert_eq!(most, 1);
}
