//! One step of a report.

use std::borrow::Cow;
use std::time::Duration;

use super::Outcome;

/// One step of a [`Report`](crate::Report).
#[derive(Clone, Debug)]
pub struct Step {
    pub(crate) name: Cow<'static, str>,
    pub(crate) priority: i32,
    pub(crate) started: Nanos,
    pub(crate) elapsed: Nanos,
    pub(crate) budget: Nanos,
    pub(crate) best_effort: bool,
    pub(crate) outcome: Outcome,
    /// Why it was skipped or aborted.
    pub(crate) why: Option<Box<str>>,
    /// It was skipped because there was nothing to clean.
    pub(crate) nothing: bool,
    pub(crate) steps: Vec<Step>,
}

/// A duration in nanoseconds. It is half as large as a [`Duration`], and reports have three in every row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Nanos(u64);

impl Nanos {
    pub(crate) fn get(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}

impl From<Duration> for Nanos {
    fn from(duration: Duration) -> Self {
        // Centuries are as good as for ever.
        Self(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Drop for Step {
    /// An error may panic when it is dropped. With two of them in one report that would end the process.
    fn drop(&mut self) {
        if let Outcome::Failed(_) = self.outcome {
            crate::reason::drop_error(std::mem::replace(&mut self.outcome, Outcome::Skipped));
        }
    }
}

#[cfg(feature = "rt")]
impl Step {
    /// Creates a row for what runs outside a plan. Its outcome is `Done` until that is changed.
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
    /// The name of the field; `[key]` for an element of a container.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its priority: lower numbers ran first.
    pub fn priority(&self) -> i32 {
        self.priority
    }

    /// When it started, measured from the beginning of the shutdown. For a skipped step, when it was skipped.
    pub fn started(&self) -> Duration {
        self.started.get()
    }

    /// How long it took. More than its [`budget`](Self::budget) if it blocked its thread.
    pub fn elapsed(&self) -> Duration {
        self.elapsed.get()
    }

    /// The time it was given when it started.
    pub fn budget(&self) -> Duration {
        self.budget.get()
    }

    /// How it ended.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Why it was skipped or aborted: the required step that failed, the signal that forced the end, the value that
    /// was lost. `None` where the outcome says it all.
    pub fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// Returns whether its failure leaves the report clean.
    pub fn is_best_effort(&self) -> bool {
        self.best_effort
    }

    /// Returns whether nothing was lost here: the step and all steps inside it are done, or there was nothing to clean,
    /// or it was `best_effort`.
    pub fn is_clean(&self) -> bool {
        self.best_effort || (self.went_well() && self.steps.iter().all(Self::is_clean))
    }

    /// The steps of the nested plan, or a step for each element of a container.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Returns whether it is done, or there was nothing to clean.
    pub(crate) fn went_well(&self) -> bool {
        self.outcome.is_done() || self.nothing
    }

    /// What there is to say beyond the outcome's word.
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

/// The step at `path`, which is put together as the engine does it: `a.b` for fields, `a[b]` for elements.
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
