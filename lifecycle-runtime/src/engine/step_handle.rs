//! The handle of a step, through which the step's own code and its component's context reach the step's row.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::resumed::{NestedKind, NestedPlan};
use super::row::Row;
use super::running::{Begin, EndedStep, RunningPlan};
use super::shared::ShutdownShared;
use super::step::CleanupResult;
use super::views::describe;
use crate::unawaited::UnawaitedDrop;
use crate::{clock, unawaited};

/// A handle to one step of a running plan.
#[derive(Clone)]
pub struct StepHandle {
    plan: Arc<RunningPlan>,
    row: usize,
}

impl StepHandle {
    pub(crate) fn new(plan: Arc<RunningPlan>, row: usize) -> Self {
        Self { plan, row }
    }

    pub(crate) fn shared(&self) -> &Arc<ShutdownShared> {
        &self.plan.shared
    }

    /// Returns the name of the type whose plan the step belongs to.
    pub(crate) fn component(&self) -> &'static str {
        self.plan.component
    }

    fn with<R>(&self, f: impl FnOnce(&mut Row) -> R) -> R {
        f(&mut self.plan.rows().list[self.row])
    }

    /// Begins the step. If the step runs again after its future was dropped, it keeps the start of its first run.
    pub(super) fn begin(&self) -> Begin {
        self.plan.begin(self.row)
    }

    /// Records the result of the step, and returns what the log should say about its end.
    pub(crate) fn end(&self, result: CleanupResult) -> Option<Box<EndedStep>> {
        self.plan.end(self.row, result)
    }

    /// Records that the step is being polled.
    pub(super) fn enter_poll(&self) {
        self.plan.set_polled(self.row + 1);
    }

    /// Records that the step is no longer being polled.
    pub(super) fn leave_poll(&self) {
        self.plan.set_polled(0);
    }

    /// Returns why the step must end before its deadline. `None` if it may go on.
    pub(super) fn cut(&self) -> Option<Cow<'static, str>> {
        let shared = self.shared();
        if let Some(by) = shared.forced() {
            return Some(format!("the end was forced by {by}").into());
        }
        let is_best_effort = || self.plan.best_effort || self.with(|row| row.step.best_effort);
        (shared.is_hurried() && is_best_effort()).then(|| "the shutdown was hurried".into())
    }

    /// Opens a plan for the step's component. Returns the plan of an earlier run if that is the component's own plan,
    /// or else a new plan.
    pub(super) fn open(
        &self,
        kind: NestedKind,
        component: &'static str,
        deadline: Instant,
        address: usize,
        elements: Arc<[usize]>,
    ) -> Arc<RunningPlan> {
        let mut rows = self.plan.rows();
        let row = &mut rows.list[self.row];
        if kind == NestedKind::Own {
            let own = |nested: &&mut NestedPlan| {
                nested.kind == NestedKind::Own && nested.plan.component == component
            };
            if let Some(own) = row.nested.iter_mut().find(own) {
                own.is_earlier = false;
                own.address = address;
                return Arc::clone(&own.plan);
            }
        }
        let path = self.plan.path_of(&row.step.name).into_boxed_str();
        let best_effort = row.step.best_effort || self.plan.best_effort;
        let is_compared = row.is_resumed_run() || self.plan.is_compared;
        let shared = Arc::clone(&self.plan.shared);
        let plan = Arc::new(RunningPlan::new(
            component,
            path,
            shared,
            deadline,
            best_effort,
            is_compared,
        ));
        row.nested.push(NestedPlan {
            plan: Arc::clone(&plan),
            kind,
            address,
            elements,
            is_earlier: false,
        });
        plan
    }

    /// Attaches the plan of an owner, which began before this step, to this step.
    pub(super) fn adopt(&self, plan: &Arc<RunningPlan>, address: usize) {
        self.with(|row| {
            let nested = &mut row.nested;
            let known = nested
                .iter_mut()
                .find(|known| Arc::ptr_eq(&known.plan, plan));
            match known {
                Some(known) => {
                    known.is_earlier = false;
                    known.address = address;
                }
                None => nested.push(NestedPlan {
                    plan: Arc::clone(plan),
                    kind: NestedKind::Owner,
                    address,
                    elements: Arc::default(),
                    is_earlier: false,
                }),
            }
        });
    }

    /// Returns the plans that were opened in this run of the step.
    pub(super) fn nested(&self) -> Vec<NestedPlan> {
        self.with(|row| {
            let nested = row.nested.iter();
            nested
                .filter(|nested| !nested.is_earlier)
                .cloned()
                .collect()
        })
    }

    /// Returns whether this run opened plans, and all of these plans have ended. If so, each of their steps has already
    /// been aborted where needed.
    pub(super) fn is_settled(&self) -> bool {
        self.with(|row| {
            let mut nested = row.nested.iter().filter(|nested| !nested.is_earlier);
            nested.clone().next().is_some() && nested.all(|nested| nested.plan.report().is_some())
        })
    }

    pub(super) fn plan(&self) -> &Arc<RunningPlan> {
        &self.plan
    }

    pub(super) fn row(&self) -> usize {
        self.row
    }

    pub(super) fn has_ended(&self) -> bool {
        self.plan.has_ended(self.row)
    }

    /// Records that the step had nothing to clean, and why.
    pub(super) fn found_nothing(&self, why: &'static str) {
        self.with(|row| row.cold_or_default().nothing = Some(why));
    }

    /// Records that the cleanup has moved the value out of its field.
    pub(super) fn took(&self) {
        self.with(|row| row.cold_or_default().took = true);
    }

    /// Adds a row for each owner in `dropped`, which the step's code dropped without a shutdown.
    pub(crate) fn record_lost_owners(&self, dropped: Vec<UnawaitedDrop>) {
        let since = clock::now().saturating_duration_since(self.shared().began);
        let rows = unawaited::rows(dropped, since);
        self.with(|row| row.cold_or_default().kept.extend(rows));
    }

    pub(crate) fn waiting_for(&self, text: impl Fn() -> String + Send + Sync + 'static) {
        let old = self.with(|row| row.waiting_for.replace(Arc::new(text)));
        // The old closure is dropped outside the lock (invariant 6: no lock is held while foreign code runs).
        let _ = super::contain(|| drop(old));
    }

    pub(crate) fn on_force(&self, hook: impl FnOnce() + Send + 'static) {
        self.with(|row| row.cold_or_default().on_force.push(Box::new(hook)));
    }

    /// Stores a value of the step's future, which is being dropped, for the step's next run.
    pub(crate) fn leave(&self, left: Box<dyn Any + Send>) {
        let mut left = Some(left);
        self.with(|row| {
            if !row.ended {
                row.cold_or_default().left = left.take();
            }
        });
        let _ = super::contain(|| drop(left));
    }

    /// Takes the value that an earlier run stored with [`leave`](Self::leave).
    pub(crate) fn take_left(&self) -> Option<Box<dyn Any + Send>> {
        self.with(|row| row.cold_mut()?.left.take())
    }

    /// Returns the dotted path of the step.
    pub(crate) fn path(&self) -> String {
        let rows = self.plan.rows();
        self.plan.path_of(&rows.list[self.row].step.name)
    }

    /// Returns what the step is waiting for, as its component describes it.
    pub(super) fn description(&self) -> Option<String> {
        let text = self.with(|row| row.waiting_for.clone());
        text.and_then(describe)
    }
}

impl fmt::Debug for StepHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepHandle")
            .field("row", &self.row)
            .finish_non_exhaustive()
    }
}
