//! Reports: what a shutdown did, step by step.

mod table;

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::process::{ExitCode, Termination};
use std::sync::Arc;
use std::time::Duration;

use crate::Reason;
use crate::reason::{Chain, Force};

pub(crate) use table::table;

/// What a shutdown did: the tree of its steps with their outcomes and times. Cheap to clone.
///
/// Printed with `{}` it is a table that names what went wrong and what was slowest.
/// As the return value of `main` it prints itself to stderr if it is not clean, and becomes the
/// [`exit_code`](Self::exit_code).
#[derive(Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(transparent))]
pub struct Report {
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialize::body"))]
    body: Arc<Body>,
}

#[derive(Clone, Debug)]
struct Body {
    component: Cow<'static, str>,
    reason: Reason,
    elapsed: Duration,
    forced: Option<Force>,
    exit_code: Option<u8>,
    steps: Vec<Step>,
}

impl Report {
    /// The name of the type that was shut down; of one that was removed from `Components`, the name it had there.
    /// Empty for elements that were cleaned outside of any plan.
    pub fn component(&self) -> &str {
        &self.body.component
    }

    /// Why the shutdown began.
    pub fn reason(&self) -> &Reason {
        &self.body.reason
    }

    /// How long it took, from its beginning to the end of its last step.
    pub fn elapsed(&self) -> Duration {
        self.body.elapsed
    }

    /// Whether every step is [`Outcome::Done`] or was `best_effort`, and nothing was forced.
    pub fn is_clean(&self) -> bool {
        self.body.forced.is_none() && self.body.steps.iter().all(Step::is_clean)
    }

    /// What forced the end, if it was forced.
    pub fn forced(&self) -> Option<Force> {
        self.body.forced
    }

    /// The steps, in plan order; `main` first if a runner awaited one.
    pub fn steps(&self) -> &[Step] {
        &self.body.steps
    }

    /// The step at this path: a field's name, or a path such as `"storage.pool"` or `"plugins[auth]"`.
    pub fn step(&self, path: &str) -> Option<&Step> {
        find(&self.body.steps, path)
    }

    /// The exit code of a process that ends with this report.
    ///
    /// | code | when |
    /// |---|---|
    /// | 0 | every step is done or `best_effort` |
    /// | 1 | main failed, or a step ended otherwise |
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

    /// The report itself if it is clean.
    ///
    /// # Errors
    ///
    /// [`ShutdownError`], which names what failed and holds the report.
    pub fn into_result(self) -> Result<Self, ShutdownError> {
        if self.is_clean() {
            Ok(self)
        } else {
            Err(ShutdownError { report: self })
        }
    }

    /// The timeline as a Mermaid Gantt chart.
    pub fn to_mermaid(&self) -> String {
        table::gantt(self)
    }

    /// A step may be called main as well, but main is before all priorities, and only a lame duck is before main.
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

#[cfg(feature = "rt")]
impl Report {
    pub(crate) fn new(
        component: &'static str,
        reason: Reason,
        elapsed: Duration,
        forced: Option<Force>,
        steps: Vec<Step>,
    ) -> Self {
        Self {
            body: Arc::new(Body {
                component: component.into(),
                reason,
                elapsed,
                forced,
                exit_code: None,
                steps,
            }),
        }
    }

    /// With these steps before its own.
    pub(crate) fn preceded_by(self, steps: &[Step]) -> Self {
        let mut body = Arc::unwrap_or_clone(self.body);
        body.steps.splice(0..0, steps.iter().cloned());
        Self {
            body: Arc::new(body),
        }
    }

    /// The report of what is known by this name.
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

fn find<'a>(steps: &'a [Step], path: &str) -> Option<&'a Step> {
    steps.iter().find_map(|step| {
        let rest = path.strip_prefix(&*step.name)?;
        match rest.strip_prefix('.') {
            _ if rest.is_empty() => Some(step),
            Some(rest) => find(&step.steps, rest),
            // An element: `plugins[auth]`.
            None => find(&step.steps, rest),
        }
    })
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
            // Nobody is left to tell if stderr is gone.
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{self}\n"));
        }
        ExitCode::from(self.exit_code())
    }
}

/// One step of a [`Report`].
#[derive(Clone, Debug)]
pub struct Step {
    pub(crate) name: Cow<'static, str>,
    pub(crate) priority: i32,
    pub(crate) started: Duration,
    pub(crate) elapsed: Duration,
    pub(crate) budget: Duration,
    pub(crate) best_effort: bool,
    pub(crate) outcome: Outcome,
    pub(crate) steps: Vec<Step>,
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

    /// When it started, since the shutdown began. For a skipped step, when it was skipped.
    pub fn started(&self) -> Duration {
        self.started
    }

    /// How long it took. More than its [`budget`](Self::budget) if it blocked its thread.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// The time it was given when it started.
    pub fn budget(&self) -> Duration {
        self.budget
    }

