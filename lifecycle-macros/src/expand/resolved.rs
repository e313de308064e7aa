//! The writer of `__plan`, which returns the plan of a value.

use proc_macro2::{Literal, TokenStream};

use super::times;
use crate::plan::{Cleanup, Kind, Plan, Step};

/// Writes `__plan`: the constant plan, completed with what only the value knows. If the value knows nothing more,
/// returns `None`, so that the trait's default method is used.
pub(super) fn resolved(plan: &Plan<'_>) -> Option<TokenStream> {
    let bodies = plan.bodies();
    let mut steps = bodies.iter().flat_map(|body| &body.steps);
    let is_enum = matches!(plan.kind, Kind::Enum(_));
    let needed = is_enum || times::is_timed(plan) || steps.any(is_nested);
    if !needed || bodies.iter().all(|body| body.steps.is_empty()) {
        return None;
    }
    let set_timeouts = match times::collect(plan) {
        Some(collect) => quote_mixed!(__lc::Some(#collect)),
        None => quote_mixed!(__lc::None),
    };
    let arms = plan.arms().into_iter().enumerate().map(|(index, arm)| {
        let pattern = arm.pattern();
        if is_enum && arm.body.steps.is_empty() {
            return quote_mixed!(#pattern => __lc::Into::into(__lc::Plan::leaf()),);
        }
        let nested = arm
            .body
            .steps
            .iter()
            .enumerate()
            .filter(|(_, step)| is_nested(step))
            .map(|(position, step)| {
                let (position, ty, field) = (
                    Literal::usize_unsuffixed(position),
                    step.field.ty,
                    super::binding(step.index),
                );
                quote_mixed!(<__lc::Probe<#ty>>::plan(&mut __fields, #position, #field);)
            });
        let index = Literal::usize_unsuffixed(index);
        let constant = if is_enum {
            quote_mixed!(__lc::Plan::__variant(__lc::plan_of::<Self>(), #index))
        } else {
            quote_mixed!(__lc::plan_of::<Self>())
        };
        quote_mixed!(#pattern => {
            let mut __fields = __lc::Fields::new();
            #(#nested)*
            __lc::Fields::of(__fields, #constant, #set_timeouts)
        })
    });
    Some(quote_mixed! {
        fn __plan(&self) -> __lc::ResolvedPlan {
            match self {
                #(#arms)*
            }
        }
    })
}

fn is_nested(step: &Step<'_>) -> bool {
    matches!(step.cleanup, Cleanup::Component { leaf: false })
}
