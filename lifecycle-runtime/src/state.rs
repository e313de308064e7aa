//! The state of an owner, the future of its shutdown, and the work of its `Drop`.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use crate::derived::{Owner, Steps, plan_of};
use crate::engine::{PollSpan, RunningPlan, begin_owner, contain};
use crate::report::Cut;
use crate::{GracefulShutdown, Plan, Reason, Report, clock, log};

/// The timeout of an owner that states none. Kubernetes kills a process after 30 s, so 5 s are left for the work before
/// and after the plan.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(25);

/// The state of an owner's shutdown: the field marked `#[shutdown(state)]`.
///
/// The state is not `Clone`, so an owner cannot be `Clone` either: dropping a clone must not end what the original
/// still uses. Hold the owner once, and give handlers cheap clones of its parts.
///
/// The state takes 16 bytes. Until the shutdown begins it creates no task, no timer and no allocation.
#[derive(Default)]
pub struct ShutdownState {
    inner: Inner,
}

#[derive(Default)]
enum Inner {
    #[default]
    Armed,
    /// The shutdown has begun. It has ended if this plan has a report.
    Running(Arc<RunningPlan>),
    Disarmed,
}

const _: () = assert!(size_of::<ShutdownState>() <= 16);

/// The bound of a `Clone` that never applies. No type implements it.
#[diagnostic::on_unimplemented(
    message = "an owner cannot be cloned: dropping the clone would shut down what the original still uses",
    label = "a `ShutdownState` has no `Clone`",
    note = "hold the owner once, and give handlers clones of its parts, such as an `Arc` or a `CancellationToken`",
    note = "for many parts, as axum's `State` takes them, derive `Clone` on a struct of its own that holds them"
)]
#[doc(hidden)]
pub trait ClonedOwner {}

/// An implementation that never applies. It exists for its compile error, which explains why an owner cannot derive
/// `Clone`, and what to do instead.
#[doc(hidden)]
impl Clone for ShutdownState
where
    for<'a> &'a Self: ClonedOwner,
{
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl ShutdownState {
    /// Creates the state of an owner that still has to be shut down.
    pub const fn new() -> Self {
        Self {
            inner: Inner::Armed,
        }
    }

    /// Declares that the owner has nothing left to shut down. A later shutdown runs no step, and the owner's `Drop`
    /// logs nothing.
    pub fn disarm(&mut self) {
        self.inner = Inner::Disarmed;
    }

    pub(crate) fn running(&self) -> Option<&Arc<RunningPlan>> {
        match &self.inner {
            Inner::Running(plan) => Some(plan),
            Inner::Armed | Inner::Disarmed => None,
        }
    }

    pub(crate) fn run(&mut self, plan: Arc<RunningPlan>) {
        self.inner = Inner::Running(plan);
    }

    pub(crate) fn is_disarmed(&self) -> bool {
        matches!(self.inner, Inner::Disarmed)
    }

    /// Logs that an owner with this plan is being dropped. Returns `false` and logs nothing if the owner's shutdown has
    /// ended or the owner is disarmed.
    pub(crate) fn log_drop(&self, plan: &Plan) -> bool {
        if self.is_disarmed()
            || self
                .running()
                .is_some_and(|running| running.report().is_some())
        {
            return false;
        }
        let steps = plan.steps().iter().enumerate();
        let left: Vec<_> = steps
            .filter(|&(i, _)| self.is_unfinished(i))
            .map(|(_, step)| step.name())
            .collect();
        log::dropped(plan.name(), &left);
        true
    }

    /// Returns whether step `i` has not ended.
    pub(crate) fn is_unfinished(&self, i: usize) -> bool {
        match &self.inner {
            Inner::Armed => true,
            Inner::Running(plan) => plan.is_unfinished(i),
            Inner::Disarmed => false,
        }
    }
}

impl Drop for ShutdownState {
    /// Logs the drop of an owner that has no `Drop` of its own (`no_drop`). The `Drop` of any other owner disarms the
    /// state first. The name of the owner's type is known only once the shutdown has begun.
    fn drop(&mut self) {
        match &self.inner {
            Inner::Armed => log::dropped("an unnamed owner", &[]),
            Inner::Running(plan) if plan.report().is_none() => {
                let steps = plan.unfinished(clock::now());
                let left: Vec<_> = steps.iter().map(|step| step.path()).collect();
                log::dropped(plan.component, &left);
            }
            Inner::Running(_) | Inner::Disarmed => {}
        }
        // The drop is contained, since the rows hold errors and closures of components, whose drops may panic.
        let inner = std::mem::take(&mut self.inner);
        let _ = contain(|| drop(inner));
    }
}

impl fmt::Debug for ShutdownState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.inner {
            Inner::Armed => "ShutdownState(armed)",
            Inner::Running(plan) if plan.report().is_none() => "ShutdownState(running)",
            Inner::Running(_) => "ShutdownState(ended)",
            Inner::Disarmed => "ShutdownState(disarmed)",
        })
    }
}

