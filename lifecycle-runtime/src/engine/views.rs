//! Functions that read a running plan: the state of its steps, what they wait for, and the hooks of a forced end.

use std::sync::Arc;
use std::time::Instant;

use super::contain;
use super::row::{ForceHook, Row, WaitingFor};
use super::running::RunningPlan;
use crate::report::{Outcome, Step};
use crate::{StepProgress, text};

/// An unfinished step, with the component's description of its wait.
pub(crate) struct UnfinishedStep {
    pub(crate) view: StepProgress,
    waiting_for: Option<WaitingFor>,
    is_best_effort: bool,
}

impl UnfinishedStep {
    /// Returns whether the step is running and a hurry would cut it.
    pub(crate) fn is_cut_by_a_hurry(&self) -> bool {
        self.is_best_effort && self.view.is_running()
    }

    /// Calls the component's closure for the description of the step's wait.
    pub(crate) fn described(mut self) -> StepProgress {
        self.view.waiting_for = self.waiting_for.and_then(describe);
        self.view
    }
}

/// Calls a component's closure for the description of a step's wait. Returns `None` for an empty description.
pub(super) fn describe(text: WaitingFor) -> Option<String> {
    let said = contain(|| {
        let said = text();
        drop(text);
        said
    });
    match said {
        Ok(said) => Some(said).filter(|said| !said.is_empty()),
        Err(message) => Some(format!("(its `waiting_for` panicked: {message})")),
    }
}

impl RunningPlan {
    /// Returns the innermost unfinished steps. The steps that a runner added before the plan come first.
    pub(crate) fn unfinished(&self, now: Instant) -> Vec<StepProgress> {
        let steps = self.unfinished_steps(now).into_iter();
        steps.map(UnfinishedStep::described).collect()
    }

    /// Returns the steps of [`unfinished`](Self::unfinished) without calling any component's closure, so that the call
    /// cannot block.
    pub(crate) fn unfinished_steps(&self, now: Instant) -> Vec<UnfinishedStep> {
        let mut steps = Vec::new();
        self.collect(now, &mut steps);
        steps
    }

    fn collect(&self, now: Instant, steps: &mut Vec<UnfinishedStep>) {
        let polled = self.polled();
        let unfinished: Vec<_> = {
            let rows = self.rows();
            let rows = rows.list.iter().enumerate().filter(|(_, row)| !row.ended);
            rows.map(|(i, row)| {
                let mut step = self.unfinished_step(row, now);
                step.view.polled = polled == Some(i);
                (step, nested(row))
            })
            .collect()
        };
        for (step, nested) in unfinished {
            let before = steps.len();
            for nested in nested {
                nested.collect(now, steps);
            }
            if steps.len() == before {
                steps.push(step);
            }
        }
    }

    fn unfinished_step(&self, row: &Row, now: Instant) -> UnfinishedStep {
        UnfinishedStep {
            view: self.view(row, now),
            waiting_for: row.waiting_for.clone(),
            // The last condition covers the steps before the plan, main and the lame duck, which a hurry cuts as well.
            is_best_effort: row.step.best_effort
                || self.best_effort
                || row.step.priority == i32::MIN,
        }
    }

    fn view(&self, row: &Row, now: Instant) -> StepProgress {
        let running = row.started.filter(|_| !row.ended);
        StepProgress {
            path: self.path_of(&row.step.name),
            running: running.is_some(),
            polled: false,
            started: row
                .started
                .map(|started| started.saturating_duration_since(self.shared.began)),
            elapsed: match running {
                Some(started) => now.saturating_duration_since(started),
                None => row.step.elapsed(),
            },
            remaining: row
                .hard
                .filter(|_| !row.ended)
                .map(|hard| hard.saturating_duration_since(now)),
            waiting_for: None,
            outcome: row.ended.then(|| row.step.outcome.clone()),
            why: row.step.why.clone().filter(|_| row.ended),
            clean: row.ended && row.step.is_clean(),
            steps: Vec::new(),
        }
    }

    /// Returns all steps in plan order, each with its nested steps. The steps before the plan come first.
    pub(crate) fn all_steps(&self, now: Instant) -> Vec<StepProgress> {
        if let Some(report) = self.report() {
            let steps = report.steps().iter();
            return steps.map(|step| ended_view(&self.path, step)).collect();
        }
        let rows: Vec<_> = {
            let rows = self.rows();
            let rows = rows.list.iter();
            rows.map(|row| (self.unfinished_step(row, now), nested(row)))
                .collect()
        };
        let with_nested = |(step, nested): (UnfinishedStep, Vec<Arc<Self>>)| {
            let mut view = step.described();
            view.steps = nested.iter().flat_map(|plan| plan.all_steps(now)).collect();
            view
        };
        // The closures of components are called here, after the lock is released.
        rows.into_iter().map(with_nested).collect()
    }

    /// Returns the paths and outcomes of the steps that have ended.
    pub(crate) fn ended(&self) -> Vec<(String, Outcome)> {
        if let Some(report) = self.report() {
            let steps = report.steps().iter();
            return steps
                .map(|step| (step.name().to_owned(), step.outcome().clone()))
                .collect();
        }
        let rows = self.rows();
        let ended = rows.list.iter().filter(|row| row.ended);
        ended
            .map(|row| (self.path_of(&row.step.name), row.step.outcome.clone()))
            .collect()
    }

    /// Takes the `on_force` hooks of all steps that have not ended, out of their rows.
    pub(crate) fn take_hooks(&self) -> Vec<ForceHook> {
        let mut hooks = Vec::new();
        let mut inside = Vec::new();
        for row in self.rows().list.iter_mut().filter(|row| !row.ended) {
            if let Some(cold) = row.cold_mut() {
                hooks.append(&mut cold.on_force);
            }
            inside.extend(nested(row));
        }
        for plan in inside {
            hooks.append(&mut plan.take_hooks());
        }
        hooks
    }
}

/// Returns the plans that a step has opened in its current run.
fn nested(row: &Row) -> Vec<Arc<RunningPlan>> {
    let nested = row.nested.iter().filter(|nested| !nested.is_earlier);
    nested.map(|nested| Arc::clone(&nested.plan)).collect()
}

/// Creates the view of a step in a plan that has ended.
fn ended_view(above: &str, step: &Step) -> StepProgress {
    let path = text::path(above, &step.name);
    let steps = step.steps.iter();
    StepProgress {
        running: false,
        polled: false,
        started: Some(step.started()),
        elapsed: step.elapsed(),
        remaining: None,
        waiting_for: None,
        outcome: Some(step.outcome.clone()),
        why: step.why.clone(),
        clean: step.is_clean(),
        steps: steps.map(|step| ended_view(&path, step)).collect(),
        path,
    }
}
