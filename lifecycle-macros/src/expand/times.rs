//! The writer of the code that evaluates timeouts that are expressions.

use proc_macro2::{Literal, TokenStream};

use super::{Arm, captured};
use crate::plan::{Body, Budget, Kind, Plan, Step};

/// Returns the code of a closure that reports a value's computed timeouts to the runtime. `None` if the value has none.
pub(super) fn collect(plan: &Plan<'_>) -> Option<TokenStream> {
    let by = if plan.is_owner() {
        quote_mixed!(Owner)
    } else {
        quote_mixed!(Timed)
    };
    is_timed(plan).then(|| quote_mixed!(&mut |__set| __lc::#by::__times(&*self, __set)))
}

pub(super) fn is_timed(plan: &Plan<'_>) -> bool {
    let total = plan.timeout();
    let bodies = plan.bodies();
    let mut steps = bodies.iter().flat_map(|body| &body.steps);
    total.and_then(computed).is_some() || steps.any(is_computed)
}

/// Writes `__times`, which evaluates the timeouts that are expressions.
pub(super) fn times(plan: &Plan<'_>) -> Option<TokenStream> {
    if !is_timed(plan) {
        return None;
    }
    let body = match &plan.kind {
        Kind::Owner { .. } | Kind::Part { .. } => {
            times_of_struct(plan, plan.timeout().and_then(computed))
        }
        Kind::Enum(_) => {
            let arms = plan.arms().into_iter().map(|arm| {
                let pattern = all_fields(&arm);
                let sets = step_times(arm.body);
                quote_mixed!(#pattern => { #(#sets)* })
            });
            quote_mixed!(match self { #(#arms)* })
        }
    };
    Some(quote_mixed! {
        fn __times(&self, __set: &mut __lc::SetTimeout<'_>) {
            #body
        }
    })
}

fn times_of_struct(plan: &Plan<'_>, total: Option<TokenStream>) -> TokenStream {
    let total = total.map(|expr| quote_mixed!(__set(__lc::None, #expr);));
    let steps = plan.bodies().into_iter().flat_map(step_times);
    quote_mixed!(let __this = self; #total #(#steps)*)
}

/// Returns a pattern that binds every field, since a timeout may read any of them.
fn all_fields(arm: &Arm<'_>) -> TokenStream {
    let path = &arm.path;
    let steps = arm
        .body
        .steps
        .iter()
        .map(|step| (&step.field.member, step.index));
    let non_steps = arm
        .body
        .non_steps
        .iter()
        .map(|field| (&field.field.member, field.index));
    let bound = steps.chain(non_steps).map(|(member, index)| {
        let binding = super::binding(index);
        quote_mixed!(#member: #binding,)
    });
    quote_mixed!(#path { #(#bound)* })
}

fn step_times(body: &Body<'_>) -> Vec<TokenStream> {
    let sets = body
        .steps
        .iter()
        .enumerate()
        .filter_map(|(position, step)| {
            let expr = computed(step.budget.as_ref()?)?;
            let position = Literal::usize_unsuffixed(position);
            Some(quote_mixed!(__set(__lc::Some(#position), #expr);))
        });
    sets.collect()
}

fn computed(budget: &Budget<'_>) -> Option<TokenStream> {
    match budget {
        Budget::Constant(_) => None,
        Budget::Computed {
            expr, self_meaning, ..
        } => Some(captured::replace_self(expr, self_meaning)),
    }
}

fn is_computed(step: &Step<'_>) -> bool {
    matches!(step.budget, Some(Budget::Computed { .. }))
}