/// The future of a shutdown, from [`GracefulShutdown::shutdown`]. It does nothing until it is awaited.
///
/// # Cancel safety
///
/// Dropping the future half-way drops the running steps. The next `shutdown()` resumes the unfinished steps. Their
/// deadlines do not change.
#[must_use = "a shutdown does nothing until it is awaited: write `.await`"]
pub struct Shutdown<'a, S> {
    inner: ShutdownInner<'a>,
    owner: PhantomData<&'a mut S>,
}

/// The part of a `Shutdown` that does not depend on the owner's type, so that this part is compiled once.
struct ShutdownInner<'a> {
    reason: Reason,
    within: Option<Duration>,
    phase: Phase<'a>,
}

enum Phase<'a> {
    Waiting(&'a mut (dyn Owner + Send + 'a), &'static Plan),
    Running(RunPlan<'a>),
    Gone,
}

impl<'a, S: GracefulShutdown> Shutdown<'a, S> {
    pub(crate) fn new(server: &'a mut S) -> Self {
        Self {
            inner: ShutdownInner {
                reason: Reason::Requested,
                within: None,
                phase: Phase::Waiting(server, plan_of::<S>()),
            },
            owner: PhantomData,
        }
    }

    /// Sets the reason. A shutdown that has begun keeps its first reason.
    pub fn reason(mut self, reason: Reason) -> Self {
        self.inner.reason = reason;
        self
    }

    /// Sets the time limit of the whole plan, instead of the plan's timeout. The time begins at the first poll.
    ///
    /// If the plan needs more time than that, the time limits of all steps shrink in proportion. Even with no time at
    /// all every step is polled once. A shutdown that has begun keeps its deadline.
    pub fn within(mut self, within: Duration) -> Self {
        self.inner.within = Some(within);
        self
    }
}

impl<S: GracefulShutdown> Future for Shutdown<'_, S> {
    type Output = Report;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Report> {
        self.get_mut().inner.poll(cx)
    }
}

impl ShutdownInner<'_> {
    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<Report> {
        if let Phase::Waiting(..) = self.phase {
            if let Phase::Waiting(owner, plan) = std::mem::replace(&mut self.phase, Phase::Gone) {
                match begin(owner, plan, self.reason.clone(), self.within) {
                    Ok(run) => self.phase = Phase::Running(run),
                    Err(report) => return Poll::Ready(report),
                }
            }
        }
        let Phase::Running(running) = &mut self.phase else {
            return Poll::Pending;
        };
        let report = ready!(Pin::new(running).poll(cx));
        log::end(&report, report.exit_code());
        Poll::Ready(report)
    }
}

impl<S> fmt::Debug for Shutdown<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown")
            .field("reason", &self.inner.reason)
            .field("within", &self.inner.within)
            .finish_non_exhaustive()
    }
}

/// Begins or resumes a shutdown. Returns its report instead if no step is left to run.
fn begin<'a>(
    owner: &'a mut (dyn Owner + Send + 'a),
    plan: &'static Plan,
    reason: Reason,
    within: Option<Duration>,
) -> Result<RunPlan<'a>, Report> {
    let name = plan.name();
    if owner.__state().is_disarmed() {
        return Err(Report::new(
            name,
            reason,
            Duration::ZERO,
            Cut::default(),
            Vec::new(),
        ));
    }
    let running = match owner.__state().running() {
        Some(running) => Arc::clone(running),
        None => begin_owner(owner, plan, reason, within),
    };
    match running.report() {
        Some(report) => Err(report.clone()),
        None => {
            let budget = running.deadline();
            let budget = budget.saturating_duration_since(running.shared.began);
            let span = PollSpan::shutdown(name, &running.shared.reason, budget);
            Ok(RunPlan::of(owner, running, span))
        }
    }
}

/// Makes `plan`, whose clock is already running, the owner's plan, and returns it. If the owner's shutdown has begun
/// before, returns the plan of that shutdown instead.
pub(crate) fn resume(owner: &mut dyn Owner, plan: Arc<RunningPlan>) -> Arc<RunningPlan> {
    let state = owner.__state();
    if state.is_disarmed() {
        plan.finish_empty();
        return plan;
    }
    if let Some(running) = state.running() {
        return Arc::clone(running);
    }
    state.run(Arc::clone(&plan));
    plan
}

/// The future that runs an owner's plan, or the steps that are left of it. The owner's state holds the same plan.
pub(crate) struct RunPlan<'a> {
    running: Arc<RunningPlan>,
    /// The future of the steps. `None` once all steps have ended; their results are in the report.
    steps: Option<Steps<'a>>,
    span: PollSpan,
}

impl<'a> RunPlan<'a> {
    /// Creates the future that runs the plan `running` of `owner`. Each poll runs inside `span`.
    pub(crate) fn of(
        owner: &'a mut (dyn Owner + Send + 'a),
        running: Arc<RunningPlan>,
        span: PollSpan,
    ) -> Self {
        let steps = running.report().is_none().then(|| owner.__run());
        Self {
            running,
            steps,
            span,
        }
    }
}

impl Future for RunPlan<'_> {
    type Output = Report;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Report> {
        let Self { steps, span, .. } = &mut *self;
        if let Some(running) = steps {
            let _ = ready!(span.enter(|| running.as_mut().poll(cx)));
            *steps = None;
        }
        Poll::Ready(self.running.finish().clone())
    }
}
