//! `const PLAN`: what is known of the plan while compiling.

use proc_macro2::{Literal, Span, TokenStream};
use quote::{ToTokens, quote_spanned};

use crate::plan::{Body, Budget, Cleanup, Kind, Known, Plan, Step, Weight};

pub(super) fn constant(plan: &Plan<'_>) -> TokenStream {
    let name = &plan.name;
    let value = match &plan.kind {
        Kind::Owner { timeout, body, .. } => {
            let timeout = match timeout {
                Some((timeout, _)) => optional(proved(timeout)),
                None => here!(__lc::Some(__lc::DEFAULT_TIMEOUT)),
            };
            let structure = structure(plan, name, &timeout, body);
            here!(#structure.__owner())
        }
        Kind::Part { body, .. } => {
            let timeout = optional(plan.timeout().and_then(proved));
            structure(plan, name, &timeout, body)
        }
        Kind::OneOf(variants) => {
            let rows = variants.iter().enumerate().map(|(index, variant)| {
                let shown = syn::ext::IdentExt::unraw(variant.ident).to_string();
                let nested = structure(
                    plan,
                    &format!("{name}::{shown}"),
                    &optional(None),
                    &variant.body,
                );
                let place = Literal::usize_unsuffixed(index);
                here!(__lc::PlanStep::__new(#shown, #place).__nested(const { &#nested }))
            });
            here!(__lc::Plan::__one_of(#name, const { &[#(#rows),*] }))
        }
    };
    here!(const PLAN: __lc::Plan = #value;)
}

fn optional(value: Option<TokenStream>) -> TokenStream {
    match value {
        Some(value) => here!(__lc::Some(#value)),
        None => here!(__lc::None),
    }
}

fn structure(plan: &Plan<'_>, name: &str, timeout: &TokenStream, body: &Body<'_>) -> TokenStream {
    let rows = body.steps.iter().map(row);
    let rows = here!(const { &[#(#rows),*] });
    // A plan that is too long is told at the type.
    let span = Span::mixed_site().located_at(plan.source.ident.span());
    quote_spanned!(span=> __lc::Plan::__new(#name, #timeout, #rows))
}

/// What the compiler can count with.
fn proved(budget: &Budget<'_>) -> Option<TokenStream> {
    match budget {
        Budget::Known(known) => Some(time(known)),
        Budget::Computed { at_most, .. } => at_most.as_ref().map(time),
    }
}

fn time(known: &Known<'_>) -> TokenStream {
    match known {
        Known::Time(time) => {
            let seconds = Literal::u64_unsuffixed(time.as_secs());
            let nanos = Literal::u32_unsuffixed(time.subsec_nanos());
            here!(__lc::Duration::new(#seconds, #nanos))
        }
        Known::Const(expr) => expr.to_token_stream(),
    }
}

fn row(step: &Step<'_>) -> TokenStream {
    let name = &step.field.name;
    let priority = Literal::i32_unsuffixed(step.priority);
    let (after, late) = places(&step.after);
    let timeout = optional(step.budget.as_ref().and_then(proved));
    let ty = step.field.ty;
    // The one error about a step whose type is no component lands on the type.
    let nested = match &step.cleanup {
        Cleanup::Component { leaf: false } => here!(__lc::component::<#ty>()),
        Cleanup::Component { leaf: true } => here!(__lc::leaf::<#ty>()),
        Cleanup::With(_) => here!(__lc::Plan::LEAF),
    };
    let mut row = here! {
        __lc::PlanStep::__of(#name, #priority, #after, #timeout, #nested)
    };
    if let Some(late) = late {
        row.extend(here!(.__after_late(#late)));
    }
    if let Some(Budget::Computed { .. }) = &step.budget {
        row.extend(here!(.__runtime()));
    }
    match step.weight {
        Weight::Normal => {}
        Weight::Required => row.extend(here!(.__required())),
        Weight::BestEffort => row.extend(here!(.__best_effort())),
    }
    if let Cleanup::With(with) = &step.cleanup {
        let how = super::table::call(with, "");
        row.extend(here!(.__how(#how)));
    }
    row
}

/// Steps as a bit each: those below 128, and if there are any, those from there on. The runtime refuses a plan of more.
fn places(places: &[usize]) -> (Literal, Option<Literal>) {
    let bits = |of: fn(usize) -> Option<u32>| {
        let places = places.iter().filter_map(|&place| of(place));
        places.fold(0_u128, |bits, place| bits | 1 << place)
    };
    let low = bits(|place| u32::try_from(place).ok().filter(|place| *place < 128));
    let high = bits(|place| {
        u32::try_from(place)
            .ok()?
            .checked_sub(128)
            .filter(|place| *place < 128)
    });
    let literal = Literal::u128_unsuffixed;
    (literal(low), (high != 0).then(|| literal(high)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_a_bit_each_in_two_numbers() {
        let shown = |of: &[usize]| {
            let (low, high) = places(of);
            (low.to_string(), high.map(|high| high.to_string()))
        };
        assert_eq!(shown(&[]), ("0".into(), None));
        assert_eq!(shown(&[0, 2]), ("5".into(), None));
        assert_eq!(shown(&[1, 128, 131]), ("2".into(), Some("9".into())));
    }
}
