//! Plans: the steps of a type with their order and time limits, as constants.

mod prove;
mod resolved;
mod step_set;

use std::fmt;
use std::time::Duration;

pub use resolved::{ResolvedPlan, ResolvedStep};
#[cfg(feature = "rt")]
pub(crate) use resolved::{clip, resolve};
pub(crate) use step_set::StepSet;

/// The largest number of steps that one plan may have.
pub(crate) const MAX_STEPS: usize = 256;

/// The time that a step counts if it has neither a timeout nor a nested plan.
pub(crate) const UNSTATED: Duration = Duration::from_secs(1);

/// The steps of a type, with their order and time limits: `T::PLAN`.
///
/// Displaying a plan with `{}` prints a table; [`to_mermaid`](Self::to_mermaid) draws a diagram.
///
/// ```
/// use lifecycle_runtime::Plan;
///
/// const LEAF: Plan = Plan::leaf();
/// assert_eq!(LEAF.budget(), None);
/// assert!(LEAF.steps().is_empty());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub(crate) name: &'static str,
    pub(crate) timeout: Option<Duration>,
    /// The time of the longest path through the steps. It is stored, so that each nested plan is summed only once.
    pub(crate) longest: Option<Duration>,
    pub(crate) steps: &'static [PlanStep],
    pub(crate) one_of: bool,
    /// Whether the type is an owner, so that a main may run before the plan.
    pub(crate) is_owner: bool,
    /// Whether the component consists only of its parts, each of which has a row of its own.
    #[cfg_attr(not(feature = "rt"), allow(dead_code))] // only the engine asks
    pub(crate) is_composite: bool,
    /// The time that a step with this plan counts if it has no timeout, in nanoseconds.
    pub(crate) cost: u128,
}

impl Plan {
    #[doc(hidden)]
    pub const LEAF: &'static Self = &Self::leaf();

    /// Creates the plan of a component without steps.
    pub const fn leaf() -> Self {
        Self {
            name: "",
            timeout: None,
            longest: None,
            steps: &[],
            one_of: false,
            is_owner: false,
            is_composite: false,
            cost: UNSTATED.as_nanos(),
        }
    }

    /// Creates the plan of a container whose elements are leaves. Like a leaf's plan, it has no timeouts.
    #[cfg(feature = "rt")]
    pub(crate) const fn of_leaves() -> Self {
        Self {
            is_composite: true,
            ..Self::leaf()
        }
    }

    /// Returns the name of the type, or the text of `name = "…"`. Empty for a leaf.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the longest time that the plan may take: its timeout, or else the time of its longest path. In that path
    /// a step without a timeout or nested plan counts 1 s, and a run-time timeout counts its `at_most`. `None` for a
    /// leaf.
    pub const fn budget(&self) -> Option<Duration> {
        match self.timeout {
            Some(timeout) => Some(timeout),
            None => self.longest,
        }
    }

    /// Returns how long the main of [`run`](crate::run) may take once the shutdown has begun: the plan's timeout minus
    /// the time of the longest path through the steps. In that path a step without a timeout counts 1 s.
    ///
    /// The runner waits for main before it runs the plan. The time that main does not use is left to the steps without
    /// a timeout, which get at least 1 s each. In a plan that leaves main less than 1 s, main counts 1 s, and the times
    /// of main and all steps are shortened in proportion.
    ///
    /// A run-time timeout counts its `at_most`. The method returns `None` if a run-time timeout has no `at_most`, and
    /// for a leaf or a part. [`ResolvedPlan::main_share`] knows all timeouts.
    ///
    /// Print the plan to see this time, or assert it:
    ///
    #[cfg_attr(feature = "derive", doc = "```")]
    #[cfg_attr(not(feature = "derive"), doc = "```ignore")]
    /// # use lifecycle_runtime::{Component, GracefulShutdown, ShutdownState, TaskGroup};
    /// #[derive(GracefulShutdown)]
    /// #[shutdown(strict, timeout = "25s")]
    /// struct Server {
    ///     #[shutdown(timeout = "17s")]
    ///     tasks: TaskGroup,
    ///     #[shutdown(state)]
    ///     state: ShutdownState,
    /// }
    ///
    /// const MAIN: std::time::Duration = Server::PLAN.main_share().unwrap();
    /// const _: () = assert!(MAIN.as_secs() >= 8, "requests may take 8 s");
    /// # fn main() {}
    /// ```
    pub const fn main_share(&self) -> Option<Duration> {
        let mut i = 0;
        while i < self.steps.len() {
            if self.steps[i].runtime && self.steps[i].timeout.is_none() {
                return None;
            }
            i += 1;
        }
        match (self.timeout, self.longest) {
            (Some(timeout), Some(longest)) if self.is_owner => Some(main_share(longest, timeout)),
            _ => None,
        }
    }