    /// How it ended.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Whether its failure leaves the report clean.
    pub fn is_best_effort(&self) -> bool {
        self.best_effort
    }

    /// The steps of the nested plan, or a step for each element of a container.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.best_effort || self.outcome.is_done()
    }
}

/// How a step ended.
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(tag = "kind", rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Outcome {
    /// It did what it should.
    Done,
    /// It returned an error.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialize::error"))]
    Failed(Arc<dyn Error + Send + Sync>),
    /// It panicked, with this message.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialize::message"))]
    Panicked(String),
    /// It was cut at its deadline, or by a forced end.
    TimedOut {
        /// What it said it was waiting for.
        waiting_for: Option<String>,
    },
    /// A `required` step before it was not done, so it was aborted instead of run.
    Skipped,
}

impl Outcome {
    /// Whether it is [`Outcome::Done`].
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// One word for it, as the log has it.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed(_) => "failed",
            Self::Panicked(_) => "panicked",
            Self::TimedOut { .. } => "timed out",
            Self::Skipped => "skipped",
        }
    }

    /// What there is to say beyond the word.
    pub(crate) fn detail(&self) -> Option<String> {
        match self {
            Self::Failed(error) => Some(Chain(&**error).to_string()),
            Self::Panicked(message) => Some(message.clone()),
            Self::TimedOut { waiting_for } => waiting_for
                .as_ref()
                .map(|what| format!("waiting for {what}")),
            Self::Done | Self::Skipped => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match self.detail() {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

/// A shutdown that was not clean. It names what failed; [`report`](Self::report) has the rest.
#[derive(Clone, Debug)]
pub struct ShutdownError {
    report: Report,
}

impl ShutdownError {
    /// The report.
    pub fn report(&self) -> &Report {
        &self.report
    }
}

impl fmt::Display for ShutdownError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.report.component() {
            "" => f.write_str("not clean")?,
            component => write!(f, "the shutdown of {component} was not clean")?,
        }
        if let Some(force) = self.report.forced() {
            write!(f, ", it was forced by {force}")?;
        }
        write!(f, "{}", Unclean(self.report.steps()))
    }
}

impl Error for ShutdownError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.report
            .steps()
            .iter()
            .find_map(|step| match step.outcome() {
                Outcome::Failed(error) if !step.best_effort => {
                    Some(&**error as &(dyn Error + 'static))
                }
                _ => None,
            })
    }
}

/// The steps that were not clean, as `: a timed out; b failed: disk full`.
pub(crate) struct Unclean<'a>(pub(crate) &'a [Step]);

impl fmt::Display for Unclean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// How many are named.
        const NAMED: usize = 8;
        let unclean = || self.0.iter().filter(|step| !step.is_clean());
        for (i, step) in unclean().take(NAMED).enumerate() {
            let mark = if i == 0 { ":" } else { ";" };
            write!(f, "{mark} {} {}", step.name, step.outcome)?;
        }
        match unclean().count().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

#[cfg(feature = "serde")]
mod serialize {
    //! Reports as data: durations in whole milliseconds, errors as their text with causes.

    use std::error::Error;
    use std::sync::Arc;

    use serde::ser::{Serialize, SerializeStruct, Serializer};

    use super::{Body, Chain, Step, millis};

    pub(super) fn body<S: Serializer>(body: &Arc<Body>, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Report", 6)?;
        let report = super::Report {
            body: Arc::clone(body),
        };
        out.serialize_field("component", &body.component)?;
        out.serialize_field("reason", &body.reason)?;
        out.serialize_field("clean", &report.is_clean())?;
        out.serialize_field("exit_code", &report.exit_code())?;
        out.serialize_field("elapsed_ms", &millis(body.elapsed))?;
        out.serialize_field("steps", &body.steps)?;
        out.end()
    }

    impl Serialize for Step {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut out = serializer.serialize_struct("Step", 8)?;
            out.serialize_field("name", &self.name)?;
            out.serialize_field("priority", &self.priority)?;
            out.serialize_field("started_ms", &millis(self.started))?;
            out.serialize_field("elapsed_ms", &millis(self.elapsed))?;
            out.serialize_field("budget_ms", &millis(self.budget))?;
            out.serialize_field("best_effort", &self.best_effort)?;
            out.serialize_field("outcome", &self.outcome)?;
            out.serialize_field("steps", &self.steps)?;
            out.end()
        }
    }

    pub(super) fn error<S: Serializer>(
        error: &Arc<dyn Error + Send + Sync>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Failed", 1)?;
        out.serialize_field("error", &Chain(&**error).to_string())?;
        out.end()
    }

    pub(super) fn message<S: Serializer>(message: &str, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Panicked", 1)?;
        out.serialize_field("message", message)?;
        out.end()
    }
}

/// Durations as data.
#[cfg(feature = "serde")]
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
