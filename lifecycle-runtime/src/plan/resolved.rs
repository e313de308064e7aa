//! Plans of values, with their run-time timeouts, and the tables and diagrams of plans.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::time::Duration;

use super::{Plan, PlanStep};
#[cfg(feature = "rt")]
use super::{main_share, prove::longest};
#[cfg(feature = "rt")]
use crate::engine::SetTimeout;
use crate::text::{self, Label};

/// The plan of one value: its [`Plan`] with the timeouts that are known only at run time.
///
/// Displaying a plan with `{}` prints a table; [`to_mermaid`](Self::to_mermaid) draws a diagram.
#[derive(Clone, Debug)]
pub struct ResolvedPlan {
    name: &'static str,
    budget: Option<Duration>,
    main_share: Option<Duration>,
    one_of: bool,
    steps: Vec<ResolvedStep>,
}

/// A step of a [`ResolvedPlan`].
#[derive(Clone, Debug)]
pub struct ResolvedStep {
    step: PlanStep,
    /// The step's timeout, or else the time limit of its nested plan.
    budget: Option<Duration>,
    nested: Option<ResolvedPlan>,
}

impl From<Plan> for ResolvedPlan {
    fn from(plan: Plan) -> Self {
        Self {
            name: plan.name,
            budget: plan.budget(),
            main_share: plan.main_share(),
            one_of: plan.one_of,
            steps: plan
                .steps
                .iter()
                .map(|&step| ResolvedStep::from(step))
                .collect(),
        }
    }
}

impl From<PlanStep> for ResolvedStep {
    fn from(step: PlanStep) -> Self {
        let nested = step.nested.map(|plan| ResolvedPlan::from(*plan));
        Self {
            budget: step.timeout.or(step.nested.and_then(|plan| plan.budget())),
            nested,
            step,
        }
    }
}

impl ResolvedPlan {
    /// Returns the name of the type, or the text of `name = "…"`.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Returns the longest time that the plan may take. `None` for a leaf.
    pub fn budget(&self) -> Option<Duration> {
        self.budget
    }

    /// Returns how long main may take once the shutdown has begun; see [`Plan::main_share`]. `None` unless the plan is
    /// an owner's.
    pub fn main_share(&self) -> Option<Duration> {
        self.main_share
    }

    /// Returns the steps, in an order in which they could run one by one. The steps of an enum's plan are its variants.
    pub fn steps(&self) -> &[ResolvedStep] {
        &self.steps
    }

    /// Returns the [budget](ResolvedStep::budget) of the step at `path`, such as `"storage.pool"`.
    pub fn step_budget(&self, path: &str) -> Option<Duration> {
        let (first, rest) = match path.split_once('.') {
            Some((first, rest)) => (first, Some(rest)),
            None => (path, None),
        };
        let step = self.steps.iter().find(|step| step.step.name == first)?;
        match rest {
            Some(rest) => step.nested.as_ref()?.step_budget(rest),
            None => step.budget,
        }
    }

    /// Draws the plan as a Mermaid flowchart.
    pub fn to_mermaid(&self) -> String {
        let mut out = String::from("flowchart LR\n");
        self.draw(&mut out, "s", 1);
        out
    }

    fn draw(&self, out: &mut String, prefix: &str, depth: usize) {
        let pad = "    ".repeat(depth);
        for (i, row) in self.steps.iter().enumerate() {
            let id = format!("{prefix}{i}");
            let budget = row
                .budget
                .map(|budget| format!("<br/>{budget:?}"))
                .unwrap_or_default();
            match &row.nested {
                Some(nested) => {
                    // Errors are ignored here and below, since writing to a `String` cannot fail.
                    let _ = writeln!(
                        out,
                        "{pad}subgraph {id}[\"{}{budget}\"]",
                        Label(row.step.name)
                    );
                    nested.draw(out, &format!("{id}_"), depth + 1);
                    let _ = writeln!(out, "{pad}end");
                }
                None => {
                    let _ = writeln!(out, "{pad}{id}[\"{}{budget}\"]", Label(row.step.name));
                }
            }
        }
        for (i, row) in self.steps.iter().enumerate() {
            for earlier in row.step.after() {
                let _ = writeln!(out, "{pad}{prefix}{earlier} --> {prefix}{i}");
            }
        }
    }

    fn rows(&self, depth: usize, rows: &mut Vec<[String; 5]>) {
        let indent = "  ".repeat(depth);
        for row in &self.steps {
            let step = &row.step;
            let after: Vec<_> = step.after().map(|i| self.steps[i].step.name).collect();
            // A variant without fields has nothing to clean, whatever its attributes say.
            let is_empty = self.one_of && row.nested.is_none();
            let mut how = Cow::from(if is_empty { NOTHING } else { step.how });
            for (is, word) in [
                (step.required, "required"),
                (step.best_effort, "best effort"),
            ] {
                if is {
                    how = match &*how {
                        "" => word.into(),
                        how => format!("{how}, {word}").into(),
                    };
                }
            }
            rows.push([
                if self.one_of {
                    String::new()
                } else {
                    format!("{indent}{}", step.priority)
                },
                format!("{indent}{}", step.name),
                after.join(", "),
                match row.budget {
                    Some(budget) => format!("{budget:?}"),
                    None if is_empty => String::new(),
                    None if step.runtime => "at run time".into(),
                    None => "what is left".into(),
                },
                how.into_owned(),
            ]);
            if let Some(nested) = &row.nested {
                nested.rows(depth + 1, rows);
            }
        }
    }
}

