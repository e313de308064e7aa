//! The plan as a constant, and what is known of it only at run time.

use proc_macro2::{Literal, TokenStream};
use quote::ToTokens;

use super::{Arm, captured};
use crate::attr::tidy;
use crate::plan::{
    Body, Budget, Cleanup, Function, Kind, Known, Plan, Step, Through, Weight, With,
};

/// `const PLAN`.
pub(super) fn plan_const(plan: &Plan<'_>) -> TokenStream {
    let name = &plan.name;
    let value = match &plan.kind {
        Kind::Owner { timeout, body, .. } => {
            let structure = structure(name, Some(timeout), body);
            here!(#structure.__owner())
        }
        Kind::Part { timeout, body } => {
            structure(name, timeout.as_ref().map(|(timeout, _)| timeout), body)
        }
        Kind::OneOf(variants) => {
            let rows = variants.iter().enumerate().map(|(index, variant)| {
                let shown = syn::ext::IdentExt::unraw(variant.ident).to_string();
                let nested = structure(&format!("{name}::{shown}"), None, &variant.body);
                let place = Literal::usize_unsuffixed(index);
                here!(__lc::PlanStep::__new(#shown, #place).__nested(const { &#nested }))
            });
            here!(__lc::Plan::__one_of(#name, const { &[#(#rows),*] }))
        }
    };
    here!(const PLAN: __lc::Plan = #value;)
}

fn structure(name: &str, timeout: Option<&Budget<'_>>, body: &Body<'_>) -> TokenStream {
    let timeout = match timeout.and_then(proved) {
        Some(time) => here!(__lc::Some(#time)),
        None => here!(__lc::None),
    };
    let rows = body.steps.iter().map(row);
    here!(__lc::Plan::__new(#name, #timeout, const { &[#(#rows),*] }))
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
    let timeout = match step.budget.as_ref().and_then(proved) {
        Some(time) => here!(__lc::Some(#time)),
        None => here!(__lc::None),
    };
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
        let how = how(with, "");
        row.extend(here!(.__how(#how)));
    }
    row
}

/// Steps as a bit each: those below 128, and if there are any, those from there on.
fn places(places: &[usize]) -> (Literal, Option<Literal>) {
    let bits = |of: fn(usize) -> Option<u32>| {
        let places = places.iter().filter_map(|&place| of(place));
        places.fold(0_u128, |bits, place| bits | 1 << place)
    };
    let low = bits(|place| u32::try_from(place).ok().filter(|place| *place < 128));
    let high = bits(|place| u32::try_from(place).ok()?.checked_sub(128));
    let literal = Literal::u128_unsuffixed;
    (literal(low), (high != 0).then(|| literal(high)))
}

/// How a step is cleaned, for tables; what is Rust stands in `marks`.
pub(super) fn how(with: &With<'_>, marks: &str) -> String {
    let prefix = match (with.through == Through::Taken, with.blocking) {
        (false, false) => "",
        (true, false) => "take, ",
        (false, true) => "blocking, ",
        (true, true) => "take, blocking, ",
    };
    match &with.call.function {
        Function::Path(path) => {
            let shown = tidy(&path.to_token_stream().to_string());
            format!("{prefix}with {marks}{shown}{marks}")
        }
        Function::Closure { .. } => format!("{prefix}with a closure"),
    }
}

/// What tells a value's timeouts, if some are expressions.
pub(super) fn collect(plan: &Plan<'_>) -> Option<TokenStream> {
    let by = if plan.is_owner() {
        here!(Owner)
    } else {
        here!(Timed)
    };
    is_timed(plan).then(|| here!(&mut |__set| __lc::#by::__times(&*self, __set)))
}

fn is_timed(plan: &Plan<'_>) -> bool {
    let total = match &plan.kind {
        Kind::Owner { timeout, .. } => Some(timeout),
        Kind::Part { timeout, .. } => timeout.as_ref().map(|(timeout, _)| timeout),
        Kind::OneOf(_) => None,
    };
    let bodies = plan.bodies();
    let mut steps = bodies.iter().flat_map(|body| &body.steps);
    total.and_then(computed).is_some() || steps.any(is_computed)
}

/// `__times`: evaluates the timeouts that are expressions.
pub(super) fn times(plan: &Plan<'_>) -> Option<TokenStream> {
    if !is_timed(plan) {
        return None;
    }
    let body = match &plan.kind {
        Kind::Owner { timeout, .. } => times_of_struct(plan, computed(timeout)),
        Kind::Part { timeout, .. } => times_of_struct(
            plan,
            timeout.as_ref().and_then(|(timeout, _)| computed(timeout)),
        ),
        Kind::OneOf(_) => {
            let arms = plan.arms().into_iter().map(|arm| {
                let pattern = all_fields(&arm);
                let sets = step_times(arm.body);
                here!(#pattern => { #(#sets)* })
            });
            here!(match self { #(#arms)* })
        }
    };
    Some(here! {
        fn __times(&self, __set: &mut __lc::SetTimeout<'_>) {
            #body
        }
    })
}

fn times_of_struct(plan: &Plan<'_>, total: Option<TokenStream>) -> TokenStream {
    let total = total.map(|expr| here!(__set(__lc::None, #expr);));
    let steps = plan.bodies().into_iter().flat_map(step_times);
    here!(let __this = self; #total #(#steps)*)
}

/// A timeout may read any field, whether it is a step or not.
fn all_fields(arm: &Arm<'_>) -> TokenStream {
    let path = &arm.path;
    let steps = arm
        .body
        .steps
        .iter()
        .map(|step| (&step.field.member, step.index));
    let others = arm
        .body
        .others
        .iter()
        .map(|other| (&other.field.member, other.index));
    let bound = steps.chain(others).map(|(member, index)| {
        let binding = super::binding(index);
        here!(#member: #binding,)
    });
    here!(#path { #(#bound)* })
}

fn step_times(body: &Body<'_>) -> Vec<TokenStream> {
    let sets = body.steps.iter().enumerate().filter_map(|(place, step)| {
        let expr = computed(step.budget.as_ref()?)?;
        let place = Literal::usize_unsuffixed(place);
        Some(here!(__set(__lc::Some(#place), #expr);))
    });
    sets.collect()
}

fn computed(budget: &Budget<'_>) -> Option<TokenStream> {
    match budget {
        Budget::Known(_) => None,
        Budget::Computed { expr, this, .. } => Some(captured::expression(expr, this)),
    }
}

fn is_computed(step: &Step<'_>) -> bool {
    matches!(step.budget, Some(Budget::Computed { .. }))
}

/// `__plan`: the constant, with what only the value knows. Without that there is nothing to override.
pub(super) fn resolved(plan: &Plan<'_>) -> Option<TokenStream> {
    let bodies = plan.bodies();
    let mut steps = bodies.iter().flat_map(|body| &body.steps);
    let is_enum = matches!(plan.kind, Kind::OneOf(_));
    let needed = is_enum || is_timed(plan) || steps.any(is_nested);
    if !needed || bodies.iter().all(|body| body.steps.is_empty()) {
        return None;
    }
    let tell = match collect(plan) {
        Some(tell) => here!(__lc::Some(#tell)),
        None => here!(__lc::None),
    };
    let arms = plan.arms().into_iter().enumerate().map(|(index, arm)| {
        let pattern = arm.pattern();
        if is_enum && arm.body.steps.is_empty() {
            return here!(#pattern => __lc::Into::into(__lc::Plan::leaf()),);
        }
        let nested = arm
            .body
            .steps
            .iter()
            .enumerate()
            .filter(|(_, step)| is_nested(step))
            .map(|(place, step)| {
                let (place, ty, field) = (
                    Literal::usize_unsuffixed(place),
                    step.field.ty,
                    super::binding(step.index),
                );
                here!(<__lc::Probe<#ty>>::plan(&mut __fields, #place, #field);)
            });
        let index = Literal::usize_unsuffixed(index);
        let constant = if is_enum {
            here!(__lc::Plan::__variant(__lc::plan_of::<Self>(), #index))
        } else {
            here!(__lc::plan_of::<Self>())
        };
        here!(#pattern => {
            let mut __fields = __lc::Fields::new();
            #(#nested)*
            __lc::Fields::of(__fields, #constant, #tell)
        })
    });
    Some(here! {
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
