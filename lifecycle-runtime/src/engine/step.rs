//! The run of a step: the engine polls it, cuts it at its deadline, aborts its component if needed, and records its
//! end.
//!
//! The code that differs between components is passed in as trait objects, so that the code in this module is compiled
//! once.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use pin_project_lite::pin_project;

use super::abort_scope;
use super::contain::contain_by;
use super::row::Row;
use super::{PollSpan, StepHandle, contain};
use crate::report::{Outcome, TimedOut};
use crate::{BoxError, Component, Context, clock, log, unawaited};

/// Runs the step that cleans `field`. The step begins when this future is first polled.
pub(crate) async fn component<C: Component + ?Sized>(step: StepHandle, field: &mut C) {
    let step = StepRun::begin_with(step, C::__IS_PLAN);
    let result = if step.skip.is_none() && field.__is_empty() {
        step.nothing()
    } else {
        step.run(async { field.cleanup(step.cx()).await }).await
    };
    // If this is true, each part of the component was already aborted by its own step where needed.
    let settled = field.__is_composite() && step.handle().is_settled();
    step.end(result, |_| {
        if !settled {
            field.abort();
        }
    });
}

/// A step that has begun. Generated code uses it for steps with `with =`.
#[derive(Debug)]
pub struct StepRun {
    /// The context of the cleanup, which also holds the step's handle.
    cx: Context,
    /// Whether the component's cleanup only runs its own plan (`Component::__IS_PLAN`), so that the step's field
    /// identifies that plan.
    is_plan: bool,
    skip: Option<Cow<'static, str>>,
    span: PollSpan,
}

/// The result of a step's cleanup.
#[derive(Debug)]
pub struct CleanupResult {
    outcome: Outcome,
    why: Option<Cow<'static, str>>,
    nothing: bool,
}

impl CleanupResult {
    pub(crate) fn of(outcome: Outcome, why: Option<Cow<'static, str>>) -> Self {
        Self {
            outcome,
            why,
            nothing: false,
        }
    }

    /// Creates the result of a step that had nothing to clean.
    pub(super) fn nothing(why: &'static str) -> Self {
        Self {
            outcome: Outcome::Skipped,
            why: Some(why.into()),
            nothing: true,
        }
    }

    /// Writes the result into the row. The result `Done` may become another one there, since the row records lost
    /// values.
    pub(super) fn record(self, row: &mut Row, lost: bool) {
        let mut result = self;
        if result.outcome.is_done() {
            let cold = row.cold();
            if lost || cold.is_some_and(|cold| cold.lost_parts) {
                let why = "a part that it was cleaning was gone when the shutdown was resumed";
                result = Self::of(Outcome::Aborted, Some(why.into()));
            } else if cold.is_some_and(|cold| cold.lost) {
                let why = "its value was lost with the future that was dropped half-way";
                result = Self::of(Outcome::Aborted, Some(why.into()));
            } else if let Some(why) = cold.and_then(|cold| cold.nothing) {
                result = Self::nothing(why);
            }
        }
        row.step.outcome = result.outcome;
        row.step.why = result.why.map(Box::from);
        row.step.nothing = result.nothing;
    }
}

impl StepRun {
    /// Begins a step of generated code.
    pub fn begin(step: StepHandle) -> Self {
        Self::begin_with(step, false)
    }

    fn begin_with(handle: StepHandle, is_plan: bool) -> Self {
        let begin = handle.begin();
        let budget = || begin.hard.saturating_duration_since(begin.started);
        let span = PollSpan::step(handle.component(), || handle.path(), budget);
        Self {
            span,
            cx: Context::of_step(handle, begin.started, begin.hard, is_plan),
            is_plan,
            skip: begin.skip,
        }
    }

    pub(crate) fn handle(&self) -> &StepHandle {
        match self.cx.step() {
            Some(handle) => handle,
            None => unreachable!("the context of a step has its handle"),
        }
    }

    /// Returns the context of the cleanup.
    pub fn cx(&self) -> &Context {
        &self.cx
    }

    /// Records that the cleanup has moved the value out of its field.
    pub fn took(&self) {
        self.handle().took();
    }

    /// Records that the field holds nothing to clean.
    ///
    /// # Errors
    ///
    /// There is no error. The return type is that of a cleanup.
    pub fn found_nothing(&self) -> Result<(), BoxError> {
        self.handle().found_nothing(EMPTY);
        Ok(())
    }

    fn nothing(&self) -> CleanupResult {
        CleanupResult::nothing(EMPTY)
    }