    /// Returns the steps, in an order in which they could run one by one. The steps of an enum's plan are its variants.
    pub const fn steps(&self) -> &'static [PlanStep] {
        self.steps
    }

    /// Draws the plan as a Mermaid flowchart.
    pub fn to_mermaid(&self) -> String {
        ResolvedPlan::from(*self).to_mermaid()
    }

    #[doc(hidden)]
    #[track_caller]
    pub const fn __new(
        name: &'static str,
        timeout: Option<Duration>,
        steps: &'static [PlanStep],
    ) -> Self {
        if steps.len() > MAX_STEPS {
            prove::too_many(name, steps);
        }
        let longest = prove::longest(steps);
        Self {
            name,
            timeout,
            longest: Some(longest),
            steps,
            one_of: false,
            is_owner: false,
            is_composite: true,
            cost: match timeout {
                Some(timeout) => timeout.as_nanos(),
                None => longest.as_nanos(),
            },
        }
    }

    #[doc(hidden)]
    pub const fn __one_of(name: &'static str, variants: &'static [PlanStep]) -> Self {
        let mut most = 0;
        let mut i = 0;
        while i < variants.len() {
            if variants[i].cost > most {
                most = variants[i].cost;
            }
            i += 1;
        }
        Self {
            name,
            timeout: None,
            longest: Some(prove::from_nanos(most)),
            steps: variants,
            one_of: true,
            is_owner: false,
            is_composite: true,
            cost: most,
        }
    }

    #[doc(hidden)]
    pub const fn __owner(mut self) -> Self {
        self.is_owner = true;
        self
    }

    /// Creates a plan of steps that do not wait for each other, like the plan of a tuple.
    #[cfg(feature = "rt")]
    pub(crate) const fn together(steps: &'static [PlanStep]) -> Self {
        Self::__new("", None, steps)
    }

    #[doc(hidden)]
    pub const fn __variant(&self, index: usize) -> &Self {
        match self.steps[index].nested {
            Some(plan) => plan,
            // A variant without steps counts as a leaf.
            None => Self::LEAF,
        }
    }

    #[doc(hidden)]
    #[track_caller]
    pub const fn __prove(&self) {
        prove::prove(self, "");
    }

    /// Does the work of `__prove` for a plan with the default timeout.
    #[doc(hidden)]
    #[track_caller]
    pub const fn __prove_default(&self) {
        prove::prove(self, ", as it states none");
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ResolvedPlan::from(*self).fmt(f)
    }
}

/// Returns how long main may take before a plan whose longest path takes `longest`, if main and plan together have the
/// time `given`. Main counts as much as a step without a timeout. If main and plan need more than `given`, all times
/// are shortened in proportion.
pub(crate) const fn main_share(longest: Duration, given: Duration) -> Duration {
    let needed = longest.saturating_add(UNSTATED);
    if needed.as_nanos() <= given.as_nanos() {
        given.saturating_sub(longest)
    } else {
        prove::from_nanos(given.as_nanos() * UNSTATED.as_nanos() / needed.as_nanos())
    }
}

/// A step of a [`Plan`].
#[derive(Clone, Copy, Debug)]
pub struct PlanStep {
    pub(crate) name: &'static str,
    pub(crate) priority: i32,
    pub(crate) after: StepSet,
    pub(crate) timeout: Option<Duration>,
    pub(crate) runtime: bool,
    pub(crate) required: bool,
    pub(crate) best_effort: bool,
    pub(crate) how: &'static str,
    /// The plan of the field's type. `None` for a leaf, which has no steps to show.
    pub(crate) nested: Option<&'static Plan>,
    /// The time that the step counts in the longest path, in nanoseconds.
    pub(crate) cost: u128,
}

impl PlanStep {
    /// Returns the name of the field, or its index in a tuple.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the priority. Lower numbers run first.
    pub const fn priority(&self) -> i32 {
        self.priority
    }

    /// Returns the steps for which this step waits directly, as indices into [`Plan::steps`].
    pub fn after(&self) -> impl Iterator<Item = usize> + use<> {
        self.after.iter()
    }

    /// Returns the step's own timeout, if it is known at compile time.
    pub const fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Returns whether the later steps that depend on this one are skipped if this step does not succeed.
    pub const fn is_required(&self) -> bool {
        self.required
    }

    /// Returns whether the report stays clean if the step fails.
    pub const fn is_best_effort(&self) -> bool {
        self.best_effort
    }

    /// Returns the plan of the field's type, if that has steps.
    pub const fn nested(&self) -> Option<&Plan> {
        self.nested
    }

    #[doc(hidden)]
    pub const fn __new(name: &'static str, priority: i32) -> Self {
        Self {
            name,
            priority,
            after: StepSet::NONE,
            timeout: None,
            runtime: false,
            required: false,
            best_effort: false,
            how: "",
            nested: None,
            cost: UNSTATED.as_nanos(),
        }
    }

    /// Creates a step with the usual settings in one call, since plans are long and compiled often.
    #[doc(hidden)]
    pub const fn __of(
        name: &'static str,
        priority: i32,
        after: u128,
        timeout: Option<Duration>,
        nested: &'static Plan,
    ) -> Self {
        Self {
            name,
            priority,
            after: StepSet {
                low: after,
                high: 0,
            },
            timeout,
            runtime: false,
            required: false,
            best_effort: false,
            how: "",
            nested: match nested.steps {
                [] => None,
                _ => Some(nested),
            },
            cost: match timeout {
                Some(timeout) => timeout.as_nanos(),
                None => nested.cost,
            },
        }
    }

    /// Adds those steps for which this step waits whose index is 128 or more.
    #[doc(hidden)]
    pub const fn __after_late(mut self, late: u128) -> Self {
        self.after.high = late;
        self
    }

    #[doc(hidden)]
    pub const fn __runtime(mut self) -> Self {
        self.runtime = true;
        self
    }

    #[doc(hidden)]
    pub const fn __required(mut self) -> Self {
        self.required = true;
        self
    }

    #[doc(hidden)]
    pub const fn __best_effort(mut self) -> Self {
        self.best_effort = true;
        self
    }

    #[doc(hidden)]
    pub const fn __how(mut self, how: &'static str) -> Self {
        self.how = how;
        self
    }

    #[doc(hidden)]
    pub const fn __nested(self, plan: &'static Plan) -> Self {
        Self {
            nested: match plan.steps {
                [] => None,
                _ => Some(plan),
            },
            cost: plan.cost,
            ..self
        }
    }
}
