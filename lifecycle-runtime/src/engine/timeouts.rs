//! The timeouts of one value's plan, including the timeouts that are computed at run time.

use std::time::Duration;

use super::contain;
use crate::context::FOREVER;
use crate::derived::Owner;
use crate::plan::{UNSTATED, clip};
use crate::{Plan, log};

/// A callback that sets a timeout that was computed at run time: for the step with the given index, or for the whole
/// plan if the index is `None`.
pub type SetTimeout<'a> = dyn FnMut(Option<usize>, Duration) + 'a;

pub(crate) struct RuntimeTimeouts {
    pub(crate) total: Option<Duration>,
    steps: Vec<Option<Duration>>,
    /// Whether any timeout was computed at run time, so that no compile-time proof covers the plan.
    pub(super) has_runtime_timeouts: bool,
}

impl RuntimeTimeouts {
    /// Builds the timeouts of a plan whose durations are all constants.
    pub(super) fn constant(plan: &Plan) -> Self {
        Self {
            total: plan.timeout.map(|total| total.min(FOREVER)),
            steps: Vec::new(),
            has_runtime_timeouts: false,
        }
    }

    /// Builds the timeouts of an owner's plan, including those that the owner computes.
    pub(crate) fn of(owner: &dyn Owner, plan: &Plan) -> Self {
        Self::collect(plan, &mut |set| owner.__times(set))
    }

    /// Builds the timeouts of a plan, including those that `collect` computes.
    pub(super) fn collect(plan: &Plan, collect: &mut dyn FnMut(&mut SetTimeout<'_>)) -> Self {
        let mut times = Self::constant(plan);
        let evaluated = contain(|| collect(&mut |at, given| times.set(plan, at, given)));
        if let Err(message) = evaluated {
            log::timeout_panicked(plan.name(), &message);
        }
        times
    }

    fn set(&mut self, plan: &Plan, at: Option<usize>, given: Duration) {
        self.has_runtime_timeouts = true;
        let Some(i) = at else {
            self.total = Some(clip(given, plan.timeout).min(FOREVER));
            return;
        };
        if self.steps.is_empty() {
            self.steps.resize(plan.steps.len(), None);
        }
        if let (Some(slot), Some(step)) = (self.steps.get_mut(i), plan.steps.get(i)) {
            *slot = Some(clip(given, step.timeout));
        }
    }

    /// Returns the time that the longest path through a plan needs, if the plan is given this much time.
    pub(crate) fn longest(&self, plan: &Plan, given: Duration) -> Duration {
        let mut tails = vec![Duration::ZERO; plan.steps.len()];
        self.fill_tails(plan, self.cap(given), &mut tails, |tail| tail)
    }

    /// Returns the largest value that a computed step timeout may have. The cap keeps an absurd timeout from taking all
    /// the time of the other steps.
    pub(super) fn cap(&self, given: Duration) -> Duration {
        self.total.map_or(given, |total| total.max(given))
    }

    /// Returns the timeout of step `i`.
    pub(super) fn timeout(&self, plan: &Plan, i: usize, cap: Duration) -> Option<Duration> {
        let computed = self.steps.get(i).copied().flatten();
        computed.map(|time| time.min(cap)).or(plan.steps[i].timeout)
    }

    /// Returns the time that the longest path through the plan needs, and writes the time of the longest path after
    /// each step into that step's row. These fields must be zero before the call.
    pub(super) fn fill_tails<R>(
        &self,
        plan: &Plan,
        cap: Duration,
        rows: &mut [R],
        tail: fn(&mut R) -> &mut Duration,
    ) -> Duration {
        let mut longest = Duration::ZERO;
        // The loop goes backwards, so that the paths after a step are known when the step is visited.
        for (i, step) in plan.steps.iter().enumerate().rev() {
            let nested = || step.nested.and_then(Plan::budget);
            let cost = self
                .timeout(plan, i, cap)
                .or_else(nested)
                .unwrap_or(UNSTATED);
            let path = tail(&mut rows[i]).saturating_add(cost);
            longest = longest.max(path);
            for earlier in step.after() {
                let tail = tail(&mut rows[earlier]);
                *tail = path.max(*tail);
            }
        }
        longest
    }
}
