//! Reports: the outcomes and times of a shutdown, step by step.

#[cfg(feature = "serde")]
mod data;
mod error;
mod outcome;
mod step;
mod table;

use std::borrow::Cow;
use std::fmt;
use std::process::{ExitCode, Termination};
use std::sync::Arc;
use std::time::Duration;

use crate::Reason;
use crate::reason::Force;

pub use error::ShutdownError;
pub use outcome::{Outcome, TimedOut};
#[cfg(feature = "rt")]
pub(crate) use step::Nanos;
pub use step::Step;

/// The result of a shutdown: the tree of its steps with their outcomes and times. Cheap to clone.
///
/// Displaying a report with `{}` prints a table, with the causes of failures and the slowest step. A report that `main`
/// returns becomes the [`exit_code`](Self::exit_code), and is printed to stderr if it is not clean.
#[derive(Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(transparent))]
pub struct Report {
    #[cfg_attr(feature = "serde", serde(serialize_with = "data::body"))]
    body: Arc<Body>,
}

#[derive(Clone, Debug)]
struct Body {
    component: Cow<'static, str>,
    reason: Reason,
    elapsed: Duration,
    forced: Option<Force>,
    hurried: bool,
    tasks_left: usize,
    exit_code: Option<u8>,
    steps: Vec<Step>,
}

impl Report {
    /// Returns the name of the type that was shut down. For a component that was removed from `Components` this is its
    /// name in the collection. The name is empty for elements that were cleaned outside any plan.
    pub fn component(&self) -> &str {
        &self.body.component
    }

    /// Returns why the shutdown began.
    pub fn reason(&self) -> &Reason {
        &self.body.reason
    }

    /// Returns how long the shutdown took, from its beginning to the end of its last step.
    pub fn elapsed(&self) -> Duration {
        self.body.elapsed
    }

    /// Returns whether nothing was lost: the end was not forced and every step is [clean](Step::is_clean).
    pub fn is_clean(&self) -> bool {
        self.body.forced.is_none() && self.body.steps.iter().all(Step::is_clean)
    }

    /// Returns the cause of the forced end: a signal or the watchdog. `None` if the end was not forced.
    pub fn forced(&self) -> Option<Force> {
        self.body.forced
    }

    /// Returns whether the shutdown was hurried. A hurry cuts the start, the lame duck, main and the `best_effort`
    /// steps, and runs the rest of the plan.
    pub fn was_hurried(&self) -> bool {
        self.body.hurried
    }

    /// Returns how many tasks the runtime still had when a runner dropped its server, apart from the runner's own task.
    /// No field owns these tasks, so no step awaited them. They leave the report clean. The number is 0 without a
    /// runner.
    pub fn tasks_left(&self) -> usize {
        self.body.tasks_left
    }

    /// Returns the steps in plan order. The step `main` comes before the plan's steps if a runner waited for main.
    pub fn steps(&self) -> &[Step] {
        &self.body.steps
    }

    /// Finds the step at `path`: a field's name, or a path such as `"storage.pool"` or `"plugins[auth]"`.
    pub fn step(&self, path: &str) -> Option<&Step> {
        step::find(&self.body.steps, path)
    }

    /// Returns the exit code of a process that ends with this report.
    ///
    /// | code | when |
    /// |---|---|
    /// | 0 | every step is done, had nothing to clean, or is `best_effort` |
    /// | 1 | main or the start failed, a critical task failed, or a step was not clean |
    /// | 101 | main panicked |
    /// | 128 + n | the end was forced by signal n |
    /// | 70 | it was forced by the watchdog |
    pub fn exit_code(&self) -> u8 {
        if let Some(code) = self.body.exit_code {
            return code;
        }
        if let Some(force) = self.body.forced {
            return force.exit_code();
        }
        match self.body.reason {
            Reason::MainPanicked(_) => 101,
            _ if self.main_panicked() => 101,
            Reason::MainFailed(_) | Reason::TaskFailed(..) | Reason::StartFailed(_) => 1,
            _ if self.is_clean() => 0,
            _ => 1,
        }
    }

