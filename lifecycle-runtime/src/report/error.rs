//! The error of a shutdown that was not clean.

use std::error::Error;
use std::fmt;

use super::{Outcome, Report, Step};
use crate::text;

/// The error of a shutdown that was not clean. Its text names the steps that failed; [`report`](Self::report) returns
/// the whole report.
#[derive(Clone, Debug)]
pub struct ShutdownError {
    pub(super) report: Report,
}

impl ShutdownError {
    /// Returns the report of the shutdown.
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

/// The steps that were not clean, displayed as `: a timed out; b failed: disk full`.
struct Unclean<'a>(&'a [Step]);

impl fmt::Display for Unclean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The largest number of steps that the text names.
        const NAMED: usize = 8;
        let mut unclean = Vec::new();
        collect(self.0, "", &mut unclean);
        for (i, (path, step)) in unclean.iter().take(NAMED).enumerate() {
            let mark = if i == 0 { ":" } else { ";" };
            write!(f, "{mark} {path} {}", step.outcome.word())?;
            if let Some(detail) = step.detail() {
                write!(f, ": {detail}")?;
            }
        }
        match unclean.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// Collects the steps that are not clean, with their paths. A nested step is collected only if the step around it went
/// well itself.
fn collect<'a>(steps: &'a [Step], above: &str, unclean: &mut Vec<(String, &'a Step)>) {
    for step in steps.iter().filter(|step| !step.is_clean()) {
        let path = text::path(above, &step.name);
        if step.went_well() {
            collect(&step.steps, &path, unclean);
        } else {
            unclean.push((path, step));
        }
    }
}