    /// Runs the cleanup until it ends, panics or is cut. When this future is ready, the cleanup's future is dropped.
    pub fn run<F>(&self, cleanup: F) -> impl Future<Output = CleanupResult> + use<'_, F>
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

    /// Records the result of the step. If the step is not done, `abort` is called before.
    pub fn end(self, result: CleanupResult, mut abort: impl FnMut(&Self)) {
        self.end_by(result, &mut abort);
    }

    fn end_by(self, result: CleanupResult, abort: &mut dyn FnMut(&Self)) {
        if !result.outcome.is_done() && !result.nothing {
            let aborted = self.span.enter(|| {
                contain(|| abort_scope::enter(self.handle(), self.is_plan, || abort(&self)))
            });
            if let Err(message) = aborted {
                log::abort_panicked(self.handle(), &message);
            }
        }
        if let Some(ended) = self.handle().end(result) {
            self.span.ends(ended.step.outcome());
            self.span.enter(|| log::step_end(&ended));
        }
    }

    fn poll(
        &self,
        mut cleanup: Pin<&mut dyn Cleanup>,
        cx: &mut task::Context<'_>,
    ) -> Poll<CleanupResult> {
        if let Some(why) = &self.skip {
            return Poll::Ready(CleanupResult::of(Outcome::Skipped, Some(why.clone())));
        }
        // Invariants 2 and 3: the cleanup is polled at least once, and before the deadline is checked, so the clock is
        // read later.
        self.handle().enter_poll();
        let mut polled = Poll::Pending;
        let contained = self.call_component(&mut || {
            polled = cleanup.as_mut().poll(cx);
            // Invariant 4: the future is dropped here, with its panics contained, before anything is aborted.
            if polled.is_ready() {
                cleanup.as_mut().clear();
            }
        });
        self.handle().leave_poll();
        let result = match (polled, contained) {
            (Poll::Ready(Ok(())), Ok(())) => return done(Outcome::Done),
            (Poll::Ready(Err(error)), _) => return done(failed(error)),
            (_, Err(message)) => CleanupResult::of(Outcome::Panicked(message), None),
            (Poll::Pending, Ok(())) => match self.cut_result() {
                None => return Poll::Pending,
                Some(result) => result,
            },
        };
        // The result is ignored: a panic in the future's drop cannot change the step's outcome.
        let _ = self.call_component(&mut || cleanup.as_mut().clear());
        Poll::Ready(result)
    }

    /// Calls code of the component inside the step's span, and contains its panics. An owner that the code drops
    /// without a shutdown gets a row inside the step's row.
    fn call_component(&self, f: &mut dyn FnMut()) -> Result<(), String> {
        unawaited::collect(
            || self.span.enter(|| contain_by(f)),
            |lost| self.handle().record_lost_owners(lost),
        )
    }

    /// Returns the result of a step that is still running but must end. `None` if the step may go on.
    fn cut_result(&self) -> Option<CleanupResult> {
        if let Some(mut why) = self.handle().cut() {
            if let Some(waiting_for) = self.handle().description() {
                why = format!("{why}, while it was waiting for {waiting_for}").into();
            }
            return Some(CleanupResult::of(Outcome::Aborted, Some(why)));
        }
        (clock::now() >= self.cx.hard_deadline()).then(|| {
            let waiting_for = self.handle().description();
            CleanupResult::of(Outcome::TimedOut { waiting_for }, None)
        })
    }
}

/// The reason in the row of a step that is skipped since its field is empty.
const EMPTY: &str = "it was empty";

fn done(outcome: Outcome) -> Poll<CleanupResult> {
    Poll::Ready(CleanupResult::of(outcome, None))
}

fn failed(error: BoxError) -> Outcome {
    match error.downcast::<TimedOut>() {
        Ok(timed_out) => timed_out.into_outcome(),
        Err(error) => Outcome::Failed(Arc::from(error)),
    }
}

pin_project! {
    /// The running cleanup of a step. This future is written by hand: an async function would store the cleanup twice,
    /// as its argument and as the pinned copy, and a plan ten levels deep would store it a thousand times.
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
            let this = this.project();
            let mut cleanup = this.cleanup;
            if cleanup.is_some() {
                // Invariant 5: panics are contained even when a shutdown is dropped half-way, since a second panic
                // during an unwind would abort the process.
                let _ = this.step.call_component(&mut || cleanup.set(None));
            }
        }
    }
}

impl<F> Future for Running<'_, F>
where
    F: Future<Output = Result<(), BoxError>>,
{
    type Output = CleanupResult;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<CleanupResult> {
        let this = self.project();
        this.step.poll(this.cleanup, cx)
    }
}

/// The future of a cleanup, behind a trait object. `clear` drops the future.
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
