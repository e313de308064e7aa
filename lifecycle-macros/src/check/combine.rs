//! The checks of which keys may be written on the same field or type.

use proc_macro2::Ident;

use super::calls;
use crate::ast::Field;
use crate::attr::{FieldAttrs, Slot, Time};
use crate::errors::Errors;

/// Applies every rule about the keys of one field.
pub(super) fn field(field: &Field<'_>, errors: &mut Errors) {
    let attrs = &field.attrs;
    if attrs.skip.is_given() || attrs.state.is_given() {
        skip_or_state_alone(attrs, errors);
        return;
    }
    needs_with(attrs, errors);
    leaf_is_a_component(attrs, errors);
    required_or_best_effort(attrs, errors);
    at_most(&attrs.timeout, &attrs.at_most, attrs.has_errors, errors);
    take_needs_an_option(field, errors);
}

/// Refuses the keys of a step on a field with `skip` or `state`, since that field is not a step.
fn skip_or_state_alone(attrs: &FieldAttrs, errors: &mut Errors) {
    let (word, why) = if attrs.skip.is_given() {
        ("skip", "the field is not cleaned up")
    } else {
        ("state", "the field holds the state and is not a step")
    };
    if attrs.skip.is_given() && attrs.state.is_given() {
        errors.push(
            attrs.skip.span(),
            "`skip` and `state` contradict each other",
            "keep `state` on the field that holds the `ShutdownState`, and `skip` on fields that are not cleaned up",
        );
    }
    for key in attrs.step_keys() {
        errors.push(
            key.span(),
            format!("`{key}` has no effect beside `{word}`: {why}"),
            format!("remove `{key}`, or remove `{word}`"),
        );
    }
}

/// Refuses `take`, `abort` and `blocking` without `with`. These keys describe how `with` is called; a component decides
/// that itself.
fn needs_with(attrs: &FieldAttrs, errors: &mut Errors) {
    if attrs.with.is_given() || attrs.has_errors {
        return;
    }
    let say = |key: Option<&Ident>, why: &str, errors: &mut Errors| {
        if let Some(key) = key {
            let help =
                format!("add `with = …`, or remove `{key}` if the field's type is a component");
            errors.push(key.span(), format!("`{key}` needs `with`: {why}"), help);
        }
    };
    say(
        attrs.take.key(),
        "without it, no function receives the value",
        errors,
    );
    say(attrs.abort.key(), "a component has its own `abort`", errors);
    say(
        attrs.blocking.key(),
        "a component's own cleanup is async",
        errors,
    );
}

/// Refuses `leaf` on a field with `with`. `leaf` hides the plan of a component, and a step with `with` has no nested
/// plan.
fn leaf_is_a_component(attrs: &FieldAttrs, errors: &mut Errors) {
    if attrs.leaf.is_given() && attrs.with.is_given() {
        errors.push(
            attrs.leaf.span(),
            "`leaf` hides the plan of a component, but a step with `with` has no plan to hide",
            "remove `leaf`",
        );
    }
}

/// Refuses `required` on a field with `best_effort`: a step's failure cannot both stop the later steps and be ignored.
fn required_or_best_effort(attrs: &FieldAttrs, errors: &mut Errors) {
    if attrs.required.is_given() && attrs.best_effort.is_given() {
        errors.push(
            attrs.best_effort.span(),
            "`required` and `best_effort` contradict each other: a failed `required` step stops all later steps, a failed `best_effort` step is ignored",
            "keep one of them",
        );
    }
}

/// Refuses `at_most` without a timeout that is computed at run time. A constant timeout needs no other limit.
pub(super) fn at_most(
    timeout: &Slot<Time>,
    at_most: &Slot<Time>,
    has_errors: bool,
    errors: &mut Errors,
) {
    if !at_most.is_given() {
        return;
    }
    if !timeout.is_given() {
        if has_errors {
            return;
        }
        errors.push(
            at_most.span(),
            "`at_most` needs `timeout`: it limits a timeout that is computed at run time",
            "write `timeout = …` instead, or add a timeout such as `timeout = self.config.grace`",
        );
    } else if matches!(timeout.value(), Some(Time::Literal { .. } | Time::Const(_))) {
        errors.push(
            at_most.span(),
            "`at_most` has no effect here: this timeout is a constant",
            "remove `at_most`",
        );
    }
}

/// Refuses `take` on a field that is not an `Option`: moving the value out must leave something in the field.
fn take_needs_an_option(field: &Field<'_>, errors: &mut Errors) {
    if field.attrs.take.is_given() && !calls::option_inside(field.ty) {
        errors.push(
            field.attrs.take.span(),
            format!("`take` moves the value out of `{}`, but the field's type is not written `Option<…>`", field.name),
            "make the field an `Option<…>`, or remove `take` if the function can work on `&mut`",
        );
    }
}
