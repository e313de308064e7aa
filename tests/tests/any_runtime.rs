//! A shutdown runs on any executor: moved from one runtime to another, on a runtime without a time driver, and without
//! a runtime.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{self, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use lifecycle_runtime::{
    BoxError, Component, Context, GracefulShutdown, Outcome, Reason, Report, ShutdownState,
};
use lifecycle_tests::{Probe, Trace, ms, secs};
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

/// A lock that keeps these tests from running at the same time, since they look at the threads and the panic hook of
/// the process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn one_at_a_time() -> std::sync::MutexGuard<'static, ()> {
    ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Returns, for each thread of this process, the contents of its file `file` in `/proc`.
fn threads(file: &str) -> impl Iterator<Item = String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks.filter_map(move |task| std::fs::read_to_string(task.ok()?.path().join(file)).ok())
}

/// Returns the number of the library's timer threads in this process.
fn timers() -> usize {
    threads("comm")
        .filter(|name| name.trim_end() == "lifecycle-timer")
        .count()
}

/// Returns whether a timer thread of the library sleeps.
fn a_timer_sleeps() -> bool {
    threads("stat").any(|stat| stat.contains("(lifecycle-timer) S"))
}

/// Runs `f`, and returns the number of panics that the panic hook sees meanwhile, and the result of `f`.
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
fn a_shutdown_goes_on_after_the_runtime_that_polled_it_is_gone() {
    let _alone = one_at_a_time();
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
    let _alone = one_at_a_time();
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

/// A component whose cleanup wakes itself as many times as the field says, and then ends.
struct SelfWaking(u32);

impl Component for SelfWaking {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        poll_fn(|cx| match self.0 {
            0 => Poll::Ready(()),
            _ => {
                self.0 -= 1;
                assert!(!self.0.is_multiple_of(500) || timers() <= 1);
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
    let _alone = one_at_a_time();
    let trace = Trace::new();
    let (panics, report) = panics_seen(|| {
        let mut busy = server(&trace, SelfWaking(5_000));
        assert!(runtime(false).block_on(busy.shutdown()).is_clean());
        let mut slow = server(&trace, Probe::new(&trace, "slow").hang());
        runtime(false).block_on(slow.shutdown())
    });
    assert_eq!(panics, 0);
    assert_cut_in_time(&report);
    assert_thread_ends();
}

fn assert_thread_ends() {
    let began = Instant::now();
    while timers() > 0 {
        assert!(began.elapsed() < secs(20), "the thread stays");
        std::thread::sleep(ms(5));
    }
}

#[test]
fn many_shutdowns_share_one_timer_thread() {
    let _alone = one_at_a_time();
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

/// A waker that sends a message to the test when it is woken.
struct NotifyingWaker(Mutex<mpsc::Sender<()>>);

impl Wake for NotifyingWaker {
    fn wake(self: Arc<Self>) {
        // Sending fails if the test has dropped the receiver, and then the message is not needed.
        let _ = self.0.lock().unwrap().send(());
    }
}

type Cleanup<'a> = Pin<Box<dyn Future<Output = Result<(), BoxError>> + 'a>>;

/// Polls a cleanup with a new waker until it waits for its deadline. Returns the waker and the receiver of its
/// messages.
fn poll_with_waker(cleanup: &mut Cleanup<'_>) -> (Arc<NotifyingWaker>, mpsc::Receiver<()>) {
    let (sender, receiver) = mpsc::channel();
    let tells = Arc::new(NotifyingWaker(Mutex::new(sender)));
    let waker = Waker::from(Arc::clone(&tells));
    let mut cx = task::Context::from_waker(&waker);
    assert!(cleanup.as_mut().poll(&mut cx).is_pending());
    // After it has polled all elements, the cleanup wakes its own waker to be polled again. So it is polled until it no
    // longer does.
    while receiver.try_recv().is_ok() {
        assert!(cleanup.as_mut().poll(&mut cx).is_pending());
    }
    (tells, receiver)
}

#[test]
fn without_a_runtime_each_shutdown_is_woken_at_its_own_deadline_and_forgotten_with_its_future() {
    let _alone = one_at_a_time();
    let trace = Trace::new();
    let mut probes = ["far", "near"].map(|name| [Probe::new(&trace, name).hang()]);
    let [far, near] = &mut probes;
    let in_an_hour = Context::new(Reason::Requested, secs(3_600));
    let soon = Context::new(Reason::Requested, ms(20));

    let mut far: Cleanup<'_> = Box::pin(in_an_hour.each([""; 0], far));
    let (far_waker, far_woken) = poll_with_waker(&mut far);
    let began = Instant::now();
    while !a_timer_sleeps() {
        assert!(began.elapsed() < secs(20), "the thread does not wait");
        std::thread::sleep(ms(1));
    }
    let mut near: Cleanup<'_> = Box::pin(soon.each([""; 0], near));
    let (_, near_woken) = poll_with_waker(&mut near);
    let told = near_woken.recv_timeout(secs(20));
    assert!(
        told.is_ok(),
        "the nearer deadline came first, though it was set later"
    );
    assert!(far_woken.try_recv().is_err(), "its deadline is far away");

    assert!(Arc::strong_count(&far_waker) > 1);
    drop((far, near));
    assert_eq!(Arc::strong_count(&far_waker), 1);
    // The next test counts timer threads, so the timer thread of this test must end first.
    assert_thread_ends();
}
