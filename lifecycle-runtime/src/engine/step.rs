//! One step: polled, cut at its deadline, aborted, recorded.
//!
//! What differs from one component to the next is handed over as an object, so that the rest is compiled once.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use pin_project_lite::pin_project;

use super::{Seat, contain};
use crate::report::Outcome;
use crate::{BoxError, Component, Context, clock, log};

/// The step of a component. Lazy: it begins when it is first polled.
pub(crate) async fn component<C: Component + ?Sized>(seat: Seat, field: &mut C) {
    let step = StepRun::begin(seat);
    let ending = step.run(async { field.cleanup(step.cx()).await }).await;
    // Each of its parts was aborted by itself, where it had to be; what is done stays so.
    let settled = C::PLAN.whole && step.is_settled();
    step.end(ending, || {
        if !settled {
            field.abort();
        }
    });
}

/// A step that has begun. What the derive writes for `with` calls it; nothing else should.
#[derive(Debug)]
pub struct StepRun {
    /// It knows the seat.
    cx: Context,
    skip: bool,
}

/// How the future of a step ended.
#[derive(Debug)]
pub struct Ending(Outcome);

impl StepRun {
    /// Begins the step at a seat.
    pub fn begin(seat: Seat) -> Self {
        let (cx, skip) = seat.begin(clock::now());
        Self { cx, skip }
    }

    /// What the cleanup is told.
    pub fn cx(&self) -> &Context {
        &self.cx
    }

    /// Runs the cleanup until it ends, panics, or is cut. Its future is gone when this has ended.
    pub fn run<F>(&self, cleanup: F) -> impl Future<Output = Ending> + use<'_, F>
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
    pub fn end(self, ending: Ending, mut abort: impl FnMut()) {
        self.end_by(ending, &mut abort);
    }

    fn end_by(self, Ending(outcome): Ending, abort: &mut dyn FnMut()) {
        if !outcome.is_done() {
            if let Err(message) = contain(abort) {
                log::abort_panicked(self.cx.seat(), &message);
            }
        }
        if let Some(seat) = self.cx.seat() {
            log::step_end(&seat.end(outcome, clock::now()));
        }
    }

    /// Whether the plans inside it have all ended.
    fn is_settled(&self) -> bool {
        self.cx.seat().is_some_and(Seat::is_settled)
    }

    fn poll(&self, mut cleanup: Pin<&mut dyn Cleanup>, cx: &mut task::Context<'_>) -> Poll<Ending> {
        if self.skip {
            return Poll::Ready(Ending(Outcome::Skipped));
        }
        let seat = self.cx.seat();
        // Invariants 2 and 3: first the cleanup, then the clock.
        if let Some(seat) = seat {
            seat.polls();
        }
        let polled = contain(|| cleanup.as_mut().poll(cx));
        if let Some(seat) = seat {
            seat.polled();
        }
        let mut outcome = match polled {
            Ok(Poll::Ready(Ok(()))) => Outcome::Done,
            Ok(Poll::Ready(Err(error))) => Outcome::Failed(Arc::from(error)),
            Ok(Poll::Pending) if !self.is_over() => return Poll::Pending,
            Ok(Poll::Pending) => Outcome::TimedOut {
                waiting_for: seat.and_then(Seat::waits_for),
            },
            Err(message) => Outcome::Panicked(message),
        };
        // Invariant 4: dropped here, and contained, before anything is aborted.
        if let Err(message) = clear(cleanup) {
            if outcome.is_done() {
                outcome = Outcome::Panicked(message);
            }
        }
        Poll::Ready(Ending(outcome))
    }

    fn is_over(&self) -> bool {
        clock::now() >= self.cx.hard_deadline() || self.cx.seat().is_some_and(Seat::is_forced)
    }
}

pin_project! {
    /// The cleanup of a step, as it runs. By hand, since an async function would hold what it is given and what it pins:
    /// the cleanup twice, and a plan ten levels deep a thousand times.
    struct Running<'s, F>
    where
        F: Future<Output = Result<(), BoxError>>,
    {
        step: &'s StepRun,
        #[pin]
        cleanup: Option<F>,
    }

    impl<F> PinnedDrop for Running<'_, F>
    where
        F: Future<Output = Result<(), BoxError>>,
    {
        fn drop(this: Pin<&mut Self>) {
            // Invariant 5, of a shutdown that is left half-way: a second panic while the first unwinds would abort.
            let _ = clear(this.project().cleanup);
        }
    }
}

impl<F> Future for Running<'_, F>
where
    F: Future<Output = Result<(), BoxError>>,
{
    type Output = Ending;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Ending> {
        let this = self.project();
        this.step.poll(this.cleanup, cx)
    }
}

/// Drops the future of a cleanup; its panic is returned.
fn clear(cleanup: Pin<&mut dyn Cleanup>) -> Result<(), String> {
    contain(|| cleanup.clear())
}

/// The future of a cleanup, until it is cleared.
trait Cleanup {
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Result<(), BoxError>>;
    fn clear(self: Pin<&mut Self>);
}

impl<F> Cleanup for Option<F>
where
    F: Future<Output = Result<(), BoxError>>,
{
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Result<(), BoxError>> {
        match self.as_pin_mut() {
            Some(cleanup) => cleanup.poll(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn clear(mut self: Pin<&mut Self>) {
        self.set(None);
    }
}
