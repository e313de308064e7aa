//! `abort` and `release`: what is done at once, without waiting.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::quote_spanned;

use super::{Arm, binding};
use crate::plan::{Cleanup, Plan, Step, Through, With};

/// `abort`: every step that has not ended is forced to.
pub(super) fn abort(plan: &Plan<'_>) -> TokenStream {
    let body = method(plan, |step, field| match &step.cleanup {
        Cleanup::Component { .. } => {
            let ty = step.field.ty;
            here!(<__lc::Probe<#ty>>::abort(#field))
        }
        Cleanup::With(with) => abort_call(with, field),
    });
    // What was forced has nothing left to release or to be told of.
    let disarm = disarm(plan);
    here!(fn abort(&mut self) { #body #disarm })
}

/// `release`: every step that has not ended gives back what this value alone owns.
pub(super) fn release(plan: &Plan<'_>) -> TokenStream {
    let body = method(plan, |step, field| match &step.cleanup {
        Cleanup::Component { .. } => {
            let ty = step.field.ty;
            here!(<__lc::Probe<#ty>>::release(#field))
        }
        Cleanup::With(with) if with.abort.is_none() => TokenStream::new(),
        Cleanup::With(with) => {
            let abort = abort_call(with, field);
            here!(if __lc::sole!(&mut *#field) { #abort })
        }
    });
    let disarm = disarm(plan);
    here!(fn release(&mut self) { #body #disarm })
}

fn disarm(plan: &Plan<'_>) -> Option<TokenStream> {
    plan.is_owner().then(|| here!(__lc::disarm(__state);))
}

fn method(plan: &Plan<'_>, step: impl Fn(&Step<'_>, &Ident) -> TokenStream) -> TokenStream {
    let arms = plan.arms();
    if arms.is_empty() {
        return here!(match *self {});
    }
    if let [arm] = arms.as_slice() {
        if plan.bodies().len() == 1 && !matches!(plan.kind, crate::plan::Kind::OneOf(_)) {
            let (pattern, share, calls) = (
                arm.pattern(),
                arm.share(),
                calls(arm, plan.is_owner(), &step),
            );
            let state = arm.state.map(|state| state.ty);
            let state = state.map(|ty| here!(let __state = <__lc::StateOf<#ty>>::of_mut(__state);));
            return here!(let #pattern = self; #share #state #calls);
        }
    }
    let arms = arms.iter().map(|arm| {
        let (pattern, share, calls) = (arm.pattern(), arm.share(), calls(arm, false, &step));
        here!(#pattern => { #share #calls })
    });
    here!(match self { #(#arms)* })
}

fn calls(
    arm: &Arm<'_>,
    owner: bool,
    step: impl Fn(&Step<'_>, &Ident) -> TokenStream,
) -> TokenStream {
    let calls = arm
        .body
        .steps
        .iter()
        .enumerate()
        .filter_map(|(place, each)| {
            let call = step(each, &binding(each.index));
            if call.is_empty() {
                return None;
            }
            let place = Literal::usize_unsuffixed(place);
            let contained = here!(__lc::contain(|| { #call }););
            Some(if owner {
                here!(if __lc::unfinished(&*__state, #place) { #contained })
            } else {
                contained
            })
        });
    here!(#(#calls)*)
}

/// The `abort = …` of a step, on its field; nothing without one.
pub(super) fn abort_call(with: &With, field: &Ident) -> TokenStream {
    let Some(abort) = &with.abort else {
        return TokenStream::new();
    };
    let mut field = field.clone();
    field.set_span(Span::mixed_site().located_at(abort.span));
    let span = Span::mixed_site().located_at(abort.span);
    let forced = |value: TokenStream| {
        let call = super::cleanup::call(abort, &value, "call", None);
        quote_spanned!(span=> __lc::forced(#call))
    };
    match with.through {
        Through::Field => {
            let call = forced(quote_spanned!(span=> &mut *#field));
            here!(#call;)
        }
        Through::Option | Through::Taken => {
            let call = forced(quote_spanned!(span=> __value));
            here!(if let __lc::Some(__value) = &mut *#field { #call; })
        }
    }
}
