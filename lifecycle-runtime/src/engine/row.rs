//! A row: the state of one step of a running plan, which becomes its row in the report.

use std::any::Any;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::contain;
use super::resumed::{NestedKind, NestedPlan};
use super::shape::Shape;
use crate::report::{Nanos, Outcome, Step};

/// The closure that describes what a step is waiting for.
pub(super) type WaitingFor = Arc<dyn Fn() -> String + Send + Sync>;

/// A hook that a forced end runs for a step.
pub(crate) type ForceHook = Box<dyn FnOnce() + Send>;

pub(super) struct Row {
    /// The row of the report. Until the step has ended, its outcome is that of a step that never began.
    pub(super) step: Step,
    pub(super) required: bool,
    /// The step's own timeout. Shortened if the plan has less time than it needs.
    pub(super) timeout: Option<Duration>,
    /// The longest path after the step. Shortened like `timeout`.
    pub(super) tail: Duration,
    /// The row of the required step that failed before it.
    pub(super) skip: Option<u32>,
    pub(super) started: Option<Instant>,
    pub(super) hard: Option<Instant>,
    pub(super) ended: bool,
    pub(super) waiting_for: Option<WaitingFor>,
    /// The plans that the step's component opened.
    pub(super) nested: Vec<NestedPlan>,
    cold: Option<Box<Cold>>,
}

// The factor lets the report reuse the allocation of the rows.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Row>() == 2 * size_of::<Step>());

/// The fields that few steps need.
#[derive(Default)]
pub(super) struct Cold {
    /// Rows of earlier runs that the report must not lose.
    pub(super) kept: Vec<Step>,
    pub(super) on_force: Vec<ForceHook>,
    /// A value that a dropped future stored for the next run.
    pub(super) left: Option<Box<dyn Any + Send>>,
    /// Whether the cleanup has moved the value out of the field.
    pub(super) took: bool,
    /// Whether the value was lost with the future of an earlier run.
    pub(super) lost: bool,
    /// Whether something that an earlier run was cleaning is not there any more.
    pub(super) lost_parts: bool,
    /// The shapes that earlier runs had opened, without those that the next run opened again.
    pub(super) begun: Vec<Vec<Shape>>,
    /// Why there was nothing to clean.
    pub(super) nothing: Option<&'static str>,
    pub(super) identity: Option<Identity>,
    /// Whether the step is an element that is named by its position.
    pub(super) is_positional: bool,
}

/// A key that identifies one component wherever it is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A task of tokio.
    Task(tokio::task::Id),
    /// A component of [`Components`](crate::Components).
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

    /// Returns whether an earlier run left something to compare this run with.
    pub(super) fn is_resumed_run(&self) -> bool {
        let begun = self.cold().is_some_and(|cold| !cold.begun.is_empty());
        begun || self.nested.iter().any(|nested| nested.is_earlier)
    }

    /// Returns the time that the step got when it began. Before that, its own timeout.
    pub(super) fn budget(&self) -> Duration {
        match (self.started, self.hard) {
            (Some(started), Some(hard)) => hard.saturating_duration_since(started),
            _ => self.timeout.unwrap_or_default(),
        }
    }

    /// Takes the foreign values of this run, to be dropped outside the lock.
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

    /// Takes the foreign values of this run, and the value stored for a next one.
    pub(super) fn take_all_foreign(&mut self) -> Option<Foreign> {
        let mut foreign = self.take_foreign();
        let left = self.cold_mut().and_then(|cold| cold.left.take());
        if left.is_some() {
            foreign.get_or_insert_default().left = left;
        }
        foreign
    }

    /// Turns the row into a row of the report. A step that never ended gets its outcome from the step around it.
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

/// Closures and values of components. Their drops are foreign code, so each is contained by itself (invariant 5).
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
