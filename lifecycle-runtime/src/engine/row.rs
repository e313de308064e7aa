//! The state of one step of a running plan, which becomes the step's row in the report.

use std::any::Any;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::contain;
use super::resumed::{NestedKind, NestedPlan};
use super::shape::Shape;
use crate::report::{Nanos, Outcome, Step};

/// The closure with which a component describes the wait of its step.
pub(super) type WaitingFor = Arc<dyn Fn() -> String + Send + Sync>;

/// A closure of a component that a forced end of the shutdown calls.
pub(crate) type ForceHook = Box<dyn FnOnce() + Send>;

pub(super) struct Row {
    /// The row of the report. Until the step has ended, this row has the outcome of a step that never began.
    pub(super) step: Step,
    pub(super) required: bool,
    /// The step's own timeout. It is shortened if the plan has less time than it needs.
    pub(super) timeout: Option<Duration>,
    /// The time that the longest chain of steps after this one needs. It is shortened like `timeout`.
    pub(super) tail: Duration,
    /// The index of the row of the failed `required` step because of which this step is skipped.
    pub(super) skip: Option<u32>,
    pub(super) started: Option<Instant>,
    pub(super) hard: Option<Instant>,
    pub(super) ended: bool,
    pub(super) waiting_for: Option<WaitingFor>,
    /// The plans that the step's component opened during its cleanup.
    pub(super) nested: Vec<NestedPlan>,
    cold: Option<Box<Cold>>,
}

// A row is exactly twice as large as a report's step, so that the report can reuse the allocation of the rows.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Row>() == 2 * size_of::<Step>());

/// The fields of a row that only few steps need. They are in a box, so that rows are small.
#[derive(Default)]
pub(super) struct Cold {
    /// The rows of earlier runs of the step that the report must keep.
    pub(super) kept: Vec<Step>,
    pub(super) on_force: Vec<ForceHook>,
    /// The value that the step's dropped future stored for the step's next run.
    pub(super) left: Option<Box<dyn Any + Send>>,
    /// Whether this run's cleanup has moved the value out of the step's field.
    pub(super) took: bool,
    /// Whether the value was dropped with the future of an earlier run, which had moved it out of the field.
    pub(super) lost: bool,
    /// Whether a component that an earlier run was cleaning is missing now.
    pub(super) lost_parts: bool,
    /// The shapes of the plans that earlier runs opened, except the plans that a later run opened again.
    pub(super) begun: Vec<Vec<Shape>>,
    /// The reason why the step had nothing to clean.
    pub(super) nothing: Option<&'static str>,
    pub(super) identity: Option<Identity>,
    /// Whether the step is an element that is named by its position.
    pub(super) is_positional: bool,
}

/// A key that identifies one component wherever it is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The id of a tokio task.
    Task(tokio::task::Id),
    /// The number of a component of [`Components`](crate::Components).
    Component(u64),
}

impl Row {
    pub(super) fn new(name: Cow<'static, str>, priority: i32) -> Self {
        Self {
            step: Step {
                name,
                priority,
                started: Nanos::default(),
                elapsed: Nanos::default(),
                budget: Nanos::default(),
                best_effort: false,
                outcome: Outcome::Skipped,
                why: None,
                nothing: false,
                steps: Vec::new(),
            },
            required: false,
            timeout: None,
            tail: Duration::ZERO,
            skip: None,
            started: None,
            hard: None,
            ended: false,
            waiting_for: None,
            nested: Vec::new(),
            cold: None,
        }
    }

    pub(super) fn cold(&self) -> Option<&Cold> {
        self.cold.as_deref()
    }

    pub(super) fn cold_mut(&mut self) -> Option<&mut Cold> {
        self.cold.as_deref_mut()
    }

    pub(super) fn cold_or_default(&mut self) -> &mut Cold {
        self.cold.get_or_insert_default()
    }

    pub(super) fn identity(&self) -> Option<Identity> {
        self.cold()?.identity
    }

    pub(super) fn is_positional(&self) -> bool {
        self.cold().is_some_and(|cold| cold.is_positional)
    }

    /// Returns whether the step ran before and opened plans then, with which this run must be compared.
    pub(super) fn is_resumed_run(&self) -> bool {
        let begun = self.cold().is_some_and(|cold| !cold.begun.is_empty());
        begun || self.nested.iter().any(|nested| nested.is_earlier)
    }

