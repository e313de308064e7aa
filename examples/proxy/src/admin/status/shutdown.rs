//! The state of a shutdown, for a snapshot of the status.

use std::time::Duration;

use futures_util::FutureExt as _;
use lifecycle_runtime::{Outcome, Progress, ShutdownHandle, StepProgress};
use serde::Serialize;

use super::millis;

/// The largest number of inner steps that a snapshot lists for each step.
const MOST_INNER: usize = 50;

/// A shutdown that was requested.
#[derive(Debug, Serialize)]
pub(super) struct Shutdown {
    reason: String,
    elapsed_ms: u64,
    remaining_ms: Option<u64>,
    steps: Vec<StepRow>,
}

/// The current state of a shutdown step.
#[derive(Debug, Serialize)]
struct StepRow {
    path: String,
    state: &'static str,
    started_ms: Option<u64>,
    elapsed_ms: u64,
    remaining_ms: Option<u64>,
    /// A note about the step: the thing it waits for, or its error.
    note: Option<String>,
    steps: Vec<Self>,
}

impl Shutdown {
    /// Returns the state of the shutdown. Returns `None` if no shutdown was requested.
    pub(super) fn of(handle: &ShutdownHandle, lame_duck: Duration) -> Option<Self> {
        let reason = handle.requested().now_or_never()?;
        let progress = handle.progress();
        let elapsed = progress.elapsed().unwrap_or_default();
        let mut steps: Vec<_> = progress.steps().iter().map(StepRow::of).collect();
        if let Some(row) = lame_duck_row(lame_duck, &progress, &steps) {
            steps.insert(0, row);
        }
        Some(Self {
            reason: reason.to_string(),
            elapsed_ms: millis(elapsed),
            remaining_ms: progress.remaining().map(millis),
            steps,
        })
    }
}

/// Returns a row for the lame duck, which comes before the steps of the plan.
fn lame_duck_row(minimum: Duration, progress: &Progress, plan: &[StepRow]) -> Option<StepRow> {
    // The elapsed time is zero until the shutdown has begun.
    let elapsed = progress.elapsed().unwrap_or_default();
    let (state, elapsed, remaining) = match plan.first() {
        None if minimum.is_zero() => return None,
        None => ("running", elapsed, Some(minimum.saturating_sub(elapsed))),
        Some(first) => {
            let took = Duration::from_millis(first.started_ms?);
            if took.is_zero() {
                return None;
            }
            ("done", took, None)
        }
    };
    Some(StepRow {
        path: "lame_duck".into(),
        state,
        started_ms: Some(0),
        elapsed_ms: millis(elapsed),
        remaining_ms: remaining.map(millis),
        note: None,
        steps: Vec::new(),
    })
}

impl StepRow {
    fn of(step: &StepProgress) -> Self {
        let (state, fault) = match step.outcome() {
            None if step.is_running() => ("running", None),
            None => ("waiting", None),
            Some(Outcome::Done) => ("done", None),
            Some(Outcome::Failed(error)) => ("failed", Some(error.to_string())),
            Some(Outcome::Panicked(message)) => ("panicked", Some(message.clone())),
            Some(Outcome::TimedOut { waiting_for }) => ("timed_out", waiting_for.clone()),
            Some(Outcome::Aborted) => ("aborted", None),
            Some(Outcome::Skipped) if step.is_clean() => ("empty", None),
            Some(Outcome::Skipped) => ("skipped", None),
            Some(other) => ("failed", Some(other.to_string())),
        };
        let inner = step.steps().iter().take(MOST_INNER);
        Self {
            path: step.path().to_owned(),
            state,
            started_ms: step.started().map(millis),
            elapsed_ms: millis(step.elapsed()),
            remaining_ms: step.remaining().map(millis),
            note: fault
                .or_else(|| step.why().map(str::to_owned))
                .or_else(|| step.waiting_for().map(str::to_owned)),
            steps: inner.map(Self::of).collect(),
        }
    }
}
