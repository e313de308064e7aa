//! The probes that find out about the type of a field. The derive sees this type only as tokens.
//!
//! An inherent item of `Probe<T>` exists only if `T` is a component, and hides the item of the same name that
//! [`Fallback`] provides for every `T`. So a field whose type is not a component is reported once, by [`component`],
//! and all other code that the derive generated for the field still compiles.

use std::future::{Future, Pending, pending};
use std::marker::PhantomData;

use super::{EndParts, FieldStep, Fields, NoStep};
use crate::{BoxError, Component, MustClean, Plan, ShutdownState, TaskOutcome};

/// A probe for the type of a field.
#[derive(Debug)]
pub struct Probe<T: ?Sized>(PhantomData<fn() -> PhantomData<T>>);

impl<T: ?Sized> Probe<T> {
    /// The probe for a field without `#[shutdown]`.
    pub const FORGOTTEN: Forgotten<T> = Forgotten(PhantomData);
}

/// The result of a probe: the type is a component.
#[derive(Debug)]
pub struct IsComponent;

/// The result of a probe: the type is not a component, as far as its bounds show.
#[derive(Debug)]
pub struct NoComponent;

impl<T: Component + MustClean + ?Sized> Probe<T> {
    /// Whether the type is a component that must not be forgotten.
    pub const MUST_CLEAN: bool = true;
}

impl<T: Component + ?Sized> Probe<T> {
    /// Creates the step of a field.
    pub fn step(field: &mut T) -> FieldStep<'_, T> {
        FieldStep::of(field)
    }

    /// Aborts or releases a field.
    pub fn end(by: &EndParts, step: usize, field: &mut T) {
        by.component(step, field);
    }

    /// Adds the plan of the field's value.
    pub fn plan(fields: &mut Fields, step: usize, field: &T) {
        fields.component(step, field);
    }
}

impl<T: Send + ?Sized> Probe<T> {
    /// Returns the cleanup, which must be `Send` if the type is.
    pub fn cleanup<F: Future<Output = Result<(), BoxError>> + Send>(cleanup: F) -> F {
        cleanup
    }
}

/// The defaults for types that are not components. Their calls do nothing.
pub trait Fallback {
    /// The probed type.
    type Value: ?Sized;
    /// Whether the type is a component that must not be forgotten.
    const MUST_CLEAN: bool = false;

    /// Returns a step that ends at once.
    fn step(_field: &mut Self::Value) -> NoStep {
        NoStep
    }

    /// Replaces the cleanup of a type that is not `Send` by a future that never ends. The type was already reported,
    /// and none of its futures could be `Send`.
    fn cleanup<F: Future>(_cleanup: F) -> Pending<F::Output> {
        pending()
    }

    /// Does nothing, since there is nothing to abort or release.
    fn end(_by: &EndParts, _step: usize, _field: &mut Self::Value) {}

    /// Adds no plan, since the type has none.
    fn plan(_fields: &mut Fields, _step: usize, _field: &Self::Value) {}
}

impl<T: ?Sized> Fallback for Probe<T> {
    type Value = T;
}

/// Requires that `T` is a component, and returns its plan.
pub const fn component<T: Component + ?Sized>() -> &'static Plan {
    const { &T::PLAN }
}

/// Requires that `T` is a component, and returns the plan of a leaf instead of the component's own plan.
pub const fn leaf<T: Component + ?Sized>() -> &'static Plan {
    Plan::LEAF
}

/// Returns the plan of a type. Unlike `T::PLAN`, this function does not require the bounds of the trait. Those are
/// checked and reported at the trait's implementation.
pub const fn plan_of<T: Component + ?Sized>() -> &'static Plan {
    const { &T::PLAN }
}

/// A probe for the type of the field marked `state`. It returns the state only if the type is right.
#[derive(Debug)]
pub struct StateOf<T: ?Sized>(PhantomData<fn() -> PhantomData<T>>);