    /// Returns the time that the step was given when it began. Before the step begins, this is its own timeout.
    pub(super) fn budget(&self) -> Duration {
        match (self.started, self.hard) {
            (Some(started), Some(hard)) => hard.saturating_duration_since(started),
            _ => self.timeout.unwrap_or_default(),
        }
    }

    /// Takes the components' closures of this run, so that the caller drops them outside the lock.
    pub(super) fn take_foreign(&mut self) -> Option<Foreign> {
        let waiting_for = self.waiting_for.take();
        let on_force = self
            .cold_mut()
            .map(|cold| std::mem::take(&mut cold.on_force));
        let on_force = on_force.unwrap_or_default();
        if waiting_for.is_none() && on_force.is_empty() {
            return None;
        }
        Some(Foreign {
            waiting_for,
            on_force,
            left: None,
        })
    }

    /// Takes the components' closures of this run, and the value stored for a next run.
    pub(super) fn take_all_foreign(&mut self) -> Option<Foreign> {
        let mut foreign = self.take_foreign();
        let left = self.cold_mut().and_then(|cold| cold.left.take());
        if left.is_some() {
            foreign.get_or_insert_default().left = left;
        }
        foreign
    }

    /// Turns the row into a row of the report. A step that never ended gets its outcome from the step `above`, which is
    /// around it.
    pub(super) fn into_step(mut self, began: Instant, above: Option<&Step>) -> Step {
        if !self.ended {
            self.end_unfinished(began, above);
        }
        drop(self.take_all_foreign());
        let mut step = self.step;
        if let Some(mut cold) = self.cold {
            step.steps = std::mem::take(&mut cold.kept);
        }
        for nested in self.nested {
            let inside = match nested.kind {
                NestedKind::Owner => nested.plan.copy_steps(&step),
                _ => nested.plan.take_steps(&step),
            };
            step.steps.extend(inside);
        }
        step
    }

    /// Copies the row into a row of the report, without taking anything from it.
    pub(super) fn to_step(&self, began: Instant, above: &Step) -> Step {
        let mut copy = Self::new(Cow::Borrowed(""), 0);
        copy.step = self.step.clone();
        (copy.started, copy.hard, copy.timeout) = (self.started, self.hard, self.timeout);
        if !self.ended {
            copy.end_unfinished(began, Some(above));
        }
        let mut step = copy.step;
        if let Some(cold) = self.cold() {
            step.steps.extend(cold.kept.iter().cloned());
        }
        for nested in &self.nested {
            let inside = nested.plan.copy_steps(&step);
            step.steps.extend(inside);
        }
        step
    }

    fn end_unfinished(&mut self, began: Instant, above: Option<&Step>) {
        let outcome = above.map(|above| &above.outcome);
        let why = above.and_then(|above| above.why.clone());
        self.step.budget = self.budget().into();
        let Some(started) = self.started else {
            self.step.why = why.or(Some("the step around it ended before it began".into()));
            return;
        };
        self.step.started = started.saturating_duration_since(began).into();
        (self.step.outcome, self.step.why) = match outcome {
            Some(Outcome::TimedOut { .. }) => (Outcome::TimedOut { waiting_for: None }, None),
            Some(Outcome::Aborted) => (Outcome::Aborted, why),
            _ => (
                Outcome::Aborted,
                Some("its future was dropped before it had ended".into()),
            ),
        };
    }
}

/// The closures and values that components left in a row. Dropping them is foreign code, so each drop is contained by
/// itself (invariant 5: no panic of foreign code leaves the engine).
#[derive(Default)]
pub(super) struct Foreign {
    waiting_for: Option<WaitingFor>,
    on_force: Vec<ForceHook>,
    left: Option<Box<dyn Any + Send>>,
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if let Some(text) = self.waiting_for.take() {
            let _ = contain(|| drop(text));
        }
        for hook in self.on_force.drain(..) {
            let _ = contain(|| drop(hook));
        }
        if let Some(left) = self.left.take() {
            let _ = contain(|| drop(left));
        }
    }
}

impl Drop for Cold {
    fn drop(&mut self) {
        drop(Foreign {
            waiting_for: None,
            on_force: std::mem::take(&mut self.on_force),
            left: self.left.take(),
        });
    }
}
