//! The writer of `const PLAN`: the part of the plan that is known at compile time.

use proc_macro2::{Literal, Span, TokenStream};
use quote::{ToTokens, quote_spanned};

use crate::plan::{Body, Budget, Cleanup, Importance, Kind, KnownTime, Plan, Step};

pub(super) fn constant(plan: &Plan<'_>) -> TokenStream {
    let name = &plan.name;
    let value = match &plan.kind {
        Kind::Owner { timeout, body, .. } => {
            let timeout = match timeout {
                Some((timeout, _)) => optional(proved(timeout)),
                None => quote_mixed!(__lc::Some(__lc::DEFAULT_TIMEOUT)),
            };
            let structure = structure(plan, name, &timeout, body);
            quote_mixed!(#structure.__owner())
        }
        Kind::Part { body, .. } => {
            let timeout = optional(plan.timeout().and_then(proved));
            structure(plan, name, &timeout, body)
        }
        Kind::Enum(variants) => {
            let rows = variants.iter().enumerate().map(|(index, variant)| {
                let shown = syn::ext::IdentExt::unraw(variant.ident).to_string();
                let nested = structure(
                    plan,
                    &format!("{name}::{shown}"),
                    &optional(None),
                    &variant.body,
                );
                let position = Literal::usize_unsuffixed(index);
                quote_mixed!(__lc::PlanStep::__new(#shown, #position).__nested(const { &#nested }))
            });
            quote_mixed!(__lc::Plan::__one_of(#name, const { &[#(#rows),*] }))
        }
    };
    quote_mixed!(const PLAN: __lc::Plan = #value;)
}

fn optional(value: Option<TokenStream>) -> TokenStream {
    match value {
        Some(value) => quote_mixed!(__lc::Some(#value)),
        None => quote_mixed!(__lc::None),
    }
}

fn structure(plan: &Plan<'_>, name: &str, timeout: &TokenStream, body: &Body<'_>) -> TokenStream {
    let rows = body.steps.iter().map(row);
    let rows = quote_mixed!(const { &[#(#rows),*] });
    // The span is that of the type's name. The compiler reports a plan with too many steps there.
    let span = Span::mixed_site().located_at(plan.source.ident.span());
    quote_spanned!(span=> __lc::Plan::__new(#name, #timeout, #rows))
}

/// Returns the time with which the compiler proves that the plan fits: a constant timeout, or the `at_most` of a
/// computed timeout.
fn proved(budget: &Budget<'_>) -> Option<TokenStream> {
    match budget {
        Budget::Constant(known) => Some(time(known)),
        Budget::Computed { at_most, .. } => at_most.as_ref().map(time),
    }
}

fn time(known: &KnownTime<'_>) -> TokenStream {
    match known {
        KnownTime::Literal(time) => {
            let seconds = Literal::u64_unsuffixed(time.as_secs());
            let nanos = Literal::u32_unsuffixed(time.subsec_nanos());
            quote_mixed!(__lc::Duration::new(#seconds, #nanos))
        }
        KnownTime::Const(expr) => expr.to_token_stream(),
    }
}

fn row(step: &Step<'_>) -> TokenStream {
    let name = &step.field.name;
    let priority = Literal::i32_unsuffixed(step.priority);
    let (after, late) = step_set(&step.after);
    let timeout = optional(step.budget.as_ref().and_then(proved));
    let ty = step.field.ty;
    // If the step's type is not a component, only this call reports that, at the type.
    let nested = match &step.cleanup {
        Cleanup::Component { leaf: false } => quote_mixed!(__lc::component::<#ty>()),
        Cleanup::Component { leaf: true } => quote_mixed!(__lc::leaf::<#ty>()),
        Cleanup::With(_) => quote_mixed!(__lc::Plan::LEAF),
    };
    let mut row = quote_mixed! {
        __lc::PlanStep::__of(#name, #priority, #after, #timeout, #nested)
    };
    if let Some(late) = late {
        row.extend(quote_mixed!(.__after_late(#late)));
    }
    if let Some(Budget::Computed { .. }) = &step.budget {
        row.extend(quote_mixed!(.__runtime()));
    }
    match step.importance {
        Importance::Normal => {}
        Importance::Required => row.extend(quote_mixed!(.__required())),
        Importance::BestEffort => row.extend(quote_mixed!(.__best_effort())),
    }
    if let Cleanup::With(with) = &step.cleanup {
        let how = super::table::describe_call(with, "");
        row.extend(quote_mixed!(.__how(#how)));
    }
    row
}

/// Returns the steps at `positions` as a set with one bit for each step. The first number has the steps below 128, the
/// second the steps from 128 on, if there are any. The runtime refuses a plan with more than 256 steps.
fn step_set(positions: &[usize]) -> (Literal, Option<Literal>) {
    let bits = |of: fn(usize) -> Option<u32>| {
        let positions = positions.iter().filter_map(|&position| of(position));
        positions.fold(0_u128, |bits, position| bits | 1 << position)
    };
    let low = bits(|position| {
        u32::try_from(position)
            .ok()
            .filter(|position| *position < 128)
    });
    let high = bits(|position| {
        u32::try_from(position)
            .ok()?
            .checked_sub(128)
            .filter(|position| *position < 128)
    });
    let literal = Literal::u128_unsuffixed;
    (literal(low), (high != 0).then(|| literal(high)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_steps_is_two_numbers_with_a_bit_for_each_step() {
        let shown = |of: &[usize]| {
            let (low, high) = step_set(of);
            (low.to_string(), high.map(|high| high.to_string()))
        };
        assert_eq!(shown(&[]), ("0".into(), None));
        assert_eq!(shown(&[0, 2]), ("5".into(), None));
        assert_eq!(shown(&[1, 128, 131]), ("2".into(), Some("9".into())));
    }
}
