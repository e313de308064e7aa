//! Input to plan: one rule a function. Every rule that fails reports, and the others are still asked.

mod budget;
mod calls;
mod combine;
mod order;
mod shape;

use self::budget::Of;
use crate::ast::{self, Field, Input};
use crate::attr::FieldAttrs;
use crate::errors::Errors;
use crate::plan::{Body, Cleanup, Kind, Other, Plan, Role, Step, Through, Variant, Weight, With};

/// The plan of the input, or `None` if `errors` has grown.
pub(crate) fn check<'a>(input: &'a Input<'a>, errors: &mut Errors) -> Option<Plan<'a>> {
    let before = errors.len();
    shape::not_packed(input, errors);
    let kind = match &input.body {
        ast::Body::Union => {
            shape::union(input, errors);
            None
        }
        ast::Body::Enum(variants) => Some(one_of(input, variants, errors)),
        ast::Body::Struct(fields) => structure(input, fields, errors),
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

fn structure<'a>(
    input: &'a Input<'a>,
    fields: &'a [Field<'a>],
    errors: &mut Errors,
) -> Option<Kind<'a>> {
    combine::at_most(
        &input.attrs.timeout,
        &input.attrs.at_most,
        input.attrs.flawed,
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
    let body = body(
        input,
        fields,
        &input.source.ident.to_string(),
        Of::Struct,
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

fn one_of<'a>(
    input: &'a Input<'a>,
    variants: &'a [ast::Variant<'a>],
    errors: &mut Errors,
) -> Kind<'a> {
    shape::enum_is_a_part(input, errors);
    let mut checked = Vec::new();
    for variant in variants {
        shape::no_state("an enum", &variant.fields, errors);
        let owner = format!("{}::{}", input.source.ident, variant.ident);
        if let Some(body) = body(input, &variant.fields, &owner, Of::Variant, errors) {
            checked.push(Variant {
                ident: variant.ident,
                body,
            });
        }
    }
    Kind::OneOf(checked)
}

fn body<'a>(
    input: &Input<'_>,
    fields: &'a [Field<'a>],
    owner: &str,
    of: Of,
    errors: &mut Errors,
) -> Option<Body<'a>> {
    let before = errors.len();
    for field in fields {
        combine::field(field, errors);
    }
    shape::strict(input, fields, errors);
    let placed = order::order(fields, owner, errors);
    let mut lent = vec![false; fields.len()];
    let mut cleanups = Vec::new();
    let mut budgets = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let scope = calls::Scope {
            fields,
            of: index,
            owner,
        };
        cleanups.push(cleanup(field, scope, &mut lent, errors));
        budgets.push(budget::step(field, scope, of, errors));
    }
    if errors.len() > before {
        return None;
    }
    let mut steps = Vec::new();
    for place in placed? {
        let field = &fields[place.field];
        steps.push(Step {
            field,
            index: place.field,
            priority: place.priority,
            after: place.after,
            budget: budgets[place.field].take(),
            cleanup: cleanups[place.field].take()?,
            weight: weight(&field.attrs),
        });
    }
    let others = fields
        .iter()
        .enumerate()
        .filter(|(_, field)| !field.attrs.is_step());
    let others = others.map(|(index, field)| Other {
        field,
        index,
        role: role(&field.attrs),
        lent: lent[index],
    });
    Some(Body {
        steps,
        others: others.collect(),
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

fn weight(attrs: &FieldAttrs) -> Weight {
    if attrs.required.is_given() {
        Weight::Required
    } else if attrs.best_effort.is_given() {
        Weight::BestEffort
    } else {
        Weight::Normal
    }
}

fn cleanup<'a>(
    field: &'a Field<'a>,
    scope: calls::Scope<'_>,
    lent: &mut [bool],
    errors: &mut Errors,
) -> Option<Cleanup<'a>> {
    let attrs = &field.attrs;
    if !attrs.is_step() {
        return None;
    }
    let abort = attrs
        .abort
        .value()
        .map(|abort| calls::abort(abort, attrs.blocking.is_given(), &scope, lent, errors));
    let Some(with) = attrs.with.value() else {
        return Some(Cleanup::Component {
            leaf: attrs.leaf.is_given(),
        });
    };
    let blocking = attrs.blocking.is_given();
    let call = calls::with(with, blocking, &scope, lent, errors)?;
    let abort = match abort {
        Some(None) => return None,
        Some(abort) => abort,
        None => None,
    };
    let through = match (attrs.take.is_given(), calls::option_inside(field.ty)) {
        (true, _) => Through::Taken,
        (false, true) => Through::Option,
        (false, false) => Through::Field,
    };
    Some(Cleanup::With(With {
        call,
        abort,
        through,
        blocking,
    }))
}
