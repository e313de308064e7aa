//! The steps of a report.

use std::borrow::Cow;
use std::time::Duration;

use super::Outcome;

/// A step of a [`Report`](crate::Report).
#[derive(Clone, Debug)]
pub struct Step {
    pub(crate) name: Cow<'static, str>,
    pub(crate) priority: i32,
    pub(crate) started: Nanos,
    pub(crate) elapsed: Nanos,
    pub(crate) budget: Nanos,
    pub(crate) best_effort: bool,
    pub(crate) outcome: Outcome,
    /// The reason why the step was skipped or aborted.
    pub(crate) why: Option<Box<str>>,
    /// Whether the step was skipped because there was nothing to clean.
    pub(crate) nothing: bool,
    pub(crate) steps: Vec<Step>,
}

/// A duration in nanoseconds. This type is half as large as a [`Duration`], and every row of a report has three of
/// them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Nanos(u64);

impl Nanos {
    pub(crate) fn get(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}

impl From<Duration> for Nanos {
    fn from(duration: Duration) -> Self {
        // A duration above five centuries is shortened to the largest value.
        Self(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Drop for Step {
    /// Drops the error inside a `catch_unwind`, since a foreign error may panic when it is dropped. Two such panics in
    /// one report's drop would abort the process.
    fn drop(&mut self) {
        if let Outcome::Failed(_) = self.outcome {
            crate::reason::drop_error(std::mem::replace(&mut self.outcome, Outcome::Skipped));
        }
    }
}

#[cfg(feature = "rt")]
impl Step {
    /// Creates a row for work outside a plan. Its outcome is `Done`, which the caller may change.
    pub(crate) fn outside_plan(
        name: impl Into<Cow<'static, str>>,
        started: Duration,
        elapsed: Duration,
        budget: Duration,
    ) -> Self {
        Self {
            name: name.into(),
            priority: 0,
            started: started.into(),
            elapsed: elapsed.into(),
            budget: budget.into(),
            best_effort: false,
            outcome: Outcome::Done,
            why: None,
            nothing: false,
            steps: Vec::new(),
        }
    }
}

impl Step {
    /// Returns the name of the field, or `[key]` for an element of a container.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the priority. Steps with lower numbers ran first.
    pub fn priority(&self) -> i32 {
        self.priority
    }

    /// Returns the time from the beginning of the shutdown until the step started or was skipped.
    pub fn started(&self) -> Duration {
        self.started.get()
    }

    /// Returns how long the step took. A step that blocked its thread may take longer than its
    /// [`budget`](Self::budget).
    pub fn elapsed(&self) -> Duration {
        self.elapsed.get()
    }

    /// Returns the time that the step was given when it started.
    pub fn budget(&self) -> Duration {
        self.budget.get()
    }

    /// Returns how the step ended.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Returns the reason why the step was skipped or aborted: the required step that failed, the signal that forced
    /// the end, or the value that was lost. `None` if the outcome needs no explanation.
    pub fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// Returns whether the report stays clean if the step fails.
    pub fn is_best_effort(&self) -> bool {
        self.best_effort
    }

    /// Returns whether nothing was lost: the step and all its nested steps are done, or there was nothing to clean,
    /// or the step is `best_effort`.
    pub fn is_clean(&self) -> bool {
        self.best_effort || (self.went_well() && self.steps.iter().all(Self::is_clean))
    }

    /// Returns the steps of the nested plan, or one step for each element of a container.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Returns whether the step is done, or there was nothing to clean.
    pub(crate) fn went_well(&self) -> bool {
        self.outcome.is_done() || self.nothing
    }

    /// Returns the text of the outcome's error, panic or wait, and the reason of a skip or an abort. `None` if there is
    /// neither.
    pub(crate) fn detail(&self) -> Option<Cow<'_, str>> {
        let said = self.outcome.detail().map(Cow::Owned);
        match (said, &self.why) {
            (Some(said), Some(why)) => Some(format!("{said}; {why}").into()),
            (Some(said), None) => Some(said),
            (None, why) => why.as_deref().map(Cow::Borrowed),
        }
    }

    pub(crate) fn is_element(&self) -> bool {
        self.name.starts_with('[')
    }
}

/// Finds the step at `path`. A path joins names as the engine does: `a.b` for fields, `a[b]` for elements.
pub(super) fn find<'a>(steps: &'a [Step], path: &str) -> Option<&'a Step> {
    steps.iter().find_map(|step| {
        let rest = path.strip_prefix(&*step.name)?;
        if rest.is_empty() {
            return Some(step);
        }
        let (elements, rest) = match rest.strip_prefix('.') {
            Some(rest) => (false, rest),
            None => (true, rest),
        };
        let inside = step.steps.iter();
        inside
            .filter(|inside| inside.is_element() == elements)
            .find_map(|inside| find(std::slice::from_ref(inside), rest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &'static str, steps: Vec<Step>) -> Step {
        Step {
            name: name.into(),
            priority: 0,
            started: Nanos::default(),
            elapsed: Nanos::default(),
            budget: Nanos::default(),
            best_effort: false,
            outcome: Outcome::Done,
            why: None,
            nothing: false,
            steps,
        }
    }

    #[test]
    fn a_path_finds_exactly_the_step_of_that_path() {
        let steps = [
            step("db", vec![step("pool", vec![]), step("[pool]", vec![])]),
            step("dbpool", vec![]),
            step("db[pool]", vec![step("x", vec![])]),
            step("list", vec![step("[a", vec![]), step("[a].b]", vec![])]),
            step("list", vec![step("[c]", vec![step("d", vec![])])]),
        ];
        let found = |path: &str| find(&steps, path).map(|step| step as *const Step);
        let is = |step: &Step| Some(step as *const Step);
        assert_eq!(found("db"), is(&steps[0]));
        assert_eq!(found("db.pool"), is(&steps[0].steps[0]));
        assert_eq!(found("db[pool]"), is(&steps[0].steps[1]));
        assert_eq!(found("dbpool"), is(&steps[1]));
        assert_eq!(found("db[pool].x"), is(&steps[2].steps[0]));
        assert_eq!(found("list[a].b]"), is(&steps[3].steps[1]));
        assert_eq!(found("list[c].d"), is(&steps[4].steps[0].steps[0]));
        for nothing in [
            "",
            "d",
            "dbp",
            "db.",
            "db.[pool]",
            "db..pool",
            "dbpool.x",
            "list.[c]",
        ] {
            assert_eq!(found(nothing), None, "{nothing}");
        }
    }
}