impl StateOf<ShutdownState> {
    /// Returns the given state itself.
    pub fn of(state: &mut ShutdownState) -> &mut ShutdownState {
        state
    }
}

/// The defaults for a type that is not `ShutdownState`. [`state`] has already reported the type.
pub trait NoState {
    /// The probed type.
    type Value: ?Sized;

    /// Exists only to be compiled; nothing calls it.
    fn of(_value: &mut Self::Value) -> &mut ShutdownState {
        super::no_state()
    }
}

impl<T: ?Sized> NoState for StateOf<T> {
    type Value = T;
}

/// The bound on the type of the field marked `state`. Only `ShutdownState` meets it.
#[diagnostic::on_unimplemented(
    message = "a field of type `{Self}` cannot hold the state of a shutdown",
    label = "not a `ShutdownState`",
    note = "write `#[shutdown(state)]` on a field of type `lifecycle_runtime::ShutdownState`"
)]
pub trait IsState {}

impl IsState for ShutdownState {}

/// Requires that `T` is the type `ShutdownState`.
pub const fn state<T: IsState + ?Sized>() {}

/// Fails the compilation with `message` if a field without `#[shutdown]` is a component.
#[track_caller]
pub const fn assert_not_component(is_component: bool, message: &'static str) {
    if is_component {
        panic!("{}", message);
    }
}

/// A probe for a field without `#[shutdown]`. Autoref in method resolution selects the result for its type. This works
/// even in generic code, where a constant would be evaluated only at code generation.
#[derive(Debug)]
pub struct Forgotten<T: ?Sized>(PhantomData<fn() -> PhantomData<T>>);

/// The case of a component with the mark `MustClean`, which must not be forgotten: an error.
pub trait MustNotBeForgotten {
    /// Returns the result of the probe.
    fn component(&self) -> IsComponent {
        IsComponent
    }
}

impl<T: Component + MustClean + ?Sized> MustNotBeForgotten for &&Forgotten<T> {}

/// The case of a component without the mark `MustClean`. The type may have become a component after the field was
/// written, so it is only a warning.
pub trait ForgottenField {
    /// Returns the result of the probe.
    #[deprecated(
        note = "the type of this field is a component, but nothing says when the field is cleaned up; \
        write `#[shutdown]` above it, with its place in the order (`priority` or `after`), or `#[shutdown(skip)]` if another owner cleans it"
    )]
    fn component(&self) -> NoComponent {
        NoComponent
    }
}

impl<T: Component + ?Sized> ForgottenField for &Forgotten<T> {}

/// The case of a type that is not a component: nothing to report.
pub trait NothingForgotten {
    /// Returns the result of the probe.
    fn component(&self) -> NoComponent {
        NoComponent
    }
}

impl<T: ?Sized> NothingForgotten for Forgotten<T> {}

/// The bound on the result of probing a field without `#[shutdown]`. `Field` is a type that is named like the field.
#[diagnostic::on_unimplemented(
    message = "the field `{Field}` of `{Owner}` is a component, but nothing says when it is cleaned up",
    label = "a forgotten component",
    note = "write `#[shutdown]` above it, with its place in the order (`priority` or `after`), or `#[shutdown(skip)]` if another owner cleans it"
)]
pub trait NotComponent<Field, Owner: ?Sized> {}

impl<Field, Owner: ?Sized> NotComponent<Field, Owner> for NoComponent {}

/// Does the work of [`assert_not_component`] for a type that depends on parameters.
pub const fn assert_not_component_by_type<
    Field,
    Owner: ?Sized,
    Verdict: NotComponent<Field, Owner>,
>(
    _verdict: &Verdict,
) {
}

/// A trait whose method holds the checks of a generic type. The checks are compiled, but never called.
pub trait Check {
    /// Exists only to be compiled; nothing calls it.
    fn check();
}

/// Ignores the result of an `abort` call, since the report already has the step's outcome.
pub fn aborted(ended: impl TaskOutcome) {
    drop(ended.into_outcome());
}
