//! The lame duck: the time in which the server is no longer ready but still serves, while load balancers and peers
//! notice that.

use std::borrow::Cow;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::main_task::MainTask;
use crate::context::after;
use crate::engine::{CleanupResult, PollSpan, RunningPlan, StepHandle, Timer, contain};
use crate::report::Outcome;
use crate::{
    BoxError, Component, Context, Reason, Report, Signal, TaskOutcome, TaskOutput, clock, log,
};

/// The time that deregistration hooks have at least, even if the lame duck is shorter.
const HOOKS: Duration = Duration::from_secs(5);

/// The options of a runner's lame duck.
#[derive(Default)]
pub(super) struct LameDuck {
    pub(super) minimum: Duration,
    hooks: Vec<(Cow<'static, str>, Hook)>,
}

type HookFuture = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// A deregistration hook, before and after its call. It is a component, so that it gets a row, a deadline and contained
/// panics.
enum Hook {
    Waiting(Option<Box<dyn FnOnce() -> HookFuture + Send>>),
    Running(HookFuture),
}

impl Component for Hook {
    async fn cleanup(&mut self, _cx: &Context) -> Result<(), BoxError> {
        if let Self::Waiting(hook) = self {
            let Some(hook) = hook.take() else {
                return Ok(());
            };
            *self = Self::Running(hook());
        }
        match self {
            Self::Running(hooked) => hooked.as_mut().await,
            Self::Waiting(_) => Ok(()),
        }
    }
}

impl LameDuck {
    pub(super) fn hook<F>(
        &mut self,
        name: Cow<'static, str>,
        hook: impl FnOnce() -> F + Send + 'static,
    ) where
        F: Future<Output: TaskOutcome> + Send + 'static,
    {
        let hook = || -> HookFuture { Box::pin(async move { hook().await.into_outcome() }) };
        let hook: Box<dyn FnOnce() -> HookFuture + Send> = Box::new(hook);
        self.hooks.push((name, Hook::Waiting(Some(hook))));
    }

    /// Returns the longest time that the lame duck may take.
    pub(super) fn longest(&self) -> Duration {
        match self.hooks.is_empty() {
            true => self.minimum,
            false => self.minimum.max(HOOKS),
        }
    }

    /// Returns the minimum time of this shutdown's lame duck. It is zero after Ctrl-C, and if main has ended, so that
    /// nothing serves.
    pub(super) fn minimum_for(&self, reason: &Reason, main_gone: bool) -> Duration {
        match reason {
            Reason::Signal(Signal::INTERRUPT) => Duration::ZERO,
            _ if main_gone => Duration::ZERO,
            _ => self.minimum,
        }
    }

    /// Waits until the minimum time has passed and the hooks have ended, while main goes on. `over` ends the whole wait
    /// early, and main's end ends the minimum time. Adds a row before the plan, unless there is nothing to wait for.
    pub(super) async fn run<F, T>(
        self,
        minimum: Duration,
        plan: &Arc<RunningPlan>,
        mut main: Option<&mut MainTask<'_, F>>,
        over: &CancellationToken,
    ) where
        F: Future<Output = T>,
        T: TaskOutcome,
    {
        if minimum.is_zero() && self.hooks.is_empty() {
            return;
        }
        let began = clock::now();
        let budget = match self.hooks.is_empty() {
            true => minimum,
            false => minimum.max(HOOKS),
        };
        let (until, hard) = (after(began, minimum), after(began, budget));
        let (names, mut hooks): (Vec<_>, Vec<_>) = self.hooks.into_iter().unzip();
        let row = plan.add_step_before("lame_duck", true, began, hard);
        let step = StepHandle::new(Arc::clone(plan), row);
        let span = PollSpan::step(plan.component, || step.path(), || budget);
        let cx = Context::of_step(step.clone(), began, hard, false);
        let (mut serving, mut hooking) = (Timer::new(), Timer::new());
        let (mut hooked, mut cut) = (None, false);
        {
            let mut hooks = pin!(cx.each_reported(names, &mut hooks));
            let mut over = pin!(over.cancelled());
            poll_fn(|cx| {
                if hooked.is_none() {
                    // The timer is polled before the hooks, since at the deadline the hooks' own steps cut the hooks.
                    let _ = hooking.poll(Some(hard), cx);
                    if let Poll::Ready(report) = span.enter(|| hooks.as_mut().poll(cx)) {
                        hooked = Some(report);
                    }
                }
                let gone = main.as_mut().is_some_and(|main| main.poll(cx).is_ready());
                let kept = !gone && serving.poll(Some(until), cx).is_pending();
                if !kept && hooked.is_some() {
                    return Poll::Ready(());
                }
                cut = over.as_mut().poll(cx).is_ready();
                match cut {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            })
            .await;
        }
        if let Some(ended) = step.end(result(hooked.as_ref(), cut)) {
            span.ends(ended.step.outcome());
            log::lame_duck_end(plan.component, &ended.step);
        }
        // The drop is contained, since the hooks are foreign code.
        let _ = contain(|| drop(hooks));
    }
}

/// Returns the result of the step `lame_duck`, from the report of its hooks.
fn result(hooked: Option<&Report>, cut: bool) -> CleanupResult {
    let hooked = match (hooked, cut) {
        (Some(hooked), false) => hooked,
        (Some(_), true) => {
            let why = "it was ended before its time, by a signal or a hurry";
            return CleanupResult::of(Outcome::Aborted, Some(why.into()));
        }
        (None, _) => {
            let why = "it was ended before its hooks had ended, by a signal or a hurry";
            return CleanupResult::of(Outcome::Aborted, Some(why.into()));
        }
    };
    let failed = hooked.steps().iter().find(|step| !step.is_clean());
    let outcome = match failed {
        Some(step) => {
            Outcome::Failed(BoxError::from(format!("{} {}", step.name(), step.outcome())).into())
        }
        None => Outcome::Done,
    };
    CleanupResult::of(outcome, None)
}

impl fmt::Debug for LameDuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LameDuck")
            .field("minimum", &self.minimum)
            .finish_non_exhaustive()
    }
}
