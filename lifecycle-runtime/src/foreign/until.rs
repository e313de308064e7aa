//! Waiting with a deadline, even on runtimes without a time driver.

use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::clock;
use crate::context::after;
use crate::engine::Timer;

/// Returns the output of `future`, or `None` once the time `at` has passed. Polls `future` at least once.
pub(super) async fn until<F: Future>(at: Instant, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut timer = Timer::new();
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => timer.poll(Some(at), cx).map(|()| None),
    })
    .await
}

/// Waits for `duration`.
pub(crate) async fn pause(duration: Duration) {
    until(after(clock::now(), duration), pending::<()>()).await;
}
