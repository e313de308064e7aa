//! `abort` and `release`: what is done at once, without waiting.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::quote_spanned;

use super::{Arm, binding};
use crate::ast::Field;
use crate::plan::{Cleanup, Kind, Plan, Through, With};

/// Both are one list of the steps.
pub(super) fn method(plan: &Plan<'_>) -> TokenStream {
    let body = match &plan.kind {
        Kind::Owner { state, .. } => owner(plan, state),
        Kind::Part { .. } | Kind::OneOf(_) => part(plan),
    };
    here!(fn __force(&mut self, __end: __lc::End) { #body })
}

fn owner(plan: &Plan<'_>, state: &Field<'_>) -> TokenStream {
    let ty = state.ty;
    let arms = plan.arms().into_iter().map(|arm| {
        let (pattern, share, calls) = (arm.pattern(), arm.share(), calls(&arm));
        here!(let #pattern = self; #share let __state = <__lc::StateOf<#ty>>::of(__state); let __by = __lc::Force::owner(__end, &*__state); #calls)
    });
    // What was forced has nothing left to release or to be told of.
    here!(#(#arms)* __lc::disarm(__state);)
}

fn part(plan: &Plan<'_>) -> TokenStream {
    let arms = plan.arms();
    if arms.is_empty() {
        return here!(match *self {});
    }
    let arms = arms.iter().map(|arm| {
        let (pattern, share, calls) = (arm.pattern(), arm.share(), calls(arm));
        here!(#pattern => { #share #calls })
    });
    here!(let __by = __lc::Force::part(__end); match self { #(#arms)* })
}

fn calls(arm: &Arm<'_>) -> TokenStream {
    let steps = arm.body.steps.iter().enumerate();
    steps
        .map(|(place, step)| {
            let field = binding(step.index);
            let place = Literal::usize_unsuffixed(place);
            match &step.cleanup {
                Cleanup::Component { .. } => {
                    let ty = step.field.ty;
                    here!(<__lc::Probe<#ty>>::force(&__by, #place, #field);)
                }
                Cleanup::With(with) if with.abort.is_none() => TokenStream::new(),
                Cleanup::With(with) => {
                    let abort = abort_call(with, &field);
                    here! {
                        if __lc::Force::is_due(&__by, #place) {
                            __lc::contain(|| {
                                if __lc::Force::aborts(&__by) || __lc::sole!(&mut *#field) { #abort }
                            });
                        }
                    }
                }
            }
        })
        .collect()
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