    /// Returns the report itself if it is clean.
    ///
    /// # Errors
    ///
    /// [`ShutdownError`] if the report is not clean. The error names the steps that failed, and holds the report.
    pub fn into_result(self) -> Result<Self, ShutdownError> {
        if self.is_clean() {
            Ok(self)
        } else {
            Err(ShutdownError { report: self })
        }
    }

    /// Draws the times of the steps as a Mermaid Gantt chart.
    pub fn to_mermaid(&self) -> String {
        table::gantt(self)
    }

    /// Returns whether main panicked. A field may be called `main` as well, but main's row comes before the plan's
    /// steps, and only a lame duck's row can come before main's row.
    fn main_panicked(&self) -> bool {
        let mut ahead = self
            .body
            .steps
            .iter()
            .take(2)
            .take_while(|step| step.priority == i32::MIN);
        let main = ahead.find(|step| step.name == "main");
        main.is_some_and(|main| matches!(main.outcome, Outcome::Panicked(_)))
    }
}

/// Whether the shutdown was forced or hurried, which cuts steps.
#[cfg(feature = "rt")]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cut {
    pub(crate) forced: Option<Force>,
    pub(crate) hurried: bool,
}

#[cfg(feature = "rt")]
impl Cut {
    /// Returns the number of these causes that have occurred.
    pub(crate) fn count(self) -> u8 {
        u8::from(self.forced.is_some()) + u8::from(self.hurried)
    }
}

#[cfg(feature = "rt")]
impl Report {
    pub(crate) fn new(
        component: &'static str,
        reason: Reason,
        elapsed: Duration,
        cut: Cut,
        steps: Vec<Step>,
    ) -> Self {
        Self {
            body: Arc::new(Body {
                component: component.into(),
                reason,
                elapsed,
                forced: cut.forced,
                hurried: cut.hurried,
                tasks_left: 0,
                exit_code: None,
                steps,
            }),
        }
    }

    /// Adds a step after the other steps of the report.
    pub(crate) fn followed_by(self, step: Step) -> Self {
        let mut body = Arc::unwrap_or_clone(self.body);
        body.steps.push(step);
        Self {
            body: Arc::new(body),
        }
    }

    pub(crate) fn with_tasks_left(self, tasks: usize) -> Self {
        let mut body = Arc::unwrap_or_clone(self.body);
        body.tasks_left = tasks;
        Self {
            body: Arc::new(body),
        }
    }

    /// Inserts steps before the steps of the report.
    pub(crate) fn preceded_by(self, steps: &[Step]) -> Self {
        let mut body = Arc::unwrap_or_clone(self.body);
        body.steps.splice(0..0, steps.iter().cloned());
        Self {
            body: Arc::new(body),
        }
    }

    /// Replaces the component's name in the report.
    pub(crate) fn named(self, name: Cow<'static, str>) -> Self {
        let mut body = Arc::unwrap_or_clone(self.body);
        body.component = name;
        Self {
            body: Arc::new(body),
        }
    }

    pub(crate) fn with_exit_code(self, code: u8) -> Self {
        let mut body = Arc::unwrap_or_clone(self.body);
        body.exit_code = Some(code);
        Self {
            body: Arc::new(body),
        }
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report")
            .field("component", &self.body.component)
            .field("reason", &self.body.reason)
            .field("elapsed", &self.body.elapsed)
            .field("forced", &self.body.forced)
            .field("steps", &self.body.steps)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        table::report(f, self)
    }
}

impl Termination for Report {
    fn report(self) -> ExitCode {
        if !self.is_clean() {
            // The result is ignored: if stderr is closed, the text has nowhere to go.
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{self}\n"));
        }
        ExitCode::from(self.exit_code())
    }
}
