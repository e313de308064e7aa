//! What kind of type it is, and what that allows.

use syn::{Member, Type};

use crate::ast::{Field, Input};
use crate::errors::Errors;

/// A union does not know which of its fields is alive, so nothing can clean it.
pub(super) fn union(input: &Input<'_>, errors: &mut Errors) {
    errors.push(
        input.source.ident.span(),
        "`GracefulShutdown` cannot be derived for a union: nothing says which field is alive",
        "use an enum, whose live variant is cleaned, or implement `Component` by hand",
    );
}

/// A step borrows its field, and the fields of a packed struct may lie where no reference can point.
pub(super) fn not_packed(input: &Input<'_>, errors: &mut Errors) {
    let reprs = input
        .source
        .attrs
        .iter()
        .filter(|attr| attr.path().is_ident("repr"));
    for repr in reprs {
        // What else is wrong with the attribute is for the compiler to say.
        let _ = repr.parse_nested_meta(|meta| {
            if meta.path.is_ident("packed") {
                errors.push_over(
                    &meta.path,
                    "`GracefulShutdown` cannot be derived for a packed struct: its fields cannot be borrowed",
                    "remove `packed`, or hold the packed data in a field of a struct that is not",
                );
            }
            if meta.input.peek(syn::token::Paren) {
                meta.input.parse::<proc_macro2::Group>()?;
            }
            Ok(())
        });
    }
}

/// An enum is always a part: it has no place for a state, and the budget of its plan is the largest of its variants.
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
            "an enum has no timeout that `at_most` could limit",
            "put `timeout` and `at_most` on the fields of the variants",
        );
    }
    if attrs.no_drop.is_given() {
        errors.push(
            attrs.no_drop.span(),
            "an enum is a part, and a part has no `Drop` that `no_drop` could leave away",
            "remove `no_drop`",
        );
    }
}

/// Only owners have a `Drop`, so only they can do without.
pub(super) fn part_without_drop(input: &Input<'_>, errors: &mut Errors) {
    let no_drop = &input.attrs.no_drop;
    if no_drop.is_given() {
        errors.push(
            no_drop.span(),
            "a part has no `Drop` that `no_drop` could leave away",
            "remove `no_drop`; or remove `part`, if the type is shut down by itself",
        );
    }
}

/// Parts and enums are cleaned by the owner they live in, whose state knows how far the shutdown is.
pub(super) fn no_state(kind: &str, fields: &[Field<'_>], errors: &mut Errors) {
    for field in fields.iter().filter(|field| field.attrs.state.is_given()) {
        let what =
            format!("{kind} has no state: the owner it lives in knows how far the shutdown is");
        let help = match kind {
            "a part" => "remove this field; or remove `part`, if the type is shut down by itself",
            _ => "remove this field, and hold the enum in a struct that has the state",
        };
        errors.push(field.attrs.state.span(), what, help);
    }
}

/// An owner needs exactly one field that holds its state: without one a second call could not find the first report,
/// and with two nobody would know which counts.
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
                "`{}` has a second state field: one state follows the whole shutdown",
                input.source.ident
            ),
            "keep one field with `#[shutdown(state)]`",
        );
    }
    let may_be_meant = input.attrs.flawed || fields.iter().any(|field| field.attrs.flawed);
    if first.is_none() && !may_be_meant {
        missing_state(input, fields, errors);
    }
    first
}

fn missing_state(input: &Input<'_>, fields: &[Field<'_>], errors: &mut Errors) {
    let owner = &input.source.ident;
    if let Some(field) = fields.iter().find(|field| names_state(field.ty)) {
        if field.attrs.marked.is_none() {
            errors.push(
                field.span(),
                format!(
                    "`{}` looks like the state of `{owner}`, but is not marked as such",
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
        format!("`{owner}` has no state field: nothing could tell how far its shutdown is"),
        format!("add a field `{state}`; or, if `{owner}` lives inside another type that is shut down, write `#[shutdown(part)]` on it"),
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

/// `strict`: every field says what becomes of it, component or not.
pub(super) fn strict(input: &Input<'_>, fields: &[Field<'_>], errors: &mut Errors) {
    if !input.attrs.strict.is_given() {
        return;
    }
    for field in fields
        .iter()
        .filter(|field| field.attrs.marked.is_none() && !names_state(field.ty))
    {
        errors.push(
            field.span(),
            format!("`{}` has no `#[shutdown]`, and `{}` is strict: every field says what becomes of it", field.name, input.source.ident),
            "write `#[shutdown]` with its order above it, or `#[shutdown(skip)]` if there is nothing to clean",
        );
    }
}
