//! The record of which step the engine is aborting, so that an `abort` or `release` skips the parts of its value that
//! have already ended.
//!
//! [`Component::abort`](crate::Component::abort) has no parameters, and may be called through any wrapper: an object, a
//! lock, a closure of `abort =`. So the engine records during the call which step it aborts. Derived types and
//! containers look up in that step the plan that they opened in this run, by their own address. A plan that ended clean
//! is not considered, since its component may have been replaced by another one at the same address.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::StepHandle;
use super::resumed::{NestedKind, NestedPlan};
use super::running::RunningPlan;
use crate::Plan;

/// The step whose component is being aborted or released.
#[derive(Clone)]
struct Scope {
    step: StepHandle,
    /// Whether the component's cleanup only runs its own plan, so that the step's field identifies that plan. Set to
    /// false once the plan was looked up.
    is_plan: bool,
}

thread_local! {
    static SCOPE: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

/// A guard that restores the outer value of `SCOPE`, even during a panic.
struct Restore(Option<Scope>);

impl Drop for Restore {
    fn drop(&mut self) {
        SCOPE.set(self.0.take());
    }
}

/// Runs `f`, which aborts or releases the component of `step`, with the step recorded in `SCOPE`.
pub(super) fn enter(step: &StepHandle, is_plan: bool, f: impl FnOnce()) {
    let scope = Scope {
        step: step.clone(),
        is_plan,
    };
    let _restore = Restore(SCOPE.replace(Some(scope)));
    f();
}

/// Runs `f`, which aborts or releases a value without a known plan, with nothing recorded in `SCOPE`.
fn leave(f: impl FnOnce()) {
    let _restore = Restore(SCOPE.take());
    f();
}

/// The running plan of a derived value that is being aborted or released. It tells which of the value's steps have
/// ended. `None` if no plan is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownSteps {
    plan: Option<Arc<RunningPlan>>,
}

impl KnownSteps {
    /// Creates the value from the plan in an owner's state.
    pub(crate) fn of_plan(plan: Option<&Arc<RunningPlan>>) -> Self {
        Self {
            plan: plan.cloned(),
        }
    }

    /// Finds the running plan of the part at `address`, whose type has this `plan`.
    pub(crate) fn of_part(plan: &Plan, address: usize) -> Self {
        let known = SCOPE.with_borrow_mut(|scope| {
            let scope = scope.as_mut()?;
            let is_plan = std::mem::take(&mut scope.is_plan);
            let nested = scope.step.nested();
            if is_plan {
                let own = nested.iter().find(|nested| nested.kind == NestedKind::Own);
                return own.map(|own| Arc::clone(&own.plan));
            }
            find(&nested, plan, address)
        });
        Self { plan: known }
    }

    /// Returns whether step `i` has not ended.
    pub(crate) fn is_due(&self, i: usize) -> bool {
        self.plan.as_ref().is_none_or(|plan| plan.is_unfinished(i))
    }

    /// Runs `f`, which aborts or releases the component of step `i`, with that step recorded in `SCOPE`.
    pub(crate) fn step(&self, i: usize, is_plan: bool, f: impl FnOnce()) {
        match &self.plan {
            Some(plan) => {
                let step = StepHandle::new(Arc::clone(plan), plan.first() + i);
                enter(&step, is_plan, f);
            }
            None => leave(f),
        }
    }
}

/// Returns whether `name` is the name of `plan`, or of one of its variants.
fn has_name(plan: &Plan, name: &str) -> bool {
    let mut variants = plan.steps.iter().filter_map(|variant| variant.nested);
    plan.name == name || (plan.one_of && variants.any(|variant| variant.name == name))
}

/// The elements of containers that the step being aborted has cleaned, by address. An element that has not ended has
/// the handle of its step.
pub(crate) struct KnownElements(HashMap<usize, Option<StepHandle>>);

impl KnownElements {
    pub(crate) fn of_scope() -> Self {
        let nested = SCOPE.with_borrow(|scope| Some(scope.as_ref()?.step.nested()));
        let mut known = HashMap::new();
        collect(&nested.unwrap_or_default(), &mut known);
        Self(known)
    }

    /// Runs `f`, which aborts or releases the element at `address`, unless that element has ended.
    pub(crate) fn element(&self, address: usize, f: impl FnOnce()) {
        match self.0.get(&address) {
            Some(None) => {}
            Some(Some(step)) => enter(step, false, f),
            // No row is known, so the element belongs to another container, or to a container that was not cleaned.
            None => f(),
        }
    }
}

fn collect(nested: &[NestedPlan], known: &mut HashMap<usize, Option<StepHandle>>) {
    for nested in nested
        .iter()
        .filter(|nested| nested.kind == NestedKind::Elements)
    {
        for (row, &address) in nested.elements.iter().enumerate().filter(|at| *at.1 != 0) {
            let step = StepHandle::new(Arc::clone(&nested.plan), row);
            known.insert(address, (!step.has_ended()).then_some(step));
        }
    }
}

/// Finds the plan of the part at `address`, among `nested` and in the elements of the containers in `nested`.
fn find(nested: &[NestedPlan], plan: &Plan, address: usize) -> Option<Arc<RunningPlan>> {
    if address == 0 {
        return None;
    }
    let parts = nested.iter().find(|nested| {
        let went_well = nested.plan.report().is_some_and(crate::Report::is_clean);
        nested.address == address && has_name(plan, nested.plan.component) && !went_well
    });
    parts.map(|part| Arc::clone(&part.plan)).or_else(|| {
        let mut elements = nested
            .iter()
            .filter(|nested| nested.kind == NestedKind::Elements);
        elements.find_map(|elements| match elements.plan.report() {
            // The container's plan has ended, so the plans of its elements are dropped. Each element was already
            // aborted by its own step.
            Some(report) => {
                let mut ended = elements.elements.iter().zip(report.steps());
                ended
                    .any(|(&at, step)| at == address && !step.is_clean())
                    .then(|| Arc::clone(&elements.plan))
            }
            None => {
                let inside: Vec<_> = {
                    let rows = elements.plan.rows();
                    rows.list
                        .iter()
                        .flat_map(|row| row.nested.to_vec())
                        .collect()
                };
                find(&inside, plan, address)
            }
        })
    })
}

/// Returns the address of a value, which identifies it while nothing can move it. Returns 0 for a zero-sized value,
/// as it may share its address with others.
pub(crate) fn address_of<T: ?Sized>(value: &T) -> usize {
    match size_of_val(value) {
        0 => 0,
        _ => std::ptr::from_ref(value).cast::<()>() as usize,
    }
}
