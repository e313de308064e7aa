//! The checks of the kind of the type, and of the keys and fields that this kind allows.

use syn::{Member, Type};

use crate::ast::{Field, Input};
use crate::errors::Errors;

/// Refuses a union: nothing records which of its fields is live, so no code could clean it up.
pub(super) fn union(input: &Input<'_>, errors: &mut Errors) {
    errors.push(
        input.source.ident.span(),
        "`GracefulShutdown` cannot be derived for a union: nothing records which field is live",
        "use an enum, whose live variant is cleaned up, or implement `Component` by hand",
    );
}

/// Refuses a packed struct: a step borrows its field, and packed fields may be misaligned for a reference.
pub(super) fn not_packed(input: &Input<'_>, errors: &mut Errors) {
    let reprs = input
        .source
        .attrs
        .iter()
        .filter(|attr| attr.path().is_ident("repr"));
    for repr in reprs {
        // The result is ignored, since the compiler reports anything else that is wrong with the attribute.
        let _ = repr.parse_nested_meta(|meta| {
            if meta.path.is_ident("packed") {
                errors.push_over(
                    &meta.path,
                    "`GracefulShutdown` cannot be derived for a packed struct: its fields cannot be borrowed",
                    "remove `packed`, or move the packed data into a struct of its own and hold that in a field",
                );
            }
            if meta.input.peek(syn::token::Paren) {
                meta.input.parse::<proc_macro2::Group>()?;
            }
            Ok(())
        });
    }
}

/// Refuses the keys of owners on an enum. An enum is always a part, and its time limit is the largest of its variants'
/// limits.
pub(super) fn enum_is_a_part(input: &Input<'_>, errors: &mut Errors) {
    let attrs = &input.attrs;
    if attrs.timeout.is_given() {
        errors.push(
            attrs.timeout.span(),
            "an enum has no timeout of its own: its budget is that of its longest variant",
            "put timeouts on the fields of the variants, or on the field that holds the enum",
        );
    }
    if attrs.at_most.is_given() {
        errors.push(
            attrs.at_most.span(),
            "`at_most` does not apply to an enum, which has no timeout of its own",
            "put `timeout` and `at_most` on the fields of the variants",
        );
    }
    if attrs.no_drop.is_given() {
        errors.push(
            attrs.no_drop.span(),
            "`no_drop` has no effect on an enum: an enum is a part, and parts get no `Drop`",
            "remove `no_drop`",
        );
    }
}

/// Refuses `no_drop` on a part: the derive writes `Drop` for owners alone.
pub(super) fn part_without_drop(input: &Input<'_>, errors: &mut Errors) {
    let no_drop = &input.attrs.no_drop;
    if no_drop.is_given() {
        errors.push(
            no_drop.span(),
            "`no_drop` has no effect on a part: parts get no `Drop`",
            "remove `no_drop`; or remove `part`, if the type is shut down by itself",
        );
    }
}

/// Refuses a state field in a part or an enum: the state of their owner tracks the shutdown.
pub(super) fn no_state(kind: &str, fields: &[Field<'_>], errors: &mut Errors) {
    for field in fields.iter().filter(|field| field.attrs.state.is_given()) {
        let what = format!("{kind} has no state: the state of its owner tracks the whole shutdown");
        let help = match kind {
            "a part" => "remove this field; or remove `part`, if the type is shut down by itself",
            _ => "remove this field, and hold the enum in a struct that has the state",
        };
        errors.push(field.attrs.state.span(), what, help);
    }
}

/// Returns the one state field of an owner. If the owner has no or several state fields, reports that and returns
/// `None`.
///
/// Without a state a second call of `shutdown` could not find the first report; with two states it would be unclear
/// which one counts.
pub(super) fn one_state<'a>(
    input: &Input<'_>,
    fields: &'a [Field<'a>],
    errors: &mut Errors,
) -> Option<&'a Field<'a>> {
    let mut states = fields.iter().filter(|field| field.attrs.state.is_given());
    let first = states.next();
    for second in states {
        errors.push(
            second.attrs.state.span(),
            format!(
                "`{}` has a second state field: one state tracks the whole shutdown",
                input.source.ident
            ),
            "keep one field with `#[shutdown(state)]`",
        );
    }
    let may_be_meant = input.attrs.has_errors || fields.iter().any(|field| field.attrs.has_errors);
    if first.is_none() && !may_be_meant {
        missing_state(input, fields, errors);
    }
    first
}

fn missing_state(input: &Input<'_>, fields: &[Field<'_>], errors: &mut Errors) {
    let owner = &input.source.ident;
    if let Some(field) = fields.iter().find(|field| names_state(field.ty)) {
        if field.attrs.attribute.is_none() {
            errors.push(
                field.span(),
                format!(
                    "`{}` looks like the state field of `{owner}`, but has no `#[shutdown(state)]`",
                    field.name
                ),
                "write `#[shutdown(state)]` above it",
            );
            return;
        }
    }
    let state = match fields.first().map(|field| &field.member) {
        Some(Member::Unnamed(_)) => "#[shutdown(state)] ShutdownState",
        Some(Member::Named(_)) | None => "#[shutdown(state)] state: ShutdownState",
    };
    errors.push(
        owner.span(),
        format!("`{owner}` has no state field: nothing would track the progress of its shutdown"),
        format!("add a field `{state}`; or, if `{owner}` is a part of another type that is shut down, write `#[shutdown(part)]` above it"),
    );
}

fn names_state(ty: &Type) -> bool {
    match ty {
        Type::Path(path) => path
            .path
            .segments
            .last()
            .is_some_and(|segment| segment.ident == "ShutdownState"),
        Type::Group(group) => names_state(&group.elem),
        _ => false,
    }
}

/// Applies `strict`, which refuses every field without `#[shutdown]`, even if its type is not a component.
pub(super) fn strict(input: &Input<'_>, fields: &[Field<'_>], errors: &mut Errors) {
    if !input.attrs.strict.is_given() {
        return;
    }
    for field in fields
        .iter()
        .filter(|field| field.attrs.attribute.is_none() && !names_state(field.ty))
    {
        errors.push(
            field.span(),
            format!("`{}` has no `#[shutdown]`, but `{}` is `strict`: every field needs one", field.name, input.source.ident),
            "write `#[shutdown]` above it, with its place in the order; or `#[shutdown(skip)]` if there is nothing to clean up",
        );
    }
}
