//! The checks that turn the input into a plan. Each rule is a function. All rules are checked, so that one compilation
//! reports every mistake.

mod budget;
mod calls;
mod combine;
mod order;
mod shape;

use self::budget::Container;
use crate::ast::{self, Field, Input};
use crate::attr::FieldAttrs;
use crate::errors::Errors;
use crate::plan::{
    Access, Body, Cleanup, Importance, Kind, NonStep, Plan, Role, Step, Variant, With,
};

/// Returns the plan of the input. If the input has mistakes, reports them and returns `None`.
pub(crate) fn check<'a>(input: &'a Input<'a>, errors: &mut Errors) -> Option<Plan<'a>> {
    let before = errors.len();
    shape::not_packed(input, errors);
    let kind = match &input.body {
        ast::Body::Union => {
            shape::union(input, errors);
            None
        }
        ast::Body::Enum(variants) => Some(check_enum(input, variants, errors)),
        ast::Body::Struct(fields) => check_struct(input, fields, errors),
    };
    let name = match input.attrs.name.value() {
        Some(text) => text.value(),
        None => syn::ext::IdentExt::unraw(&input.source.ident).to_string(),
    };
    let plan = Plan {
        source: input.source,
        runtime: input.attrs.runtime.value(),
        name,
        kind: kind?,
    };
    (errors.len() == before).then_some(plan)
}

fn check_struct<'a>(
    input: &'a Input<'a>,
    fields: &'a [Field<'a>],
    errors: &mut Errors,
) -> Option<Kind<'a>> {
    combine::at_most(
        &input.attrs.timeout,
        &input.attrs.at_most,
        input.attrs.has_errors,
        errors,
    );
    let timeout = budget::total(input);
    let is_part = input.attrs.part.is_given();
    let state = if is_part {
        shape::part_without_drop(input, errors);
        shape::no_state("a part", fields, errors);
        None
    } else {
        shape::one_state(input, fields, errors)
    };
    let body = check_body(
        input,
        fields,
        &input.source.ident.to_string(),
        Container::Struct,
        errors,
    )?;
    if is_part {
        return Some(Kind::Part { timeout, body });
    }
    Some(Kind::Owner {
        state: state?,
        drops: !input.attrs.no_drop.is_given(),
        timeout,
        body,
    })
}

fn check_enum<'a>(
    input: &'a Input<'a>,
    variants: &'a [ast::Variant<'a>],
    errors: &mut Errors,
) -> Kind<'a> {
    shape::enum_is_a_part(input, errors);
    let mut checked = Vec::new();
    for variant in variants {
        shape::no_state("an enum", &variant.fields, errors);
        let owner = format!("{}::{}", input.source.ident, variant.ident);
        if let Some(body) = check_body(input, &variant.fields, &owner, Container::Variant, errors) {
            checked.push(Variant {
                ident: variant.ident,
                body,
            });
        }
    }
    Kind::Enum(checked)
}

/// Checks the fields of a struct or variant. `owner` is the name of the struct or variant in messages.
fn check_body<'a>(
    input: &Input<'_>,
    fields: &'a [Field<'a>],
    owner: &str,
    container: Container,
    errors: &mut Errors,
) -> Option<Body<'a>> {
    let before = errors.len();
    for field in fields {
        combine::field(field, errors);
    }
    shape::strict(input, fields, errors);
    let order = order::order(fields, owner, errors);
    let mut captured = vec![false; fields.len()];
    let mut cleanups = Vec::new();
    let mut budgets = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let scope = calls::Scope {
            fields,
            step: index,
            owner,
        };
        cleanups.push(cleanup(field, scope, &mut captured, errors));
        budgets.push(budget::step(field, scope, container, errors));
    }
    if errors.len() > before {
        return None;
    }
    let mut steps = Vec::new();
    for ordered in order? {
        let field = &fields[ordered.field];
        steps.push(Step {
            field,
            index: ordered.field,
            priority: ordered.priority,
            after: ordered.after,
            budget: budgets[ordered.field].take(),
            cleanup: cleanups[ordered.field].take()?,
            importance: importance(&field.attrs),
        });
    }
    let non_steps = fields
        .iter()
        .enumerate()
        .filter(|(_, field)| !field.attrs.is_step());
    let non_steps = non_steps.map(|(index, field)| NonStep {
        field,
        index,
        role: role(&field.attrs),
        captured: captured[index],
    });
    Some(Body {
        steps,
        non_steps: non_steps.collect(),
    })
}

fn role(attrs: &FieldAttrs) -> Role {
    if attrs.state.is_given() {
        Role::State
    } else if attrs.skip.is_given() {
        Role::Skipped
    } else {
        Role::Plain
    }
}

fn importance(attrs: &FieldAttrs) -> Importance {
    if attrs.required.is_given() {
        Importance::Required
    } else if attrs.best_effort.is_given() {
        Importance::BestEffort
    } else {
        Importance::Normal
    }
}

fn cleanup<'a>(
    field: &'a Field<'a>,
    scope: calls::Scope<'_>,
    captured: &mut [bool],
    errors: &mut Errors,
) -> Option<Cleanup<'a>> {
    let attrs = &field.attrs;
    if !attrs.is_step() {
        return None;
    }
    let abort = attrs
        .abort
        .value()
        .map(|abort| calls::abort(abort, attrs.blocking.is_given(), &scope, captured, errors));
    let Some(with) = attrs.with.value() else {
        return Some(Cleanup::Component {
            leaf: attrs.leaf.is_given(),
        });
    };
    let blocking = attrs.blocking.is_given();
    let call = calls::with(with, blocking, &scope, captured, errors)?;
    let abort = match abort {
        Some(None) => return None,
        Some(abort) => abort,
        None => None,
    };
    let access = match (attrs.take.is_given(), calls::option_inside(field.ty)) {
        (true, _) => Access::Taken,
        (false, true) => Access::InsideOption,
        (false, false) => Access::Field,
    };
    Some(Cleanup::With(With {
        call,
        abort,
        access,
        blocking,
    }))
}
