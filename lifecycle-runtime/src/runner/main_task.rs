//! The main task: the runner polls it until it ends or is told to stop, and then waits for it as the step `main`.

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::stop::StopTrigger;
use crate::engine::{CleanupResult, PollSpan, RunningPlan, StepHandle, Wakeups, contain};
use crate::report::Outcome;
use crate::unawaited::{self, UnawaitedDrop};
use crate::{Reason, TaskOutcome, TaskOutput, clock, log};

/// Main's future, and main's outcome once the future has ended.
pub(super) struct MainTask<'a, F> {
    future: Pin<&'a mut Option<F>>,
    outcome: Option<Outcome>,
    /// The owners that main dropped without a shutdown. Before the shutdown begins only the last poll counts, and after
    /// that every poll.
    lost: Vec<UnawaitedDrop>,
    is_stopping: bool,
}

impl<'a, F, T> MainTask<'a, F>
where
    F: Future<Output = T>,
    T: TaskOutcome,
{
    pub(super) fn new(future: Pin<&'a mut Option<F>>) -> Self {
        Self {
            future,
            outcome: None,
            lost: Vec::new(),
            is_stopping: false,
        }
    }

    /// Records that the shutdown has begun. From now on every owner that main drops without a shutdown is kept in
    /// `lost`.
    pub(super) fn record_stop(&mut self) {
        self.is_stopping = true;
    }

    /// Returns whether main has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.outcome.is_some()
    }

    /// Returns the reason of the shutdown that begins because main has ended.
    pub(super) fn reason(&self) -> Reason {
        match &self.outcome {
            Some(Outcome::Failed(error)) => Reason::MainFailed(Arc::clone(error)),
            Some(Outcome::Panicked(message)) => Reason::MainPanicked(message.as_str().into()),
            _ => Reason::MainEnded,
        }
    }

    /// Fires main's `Stop`, and waits for main as the step `main`, until the latest time at which main must have ended.
    /// If main has not used its `Stop` after one more poll, it cannot know that it should end, so it is dropped.
    pub(super) async fn finish(
        mut self,
        plan: &Arc<RunningPlan>,
        latest: Instant,
        trigger: &StopTrigger,
    ) {
        trigger.fire();
        let row = plan.add_step_before(MAIN, false, clock::now(), latest);
        let step = StepHandle::new(Arc::clone(plan), row);
        let budget = || latest.saturating_duration_since(clock::now());
        let span = PollSpan::step(plan.component, || step.path(), budget);
        let mut cut = None;
        if self.outcome.is_none() {
            let mut wakeups = Wakeups::new(plan, true);
            poll_fn(|cx| {
                loop {
                    wakeups.register(plan, cx);
                    if span.enter(|| self.poll(cx)).is_ready() {
                        return Poll::Ready(());
                    }
                    cut = why_cut(plan, trigger);
                    if cut.is_some() || clock::now() >= latest {
                        return Poll::Ready(());
                    }
                    if wakeups.poll(plan, Some(latest), cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            })
            .await;
        }
        let ended = self.outcome.take();
        let mut outcome = ended.unwrap_or_else(|| match cut {
            Some(_) => Outcome::Aborted,
            None => Outcome::TimedOut { waiting_for: None },
        });
        let cleared = unawaited::collect(
            || span.enter(|| contain(|| self.future.set(None))),
            |lost| self.lost.extend(lost),
        );
        if !self.lost.is_empty() {
            step.record_lost_owners(self.lost);
        }
        if let Err(message) = cleared {
            if outcome.is_done() {
                outcome = Outcome::Panicked(message);
            }
        }
        if let Some(ended) = step.end(CleanupResult::of(outcome, cut)) {
            span.ends(ended.step.outcome());
            span.enter(|| log::step_end(&ended));
        }
    }

    /// Polls main, and stores its outcome when it ends. Returns `Ready` once main has ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_ended() {
            return Poll::Ready(());
        }
        let Some(main) = self.future.as_mut().as_pin_mut() else {
            return Poll::Ready(());
        };
        if !self.is_stopping {
            self.lost.clear();
        }
        let polled = unawaited::collect(
            || contain(|| main.poll(cx).map(TaskOutput::into_outcome)),
            |lost| self.lost.extend(lost),
        );
        let outcome = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Ok(()))) => Outcome::Done,
            Ok(Poll::Ready(Err(error))) => Outcome::Failed(Arc::from(error)),
            Err(message) => Outcome::Panicked(message),
        };
        self.outcome = Some(outcome);
        Poll::Ready(())
    }
}

/// The name of main's row.
const MAIN: &str = "main";

/// Returns why main, which is still running, must be dropped before its latest end. `None` if it may go on.
fn why_cut(plan: &RunningPlan, trigger: &StopTrigger) -> Option<Cow<'static, str>> {
    if let Some(by) = plan.shared.forced() {
        return Some(format!("the end was forced by {by}").into());
    }
    if plan.shared.is_hurried() {
        return Some("the shutdown was hurried".into());
    }
    (!trigger.was_looked_at())
        .then(|| "it never looked at `stop`, so it could not know that it should end".into())
}
