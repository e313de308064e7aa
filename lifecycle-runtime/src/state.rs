//! The state of an owner, the future of its shutdown, and what its `Drop` does.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use crate::__private::plan_of;
use crate::context::after;
use crate::engine::{Live, Origin, Seat, Times, contain};
use crate::{Component, Context, GracefulShutdown, Plan, Reason, Report, clock, log};

/// The total budget of an owner that states none: Kubernetes kills after 30 s, and 5 s are left for
/// what is not the plan's.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(25);

/// Whether an owner was shut down: the field marked `#[shutdown(state)]`.
///
/// It is not `Clone`, so that an owner cannot be: a clone that is dropped must not end what the
/// original still uses. Hold the owner once and give handlers cheap clones of its parts.
///
/// It costs 16 bytes and nothing else until the shutdown begins: no task, no timer, no allocation.
#[derive(Default)]
pub struct ShutdownState {
    inner: Inner,
}

#[derive(Default)]
enum Inner {
    #[default]
    Armed,
    /// Begun; ended once the plan has a report.
    Running(Arc<Live>),
    Disarmed,
}

const _: () = assert!(size_of::<ShutdownState>() <= 16);

impl ShutdownState {
    /// The state of an owner that has to be shut down.
    pub const fn new() -> Self {
        Self {
            inner: Inner::Armed,
        }
    }

    /// There is nothing to shut down any more: a later shutdown runs no step, and `Drop` says nothing.
    pub fn disarm(&mut self) {
        self.inner = Inner::Disarmed;
    }

    pub(crate) fn live(&self) -> Option<&Arc<Live>> {
        match &self.inner {
            Inner::Running(live) => Some(live),
            Inner::Armed | Inner::Disarmed => None,
        }
    }

    pub(crate) fn run(&mut self, live: Arc<Live>) {
        self.inner = Inner::Running(live);
    }

    pub(crate) fn is_disarmed(&self) -> bool {
        matches!(self.inner, Inner::Disarmed)
    }

    /// Logs that its owner of this plan is dropped, unless that has nothing left to release.
    fn tell_of_drop(&self, plan: &Plan) -> bool {
        if self.is_disarmed() || self.live().is_some_and(|live| live.report().is_some()) {
            return false;
        }
        let steps = plan.steps().iter().enumerate();
        let left: Vec<_> = steps
            .filter(|&(i, _)| self.is_unfinished(i))
            .map(|(_, step)| step.name())
            .collect();
        // A subscriber is somebody's code too.
        let _ = contain(|| log::dropped(plan.name(), &left));
        true
    }

    /// Whether step `i` has not ended.
    pub(crate) fn is_unfinished(&self, i: usize) -> bool {
        match &self.inner {
            Inner::Armed => true,
            Inner::Running(live) => live.is_unfinished(i),
            Inner::Disarmed => false,
        }
    }
}

impl Drop for ShutdownState {
    /// The `Drop` of an owner disarms its state, so this speaks only where there is none (`no_drop`): the
    /// type's name is known once its shutdown began.
    fn drop(&mut self) {
        match &self.inner {
            Inner::Armed => {
                let _ = contain(|| log::dropped("an unnamed owner", &[]));
            }
            Inner::Running(live) if live.report().is_none() => {
                let steps = live.unfinished(clock::now());
                let left: Vec<_> = steps.iter().map(|step| step.path()).collect();
                let _ = contain(|| log::dropped(live.component, &left));
            }
            Inner::Running(_) | Inner::Disarmed => {}
        }
    }
}

impl fmt::Debug for ShutdownState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.inner {
            Inner::Armed => "ShutdownState(armed)",
            Inner::Running(live) if live.report().is_none() => "ShutdownState(running)",
            Inner::Running(_) => "ShutdownState(ended)",
            Inner::Disarmed => "ShutdownState(disarmed)",
        })
    }
}

/// A shutdown, made by [`GracefulShutdown::shutdown`]. It does nothing until it is awaited.
///
/// # Cancel safety
///
/// If it is dropped half-way, what runs is dropped with it; the next `shutdown()` takes up the steps
/// that have not ended, on the same clock.
#[must_use = "a shutdown does nothing until it is awaited: write `.await`"]
pub struct Shutdown<'a, S> {
    reason: Reason,
    within: Option<Duration>,
    state: Phase<'a, S>,
}

