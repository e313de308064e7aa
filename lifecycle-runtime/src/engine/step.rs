//! One step: polled, cut at its deadline, aborted, recorded.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use super::{Run, Seat, contain};
use crate::report::Outcome;
use crate::{BoxError, Context, clock, log};

/// A step that has begun. What the derive writes for `with` calls it; nothing else should.
#[derive(Debug)]
pub struct StepRun<'a> {
    run: &'a Run,
    row: usize,
    cx: Context,
    hard: Instant,
    skip: bool,
}

/// How the future of a step ended.
#[derive(Debug)]
pub struct Ending(Outcome);

impl<'a> StepRun<'a> {
    pub(super) fn begin(run: &'a Run, row: usize) -> Self {
        let live = &run.live;
        let begin = live.begin(row, clock::now());
        let seat = Seat::step(Arc::clone(live), row);
        let cx = Context::over(live.origin.reason.clone(), begin.started, begin.hard).seated(seat);
        Self {
            run,
            row,
            cx,
            hard: begin.hard,
            skip: begin.skip,
        }
    }

    /// What the cleanup is told.
    pub fn cx(&self) -> &Context {
        &self.cx
    }

    /// Runs the cleanup until it ends, panics, or is cut. Its future is gone when this returns.
    pub async fn run<F>(&self, cleanup: F) -> Ending
    where
        F: Future<Output = Result<(), BoxError>>,
    {
        if self.skip {
            return Ending(Outcome::Skipped);
        }
        #[cfg(feature = "testing")]
        let cleanup = crate::testing::inject(&self.cx, cleanup);
        let mut cleanup = pin!(Some(cleanup));
        let mut outcome = poll_fn(|cx| {
            let Some(inner) = cleanup.as_mut().as_pin_mut() else {
                return Poll::Ready(Outcome::Done);
            };
            // Invariants 2 and 3: first the cleanup, then the clock.
            self.run.live.polls(self.row);
            let polled = contain(|| inner.poll(cx));
            self.run.live.polled();
            match polled {
                Ok(Poll::Ready(Ok(()))) => Poll::Ready(Outcome::Done),
                Ok(Poll::Ready(Err(error))) => Poll::Ready(Outcome::Failed(Arc::from(error))),
                Ok(Poll::Pending) if !self.is_over() => Poll::Pending,
                Ok(Poll::Pending) => Poll::Ready(Outcome::TimedOut {
                    waiting_for: self.cx.seat().and_then(Seat::waits_for),
                }),
                Err(message) => Poll::Ready(Outcome::Panicked(message)),
            }
        })
        .await;
        // Invariant 4: dropped here, and contained, before anything is aborted.
        if let Err(message) = contain(|| cleanup.set(None)) {
            if outcome.is_done() {
                outcome = Outcome::Panicked(message);
            }
        }
        Ending(outcome)
    }

    /// Records the ending, after `abort` where the step is not done.
    pub fn end(self, ending: Ending, abort: impl FnOnce()) {
        let Ending(outcome) = ending;
        if !outcome.is_done() {
            if let Err(message) = contain(abort) {
                log::abort_panicked(self.cx.seat(), &message);
            }
        }
        let ended = self.run.live.end(self.row, outcome, clock::now());
        log::step_end(&ended);
    }

    /// Whether the plans inside it have all ended.
    pub(super) fn is_settled(&self) -> bool {
        self.cx.seat().is_some_and(Seat::is_settled)
    }

    fn is_over(&self) -> bool {
        clock::now() >= self.hard || self.run.live.origin.forced().is_some()
    }
}