impl ResolvedStep {
    /// Returns the name of the field, or its index in a tuple.
    pub fn name(&self) -> &str {
        self.step.name
    }

    /// Returns the priority. Lower numbers run first.
    pub fn priority(&self) -> i32 {
        self.step.priority
    }

    /// Returns the steps for which this step waits directly, as indices into [`ResolvedPlan::steps`].
    pub fn after(&self) -> impl Iterator<Item = usize> + use<> {
        self.step.after()
    }

    /// Returns the timeout of the step, or else the time limit of its nested plan. `None` for a step that has neither:
    /// such a step may use the time that the other steps leave.
    pub fn budget(&self) -> Option<Duration> {
        self.budget
    }

    /// Returns whether the later steps that depend on this one are skipped if this step does not succeed.
    pub fn is_required(&self) -> bool {
        self.step.required
    }

    /// Returns whether the report stays clean if the step fails.
    pub fn is_best_effort(&self) -> bool {
        self.step.best_effort
    }

    /// Returns the plan of the field's value, if that has steps.
    pub fn nested(&self) -> Option<&ResolvedPlan> {
        self.nested.as_ref()
    }
}

/// The text in place of a plan that has no steps.
const NOTHING: &str = "nothing to clean";

impl fmt::Display for ResolvedPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}",
            if self.name.is_empty() {
                "plan"
            } else {
                self.name
            }
        )?;
        if self.steps.is_empty() {
            return write!(f, ": {NOTHING}");
        }
        if let Some(budget) = self.budget {
            write!(f, ": at most {budget:?}")?;
        }
        if let Some(share) = self.main_share {
            write!(f, " (main: up to {share:?})")?;
        }
        let mut rows = vec![["order", "step", "waits for", "budget", "how"].map(String::from)];
        self.rows(0, &mut rows);
        text::table(f, &rows)
    }
}

/// Builds the resolved plan of a value from `plan`, the plans of the value's fields (with the index of each field's
/// step) and the run-time timeouts that `collect_timeouts` reports.
#[cfg(feature = "rt")]
pub(crate) fn resolve(
    plan: Plan,
    fields: Vec<(usize, ResolvedPlan)>,
    collect_timeouts: Option<&mut dyn FnMut(&mut SetTimeout<'_>)>,
) -> ResolvedPlan {
    let mut resolved = ResolvedPlan::from(plan);
    for (i, nested) in fields {
        if let Some(row) = resolved.steps.get_mut(i) {
            row.budget = row.step.timeout.or(nested.budget);
            row.nested = (!nested.steps.is_empty()).then_some(nested);
        }
    }
    let mut costs = plan.steps.to_vec();
    let mut total = None;
    let mut set = |at: Option<usize>, given| match at {
        None => total = Some(clip(given, plan.timeout)),
        Some(i) => {
            if let Some(row) = resolved.steps.get_mut(i) {
                row.budget = Some(clip(given, row.step.timeout));
            }
            if let Some(step) = costs.get_mut(i) {
                step.cost = clip(given, step.timeout).as_nanos();
            }
        }
    };
    if let Some(collect) = collect_timeouts {
        collect(&mut set);
    }
    if let Some(total) = total.or(plan.timeout) {
        resolved.budget = Some(total);
        if plan.is_owner {
            // No step may count for more than the whole plan's time, however long its own timeout is.
            for step in &mut costs {
                step.cost = step.cost.min(total.as_nanos());
            }
            resolved.main_share = Some(main_share(longest(&costs), total));
        }
    }
    resolved
}

/// Shortens a run-time timeout to its `at_most`.
#[cfg(feature = "rt")]
pub(crate) fn clip(given: Duration, at_most: Option<Duration>) -> Duration {
    at_most.map_or(given, |most| given.min(most))
}

#[cfg(feature = "serde")]
mod serialize {
    //! The serialized form of plans. Durations are whole milliseconds, and `after` lists steps by name.

    use serde::ser::{Serialize, SerializeStruct, Serializer};

    use super::{Plan, ResolvedPlan, ResolvedStep};
    use crate::text::millis;

    impl Serialize for Plan {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            ResolvedPlan::from(*self).serialize(serializer)
        }
    }

    impl Serialize for ResolvedPlan {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let steps: Vec<_> = self.steps.iter().map(|step| Row(self, step)).collect();
            let mut out = serializer.serialize_struct("Plan", 5)?;
            out.serialize_field("name", self.name)?;
            out.serialize_field("budget_ms", &self.budget.map(millis))?;
            out.serialize_field("main_ms", &self.main_share.map(millis))?;
            out.serialize_field("one_of", &self.one_of)?;
            out.serialize_field("steps", &steps)?;
            out.end()
        }
    }

    /// A step and its plan. The plan gives the names of the steps before it.
    struct Row<'a>(&'a ResolvedPlan, &'a ResolvedStep);

    impl Serialize for Row<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let Self(
                plan,
                ResolvedStep {
                    step,
                    budget,
                    nested,
                },
            ) = self;
            let after: Vec<_> = step
                .after()
                .map(|earlier| plan.steps[earlier].step.name)
                .collect();
            let mut out = serializer.serialize_struct("Step", 8)?;
            out.serialize_field("name", step.name)?;
            out.serialize_field("priority", &step.priority)?;
            out.serialize_field("after", &after)?;
            out.serialize_field("budget_ms", &budget.map(millis))?;
            out.serialize_field("required", &step.required)?;
            out.serialize_field("best_effort", &step.best_effort)?;
            out.serialize_field("how", step.how)?;
            out.serialize_field("plan", nested)?;
            out.end()
        }
    }
}