enum Phase<'a, S> {
    Waiting(&'a mut S),
    Running(Pin<Box<dyn Future<Output = Report> + Send + 'a>>),
    Gone,
}

impl<'a, S: GracefulShutdown> Shutdown<'a, S> {
    pub(crate) fn new(server: &'a mut S) -> Self {
        Self {
            reason: Reason::Requested,
            within: None,
            state: Phase::Waiting(server),
        }
    }

    /// Says why. A shutdown that has begun keeps its first reason.
    pub fn reason(mut self, reason: Reason) -> Self {
        self.reason = reason;
        self
    }

    /// Gives it this long instead of the plan's timeout, from its first poll. Where that is less than the plan
    /// needs, all budgets shrink in proportion; with nothing at all every step is still polled once. A shutdown that
    /// has begun keeps its deadline.
    pub fn within(mut self, within: Duration) -> Self {
        self.within = Some(within);
        self
    }
}

impl<S: GracefulShutdown> Future for Shutdown<'_, S> {
    type Output = Report;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Report> {
        let this = &mut *self;
        if let Phase::Waiting(_) = this.state {
            if let Phase::Waiting(server) = std::mem::replace(&mut this.state, Phase::Gone) {
                let (reason, within) = (this.reason.clone(), this.within);
                this.state = Phase::Running(Box::pin(begin(server, reason, within)));
            }
        }
        match &mut this.state {
            Phase::Running(running) => running.as_mut().poll(cx),
            Phase::Waiting(_) | Phase::Gone => Poll::Pending,
        }
    }
}

impl<S> fmt::Debug for Shutdown<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown")
            .field("reason", &self.reason)
            .field("within", &self.within)
            .finish_non_exhaustive()
    }
}

async fn begin<S: GracefulShutdown>(
    server: &mut S,
    reason: Reason,
    within: Option<Duration>,
) -> Report {
    let name = S::PLAN.name();
    if server.__state().is_disarmed() {
        return Report::new(name, reason, Duration::ZERO, None, Vec::new());
    }
    let live = match server.__state().live() {
        Some(live) => Arc::clone(live),
        None => {
            let now = clock::now();
            let within = within.unwrap_or_else(|| total(server));
            log::begin(name, &reason, Duration::ZERO, within);
            let live = Live::root(name, Origin::new(reason, now), after(now, within));
            resume(server, live)
        }
    };
    if let Some(report) = live.report() {
        return report.clone();
    }
    let report = conduct(server, &live).await;
    log::end(&report, report.exit_code());
    report
}

/// The total budget of this value.
pub(crate) fn total<S: Component>(server: &S) -> Duration {
    Times::of(server, &S::PLAN).total.unwrap_or(DEFAULT_TIMEOUT)
}

/// Has the owner's plan run on a clock that was started. If the owner began by itself before, that is
/// what goes on, and is returned.
pub(crate) fn resume<S: GracefulShutdown>(server: &mut S, live: Arc<Live>) -> Arc<Live> {
    let state = server.__state_mut();
    if state.is_disarmed() {
        live.finish_empty(clock::now());
        return live;
    }
    if let Some(live) = state.live() {
        return Arc::clone(live);
    }
    state.run(Arc::clone(&live));
    live
}

/// Runs the plan, or what is left of it.
pub(crate) async fn conduct<S: GracefulShutdown>(server: &mut S, live: &Arc<Live>) -> Report {
    if live.report().is_none() {
        let origin = &live.origin;
        let cx = Context::over(origin.reason.clone(), origin.began, live.deadline)
            .seated(Seat::root(Arc::clone(live)));
        // What it returns is in the report.
        let _ = server.cleanup(&cx).await;
    }
    live.finish(clock::now()).clone()
}

/// The body of an owner's `Drop`: one event if its shutdown was not awaited to the end, then what it
/// alone owns is released, in plan order.
pub fn dropped<S: GracefulShutdown>(server: &mut S) {
    if server.__state().tell_of_drop(plan_of::<S>()) {
        let _ = contain(|| server.release());
        server.__state_mut().disarm();
    }
}
