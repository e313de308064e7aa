//! One step: polled, cut at its deadline, aborted, recorded.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Instant;

use pin_project_lite::pin_project;

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

    /// Runs the cleanup until it ends, panics, or is cut. Its future is gone when this has ended.
    pub fn run<F>(&self, cleanup: F) -> impl Future<Output = Ending> + use<'_, 'a, F>
    where
        F: Future<Output = Result<(), BoxError>>,
    {
        #[cfg(feature = "testing")]
        let cleanup = crate::testing::inject(&self.cx, cleanup);
        Running {
            step: self,
            cleanup: Some(cleanup),
        }
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

pin_project! {
    /// The cleanup of a step, as it runs. By hand, since an async function would hold what it is given and what it pins:
    /// the cleanup twice, and a plan ten levels deep a thousand times.
    struct Running<'s, 'a, F> {
        step: &'s StepRun<'a>,
        #[pin]
        cleanup: Option<F>,
    }

    impl<F> PinnedDrop for Running<'_, '_, F> {
        fn drop(this: Pin<&mut Self>) {
            // Invariant 5, of a shutdown that is left half-way: a second panic while the first unwinds would abort.
            let _ = contain(|| this.project().cleanup.set(None));
        }
    }
}

impl<F> Future for Running<'_, '_, F>
where
    F: Future<Output = Result<(), BoxError>>,
{
    type Output = Ending;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Ending> {
        let mut this = self.project();
        let step = *this.step;
        if step.skip {
            return Poll::Ready(Ending(Outcome::Skipped));
        }
        let Some(inner) = this.cleanup.as_mut().as_pin_mut() else {
            return Poll::Ready(Ending(Outcome::Done));
        };
        // Invariants 2 and 3: first the cleanup, then the clock.
        step.run.live.polls(step.row);
        let polled = contain(|| inner.poll(cx));
        step.run.live.polled();
        let mut outcome = match polled {
            Ok(Poll::Ready(Ok(()))) => Outcome::Done,
            Ok(Poll::Ready(Err(error))) => Outcome::Failed(Arc::from(error)),
            Ok(Poll::Pending) if !step.is_over() => return Poll::Pending,
            Ok(Poll::Pending) => Outcome::TimedOut {
                waiting_for: step.cx.seat().and_then(Seat::waits_for),
            },
            Err(message) => Outcome::Panicked(message),
        };
        // Invariant 4: dropped here, and contained, before anything is aborted.
        if let Err(message) = contain(|| this.cleanup.set(None)) {
            if outcome.is_done() {
                outcome = Outcome::Panicked(message);
            }
        }
        Poll::Ready(Ending(outcome))
    }
}
