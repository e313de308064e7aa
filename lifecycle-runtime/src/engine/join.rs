//! The join of all steps of a plan: it polls the steps that may run, until all steps have ended.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::{OpenPlan, Wakeups};
use crate::BoxError;
use crate::plan::StepSet;

/// The pinned future of one step.
pub(crate) type StepFuture<'a, 'b> = Pin<&'a mut (dyn Future<Output = ()> + Send + 'b)>;

/// The state of the join of a running plan. The futures of the steps are kept by the code that polls the join.
#[derive(Debug)]
pub(crate) struct Join {
    open: OpenPlan,
    /// The steps that have ended. The rows store this too, but reading them takes a lock.
    ended: StepSet,
    /// The plan's timer and wake-ups. `None` until the plan first has to wait.
    wakeups: Option<Wakeups>,
}

impl Join {
    /// Joins the steps of an opened plan. Steps that ended in an earlier run are not run again.
    pub(crate) fn new(open: OpenPlan) -> Self {
        let ended = open.running.ended_steps();
        Self {
            open,
            ended,
            wakeups: None,
        }
    }

    /// Polls every step whose dependencies have ended. Returns `Ready` when all steps have ended.
    ///
    /// # Errors
    ///
    /// A [`ShutdownError`](crate::ShutdownError) if a step that is not `best_effort` is not done.
    pub(crate) fn poll(
        &mut self,
        steps: &mut [StepFuture<'_, '_>],
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), BoxError>> {
        if self.open.running.report().is_none() {
            ready!(self.poll_steps(steps, cx));
        }
        let report = self.open.running.finish();
        if report.is_clean() {
            return Poll::Ready(Ok(()));
        }
        let result = report.clone().into_result();
        Poll::Ready(result.map(drop).map_err(BoxError::from))
    }

    fn poll_steps(&mut self, steps: &mut [StepFuture<'_, '_>], cx: &mut Context<'_>) -> Poll<()> {
        let mut cut = self.open.running.shared.cut().count();
        loop {
            let Some(next) = self.pass(steps, cx) else {
                return Poll::Ready(());
            };
            let running = &*self.open.running;
            let root = self.open.is_root;
            let wakeups = self
                .wakeups
                .get_or_insert_with(|| Wakeups::new(running, root));
            wakeups.register(running, cx);
            // The shutdown was cut after the steps checked for that and before the waker was registered, so the steps
            // are polled again.
            let now_cut = running.shared.cut().count();
            if cut != now_cut {
                cut = now_cut;
                continue;
            }
            if wakeups.poll(running, next, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Polls each step whose dependencies have ended once. Returns the earliest deadline of the running steps, or
    /// `None` when all steps have ended. Visiting each step once is enough, as steps are listed after the steps that
    /// they depend on.
    fn pass(
        &mut self,
        steps: &mut [StepFuture<'_, '_>],
        cx: &mut Context<'_>,
    ) -> Option<Option<Instant>> {
        let mut open = false;
        let mut next: Option<Instant> = None;
        for (i, (step, planned)) in steps.iter_mut().zip(self.open.plan.steps).enumerate() {
            if self.ended.has(i) {
                continue;
            }
            // Invariant 1: a step is first polled once every step that it depends on has ended.
            let due = planned.after.are_among(&self.ended);
            if due && step.as_mut().poll(cx).is_ready() {
                self.ended.add(i);
                continue;
            }
            open = true;
            if due {
                self.open.running.forget_clock_reading();
            }
            if let Some(hard) = due
                .then(|| self.open.running.hard(self.open.first + i))
                .flatten()
            {
                next = Some(next.map_or(hard, |next| next.min(hard)));
            }
        }
        open.then_some(next)
    }
}

/// Joins the steps of a long plan. Shorter plans are joined by a function for their number of steps, such as `join3`.
///
/// # Errors
///
/// A [`ShutdownError`](crate::ShutdownError) if a step that is not `best_effort` is not done.
pub async fn join_pinned(open: OpenPlan, steps: &mut [StepFuture<'_, '_>]) -> Result<(), BoxError> {
    let mut join = Join::new(open);
    poll_fn(|cx| join.poll(steps, cx)).await
}
