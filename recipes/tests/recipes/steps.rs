//! Small helpers that the tests share.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use lifecycle_runtime::{Outcome, Report};
use tokio::runtime::Builder;

/// Polls a future once.
pub async fn begin<F: Future + ?Sized>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// Runs a future on its own one-threaded runtime, which then ends as a process would: tasks that are left are dropped.
pub fn in_a_process<T>(work: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// Waits until a condition holds, for a minute at most.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub fn assert_clean(report: &Report) {
    assert!(report.is_clean(), "{report}");
}

pub fn assert_timed_out(report: &Report, step: &str) {
    let step = report.step(step).expect("a step");
    assert!(
        matches!(step.outcome(), Outcome::TimedOut { .. }),
        "{report}"
    );
}
