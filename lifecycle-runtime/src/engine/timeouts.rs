//! The timeouts of one value's plan, with those that are known only at run time.

use std::time::Duration;

use super::contain;
use crate::context::FOREVER;
use crate::derived::Owner;
use crate::plan::{UNSTATED, clip};
use crate::{Plan, log};

/// Sets a timeout that only a value knows: of the plan, or of the step with this index.
pub type SetTimeout<'a> = dyn FnMut(Option<usize>, Duration) + 'a;

pub(crate) struct RuntimeTimeouts {
    pub(crate) total: Option<Duration>,
    steps: Vec<Option<Duration>>,
    /// Whether any of them was computed, so that no proof covers the plan.
    pub(super) has_runtime_timeouts: bool,
}

impl RuntimeTimeouts {
    /// Builds the timeouts of a plan whose durations are all constants.
    pub(super) fn stated(plan: &Plan) -> Self {
        Self {
            total: plan.timeout.map(|total| total.min(FOREVER)),
            steps: Vec::new(),
            has_runtime_timeouts: false,
        }
    }

    /// Collects the timeouts of an owner's plan.
    pub(crate) fn of(owner: &dyn Owner, plan: &Plan) -> Self {
        Self::collect(plan, &mut |set| owner.__times(set))
    }

    /// Builds the timeouts of a plan, with those that `collect` computes.
    pub(super) fn collect(plan: &Plan, collect: &mut dyn FnMut(&mut SetTimeout<'_>)) -> Self {
        let mut times = Self::stated(plan);
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

    /// The longest path through the plan, for which this much is given.
    pub(crate) fn longest(&self, plan: &Plan, given: Duration) -> Duration {
        let mut tails = vec![Duration::ZERO; plan.steps.len()];
        self.tails(plan, self.most(given), &mut tails, |tail| tail)
    }

    /// The most that one computed timeout counts for: an absurd one must not leave the others nothing.
    pub(super) fn most(&self, given: Duration) -> Duration {
        self.total.map_or(given, |total| total.max(given))
    }

    /// The timeout of step `i`.
    pub(super) fn timeout(&self, plan: &Plan, i: usize, most: Duration) -> Option<Duration> {
        let computed = self.steps.get(i).copied().flatten();
        computed
            .map(|time| time.min(most))
            .or(plan.steps[i].timeout)
    }

    /// The longest path through the whole plan. The longest after each step is written into its row, where it must be
    /// zero before.
    pub(super) fn tails<R>(
        &self,
        plan: &Plan,
        most: Duration,
        rows: &mut [R],
        tail: fn(&mut R) -> &mut Duration,
    ) -> Duration {
        let mut longest = Duration::ZERO;
        // Backwards: what is after a step is known once all later steps are.
        for (i, step) in plan.steps.iter().enumerate().rev() {
            let nested = || step.nested.and_then(Plan::budget);
            let cost = self
                .timeout(plan, i, most)
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
