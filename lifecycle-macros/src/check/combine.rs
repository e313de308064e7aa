//! Which keys go together.

use proc_macro2::Ident;

use super::calls;
use crate::ast::Field;
use crate::attr::{FieldAttrs, Slot, Time};
use crate::errors::Errors;

/// Every rule about the keys of one field.
pub(super) fn field(field: &Field<'_>, errors: &mut Errors) {
    let attrs = &field.attrs;
    if attrs.skip.is_given() || attrs.state.is_given() {
        skip_or_state_alone(attrs, errors);
        return;
    }
    needs_with(attrs, errors);
    leaf_is_a_component(attrs, errors);
    required_or_best_effort(attrs, errors);
    at_most(&attrs.timeout, &attrs.at_most, attrs.flawed, errors);
    take_needs_an_option(field, errors);
}

/// A field that is skipped, or that holds the state, is no step, so nothing else can be said of it.
fn skip_or_state_alone(attrs: &FieldAttrs, errors: &mut Errors) {
    let (word, why) = if attrs.skip.is_given() {
        ("skip", "the field is not cleaned")
    } else {
        ("state", "the field holds the state and is no step")
    };
    if attrs.skip.is_given() && attrs.state.is_given() {
        errors.push(
            attrs.skip.span(),
            "`skip` and `state` contradict each other",
            "keep `state` on the field that holds the `ShutdownState`, and `skip` on fields that are not cleaned",
        );
    }
    for key in attrs.step_keys() {
        errors.push(
            key.span(),
            format!("`{key}` has no meaning beside `{word}`: {why}"),
            format!("remove `{key}`, or remove `{word}`"),
        );
    }
}

/// `take`, `abort` and `blocking` say how `with` is called; a component says all that itself.
fn needs_with(attrs: &FieldAttrs, errors: &mut Errors) {
    if attrs.with.is_given() || attrs.flawed {
        return;
    }
    let say = |key: Option<&Ident>, why: &str, errors: &mut Errors| {
        if let Some(key) = key {
            let help =
                format!("add `with = …`, or remove `{key}` if the field's type is a component");
            errors.push(key.span(), format!("`{key}` without `with`: {why}"), help);
        }
    };
    say(attrs.take.key(), "nothing takes the value", errors);
    say(
        attrs.abort.key(),
        "a component has an `abort` of its own",
        errors,
    );
    say(
        attrs.blocking.key(),
        "a component's cleanup is async",
        errors,
    );
}

/// `leaf` hides the plan of a component; a step with `with` has none.
fn leaf_is_a_component(attrs: &FieldAttrs, errors: &mut Errors) {
    if attrs.leaf.is_given() && attrs.with.is_given() {
        errors.push(
            attrs.leaf.span(),
            "`leaf` hides the plan of a component, but a step with `with` has no plan to hide",
            "remove `leaf`",
        );
    }
}

/// A step cannot be one that everything waits for and one that may fail.
fn required_or_best_effort(attrs: &FieldAttrs, errors: &mut Errors) {
    if attrs.required.is_given() && attrs.best_effort.is_given() {
        errors.push(
            attrs.best_effort.span(),
            "`required` and `best_effort` contradict each other: one stops what comes after a failure, the other forgives it",
            "keep one of them",
        );
    }
}

/// `at_most` limits a timeout that is known only at run time; a literal is its own limit.
pub(super) fn at_most(
    timeout: &Slot<Time>,
    at_most: &Slot<Time>,
    flawed: bool,
    errors: &mut Errors,
) {
    if !at_most.is_given() {
        return;
    }
    if !timeout.is_given() {
        if flawed {
            return;
        }
        errors.push(
            at_most.span(),
            "`at_most` without `timeout`: it limits a timeout that is known only at run time",
            "write `timeout = …` instead, or add a timeout such as `timeout = self.config.grace`",
        );
    } else if matches!(timeout.value(), Some(Time::Literal { .. } | Time::Const(_))) {
        errors.push(
            at_most.span(),
            "`at_most` has no meaning here: the timeout is known already",
            "remove `at_most`",
        );
    }
}

/// A value can be moved out only where something is left behind.
fn take_needs_an_option(field: &Field<'_>, errors: &mut Errors) {
    if field.attrs.take.is_given() && !calls::option_inside(field.ty) {
        errors.push(
            field.attrs.take.span(),
            format!("`take` moves the value out, but the type of `{}` is not written `Option<…>`: nothing could stay behind", field.name),
            "make the field an `Option<…>`, or remove `take` if the function can work on `&mut`",
        );
    }
}
