//! Small helpers that the tests of all recipes share.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use lifecycle_runtime::{Outcome, Report};
use tokio::runtime::Builder;

/// Polls a future once, which begins its work, and returns the result of the poll.
pub async fn begin<F: Future + ?Sized>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// Runs a future on a new runtime with one thread. The runtime then ends as a process would: it drops the tasks that
/// have not ended.
pub fn in_a_process<T>(work: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// Blocks until a condition holds. Panics with `what` if it does not hold within a minute.
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
