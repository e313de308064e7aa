//! What the derive asks of a field's type, which it sees only as tokens.
//!
//! An inherent item of `Probe<T>` exists only where `T` is a component, and hides the item of the same name that
//! [`Fallback`] offers for every `T`. So a field whose type is no component is reported once, by [`component`], and
//! everything else that the derive writes about it still compiles.

use std::future::{Future, Pending, pending};
use std::marker::PhantomData;

use super::{EndParts, FieldStep, Fields, NoStep};
use crate::{BoxError, Component, MustClean, Plan, ShutdownState, TaskOutcome};

/// A field's type, to be asked.
#[derive(Debug)]
pub struct Probe<T: ?Sized>(PhantomData<fn() -> PhantomData<T>>);

impl<T: ?Sized> Probe<T> {
    /// Asks about a field without `#[shutdown]`.
    pub const FORGOTTEN: Forgotten<T> = Forgotten(PhantomData);
}

/// The verdict on a type that is a component.
#[derive(Debug)]
pub struct IsComponent;

/// The verdict on a type that is none, as far as its bounds tell.
#[derive(Debug)]
pub struct NoComponent;

impl<T: Component + MustClean + ?Sized> Probe<T> {
    /// Whether the type is a component that must not be forgotten.
    pub const MUST_CLEAN: bool = true;
}

impl<T: Component + ?Sized> Probe<T> {
    /// The step of a field.
    pub fn own(field: &mut T) -> FieldStep<'_, T> {
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
    /// The cleanup of a type, which must be as sendable as the type.
    pub fn cleanup<F: Future<Output = Result<(), BoxError>> + Send>(cleanup: F) -> F {
        cleanup
    }
}

/// The same for types that are no components; every call does nothing.
pub trait Fallback {
    /// The type that is asked.
    type Value: ?Sized;
    /// Whether the type is a component that must not be forgotten.
    const MUST_CLEAN: bool = false;

    /// Ends at once.
    fn own(_field: &mut Self::Value) -> NoStep {
        NoStep
    }

    /// Of a type that cannot be sent, which was reported already: no future of it could be.
    fn cleanup<F: Future>(_cleanup: F) -> Pending<F::Output> {
        pending()
    }

    /// Does nothing.
    fn end(_by: &EndParts, _step: usize, _field: &mut Self::Value) {}

    /// Adds nothing.
    fn plan(_fields: &mut Fields, _step: usize, _field: &Self::Value) {}
}

impl<T: ?Sized> Fallback for Probe<T> {
    type Value = T;
}

/// Demands a component, and gives its plan.
pub const fn component<T: Component + ?Sized>() -> &'static Plan {
    const { &T::PLAN }
}

/// Demands a component, and hides its plan.
pub const fn leaf<T: Component + ?Sized>() -> &'static Plan {
    Plan::LEAF
}

/// The plan of a type. Unlike `T::PLAN` it does not ask for what the trait demands of every component, which is asked,
/// and reported, where the trait is implemented.
pub const fn plan_of<T: Component + ?Sized>() -> &'static Plan {
    const { &T::PLAN }
}

/// The type of a field marked `state`, to be asked: only with the right one does it give the state.
#[derive(Debug)]
pub struct StateOf<T: ?Sized>(PhantomData<fn() -> PhantomData<T>>);

impl StateOf<ShutdownState> {
    /// The state.
    pub fn of(state: &mut ShutdownState) -> &mut ShutdownState {
        state
    }
}

/// The same for every other type, of which [`state`] has told already.
pub trait NoState {
    /// The type that is asked.
    type Value: ?Sized;

    /// Never called.
    fn of(_value: &mut Self::Value) -> &mut ShutdownState {
        super::no_state()
    }
}

impl<T: ?Sized> NoState for StateOf<T> {
    type Value = T;
}

/// What the field marked `state` must be.
#[diagnostic::on_unimplemented(
    message = "a field of type `{Self}` cannot hold the state of a shutdown",
    label = "not a `ShutdownState`",
    note = "write `#[shutdown(state)]` on a field of type `lifecycle_runtime::ShutdownState`"
)]
pub trait IsState {}

impl IsState for ShutdownState {}

/// Demands the state.
pub const fn state<T: IsState + ?Sized>() {}

/// Fails the compilation if a field was forgotten.
#[track_caller]
pub const fn assert_not_component(is_component: bool, message: &'static str) {
    if is_component {
        panic!("{}", message);
    }
}

/// A field without `#[shutdown]`. Method resolution finds by autoref what its type is, also where a constant would have
/// to wait for code generation.
#[derive(Debug)]
pub struct Forgotten<T: ?Sized>(PhantomData<fn() -> PhantomData<T>>);

/// A component that must not be forgotten, which is an error…
pub trait MustNotBeForgotten {
    /// The verdict.
    fn component(&self) -> IsComponent {
        IsComponent
    }
}

impl<T: Component + MustClean + ?Sized> MustNotBeForgotten for &&Forgotten<T> {}

/// …one that may have become a component after the field was written, which is a warning…
pub trait ForgottenField {
    /// The verdict.
    #[deprecated(
        note = "the type of this field is a component, but nothing says when the field is cleaned up; \
        write `#[shutdown]` with its place in the order above it, or `#[shutdown(skip)]` if another owner cleans it"
    )]
    fn component(&self) -> NoComponent {
        NoComponent
    }
}

impl<T: Component + ?Sized> ForgottenField for &Forgotten<T> {}

/// …and any other type, of which nothing is to be said.
pub trait NothingForgotten {
    /// The verdict.
    fn component(&self) -> NoComponent {
        NoComponent
    }
}

impl<T: ?Sized> NothingForgotten for Forgotten<T> {}

/// The verdict that a field without `#[shutdown]` may have. The first type is named like the field.
#[diagnostic::on_unimplemented(
    message = "the field `{Field}` of `{Owner}` is a component, but nothing says when it is cleaned up",
    label = "a forgotten component",
    note = "write `#[shutdown]` with its place in the order above it, or `#[shutdown(skip)]` if another owner cleans it"
)]
pub trait NotComponent<Field, Owner: ?Sized> {}

impl<Field, Owner: ?Sized> NotComponent<Field, Owner> for NoComponent {}

/// [`assert_not_component`], for a type that depends on parameters.
pub const fn assert_not_component_by_type<
    Field,
    Owner: ?Sized,
    Verdict: NotComponent<Field, Owner>,
>(
    _verdict: &Verdict,
) {
}

/// Where the derive of a generic type puts what it asks: compiled, never called.
pub trait Check {
    /// Never called.
    fn check();
}

/// Ends an `abort` call. The report tells of the step's end already, so its failure has no place of its own.
pub fn aborted(ended: impl TaskOutcome) {
    drop(ended.into_outcome());
}
