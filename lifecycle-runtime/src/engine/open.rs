//! The opening of a plan: its rows are created the first time, and found again when the shutdown is resumed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::StepHandle;
use super::abort_scope::address_of;
use super::resumed::NestedKind;
use super::running::RunningPlan;
use super::shared::ShutdownShared;
use super::timeouts::{RuntimeTimeouts, SetTimeout};
use crate::context::after;
use crate::derived::Owner;
use crate::state::DEFAULT_TIMEOUT;
use crate::{Context, Plan, Reason, clock, log};

/// A running plan that has been opened. Generated code opens the plan and joins its steps.
///
/// The type is not generic over the plan's type, so that it is compiled once.
#[derive(Debug)]
pub struct OpenPlan {
    pub(super) running: Arc<RunningPlan>,
    pub(super) plan: &'static Plan,
    /// The index of the plan's first row.
    pub(super) first: usize,
    pub(super) is_root: bool,
}

impl OpenPlan {
    /// Opens the plan of the part at `address`, or the plan of a variant of that part.
    pub fn part(cx: &Context, plan: &'static Plan, address: usize) -> Self {
        let timeouts = RuntimeTimeouts::constant(plan);
        Self::nested(cx, part_kind(cx), plan, address, &timeouts)
    }

    /// Opens the plan of a part whose timeouts `collect` computes at run time.
    pub fn timed_part(
        cx: &Context,
        plan: &'static Plan,
        address: usize,
        collect: &mut dyn FnMut(&mut SetTimeout<'_>),
    ) -> Self {
        let timeouts = RuntimeTimeouts::collect(plan, collect);
        Self::nested(cx, part_kind(cx), plan, address, &timeouts)
    }

    /// Opens the plan of an owner, and stores it in the owner's state.
    pub fn owner(cx: &Context, owner: &mut dyn Owner, plan: &'static Plan) -> Self {
        if let Some(running) = owner.__state().running() {
            let running = Arc::clone(running);
            if let Some(step) = cx.step() {
                // The owner's shutdown began, or even ended, before the step that cleans the owner did.
                adopt(cx, step, &running, owner);
            }
            if !running.is_laid_out() {
                let timeouts = RuntimeTimeouts::of(owner, plan);
                lay_out(&running, plan, &timeouts, clock::now());
            }
            return Self::of(running, plan, cx.is_root());
        }
        let is_own = cx.take_own();
        let timeouts = RuntimeTimeouts::of(owner, plan);
        let kind = NestedKind::Owner;
        let open = Self::nested(cx, kind, plan, address_of(owner), &timeouts);
        if owner.__state().is_disarmed() {
            open.running.finish_empty();
            if let (true, Some(step)) = (is_own, cx.step()) {
                step.found_nothing("it was disarmed");
            }
        } else {
            owner.__state().run(Arc::clone(&open.running));
        }
        open
    }

    fn nested(
        cx: &Context,
        kind: NestedKind,
        plan: &'static Plan,
        address: usize,
        timeouts: &RuntimeTimeouts,
    ) -> Self {
        let now = clock::now();
        let deadline = match timeouts.total {
            Some(total) => cx.hard_deadline().min(after(now, total)),
            None => cx.hard_deadline(),
        };
        let running = match cx.step() {
            Some(step) => step.open(kind, plan.name(), deadline, address, Arc::default()),
            None => {
                let shared = ShutdownShared::new(cx.reason().clone(), now);
                RunningPlan::root(plan.name(), shared, deadline)
            }
        };
        if !running.is_laid_out() {
            lay_out(&running, plan, timeouts, now);
        }
        Self::of(running, plan, false)
    }

    fn of(running: Arc<RunningPlan>, plan: &'static Plan, is_root: bool) -> Self {
        let first = running.first();
        Self {
            running,
            plan,
            first,
            is_root,
        }
    }

    /// Returns the handle of step `i`.
    pub fn step(&self, i: usize) -> StepHandle {
        StepHandle::new(Arc::clone(&self.running), self.first + i)
    }
}

/// Begins the plan of an owner that is not inside another plan. The plan has the time `within`, or its own timeout.
pub(crate) fn begin_owner(
    owner: &mut dyn Owner,
    plan: &'static Plan,
    reason: Reason,
    within: Option<Duration>,
) -> Arc<RunningPlan> {
    let now = clock::now();
    let timeouts = RuntimeTimeouts::of(owner, plan);
    let within = within.unwrap_or_else(|| timeouts.total.unwrap_or(DEFAULT_TIMEOUT));
    log::begin(plan.name(), &reason, Duration::ZERO, within);
    let shared = ShutdownShared::new(reason, now);
    let running = RunningPlan::root(plan.name(), shared, after(now, within));
    lay_out(&running, plan, &timeouts, now);
    owner.__state().run(Arc::clone(&running));
    running
}

/// Returns `Own` for the part that is the step's field, and `Anonymous` for a part that cannot be told from others.
fn part_kind(cx: &Context) -> NestedKind {
    match cx.take_own() {
        true => NestedKind::Own,
        false => NestedKind::Anonymous,
    }
}

/// Attaches an owner's plan to `step`, which cleans the owner.
fn adopt(cx: &Context, step: &StepHandle, running: &Arc<RunningPlan>, owner: &dyn Owner) {
    step.adopt(running, address_of(owner));
    let ended_before = running.report().is_some_and(crate::Report::is_clean)
        && !Arc::ptr_eq(&running.shared, step.shared());
    if cx.take_own() && ended_before {
        step.found_nothing("it had been shut down before");
    }
}

fn lay_out(running: &RunningPlan, plan: &'static Plan, timeouts: &RuntimeTimeouts, now: Instant) {
    if let Some((needed, given)) = running.lay_out(plan, timeouts, now) {
        if timeouts.has_runtime_timeouts {
            log::shrunk(plan.name(), needed, given);
        }
    }
}
