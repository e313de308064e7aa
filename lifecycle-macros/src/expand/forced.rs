//! `abort` and `release`: what is done at once, without waiting.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::quote_spanned;

use super::cleanup::Passed;
use super::{Arm, binding};
use crate::ast::Field;
use crate::plan::{Callee, Cleanup, Kind, Plan, Through, With};

/// Both are one list of the steps.
pub(super) fn method(plan: &Plan<'_>) -> TokenStream {
    let body = match &plan.kind {
        Kind::Owner { state, .. } => owner(plan, state),
        Kind::Part { .. } | Kind::OneOf(_) => part(plan),
    };
    here!(fn __end_parts(&mut self, __end: __lc::End) { #body })
}

fn owner(plan: &Plan<'_>, state: &Field<'_>) -> TokenStream {
    let ty = state.ty;
    let arms = plan.arms().into_iter().map(|arm| {
        let (pattern, share, calls) = (arm.pattern(), arm.share(), calls(&arm));
        here!(let #pattern = self; #share let __state = <__lc::StateOf<#ty>>::of(__state); let __by = __lc::EndParts::owner(__end, &*__state); #calls)
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
    here!(let __by = __lc::EndParts::part(__end, &*self, __lc::plan_of::<Self>()); match self { #(#arms)* })
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
                    here!(<__lc::Probe<#ty>>::end(&__by, #place, #field);)
                }
                Cleanup::With(with) if with.abort.is_none() => TokenStream::new(),
                Cleanup::With(with) => {
                    let abort = abort_here(with, &field);
                    here! {
                        __lc::EndParts::call(&__by, #place, || {
                            if __lc::EndParts::aborts(&__by) || __lc::sole!(&mut *#field) { #abort }
                        });
                    }
                }
            }
        })
        .collect()
}

/// The `abort = …` of a step that has run. The value of a `blocking` one may still be on the blocking pool.
pub(super) fn abort_of_step(with: &With<'_>, field: &Ident) -> TokenStream {
    match &with.abort {
        Some(abort) if with.blocking && with.through != Through::Taken => {
            let span = Span::mixed_site().located_at(abort.span);
            let field = at(field, span);
            let call = called(abort, &quote_spanned!(span=> __value), Passed::Lent);
            quote_spanned!(span=> __lc::abort_blocking(#field, __step, |__value| #call);)
        }
        _ => abort_here(with, field),
    }
}

/// The `abort = …` of a step, on its field; nothing without one.
fn abort_here(with: &With<'_>, field: &Ident) -> TokenStream {
    let Some(abort) = &with.abort else {
        return TokenStream::new();
    };
    let span = Span::mixed_site().located_at(abort.span);
    let field = at(field, span);
    let value = quote_spanned!(span=> __value);
    match with.through {
        Through::Field => {
            let call = called(abort, &quote_spanned!(span=> &mut *#field), Passed::Lent);
            here!(#call;)
        }
        Through::Option => {
            let call = called(abort, &value, Passed::Lent);
            here!(if let __lc::Some(__value) = &mut *#field { #call; })
        }
        Through::Taken => {
            let call = called(abort, &value, Passed::Moved);
            here!(if let __lc::Some(__value) = __lc::Option::take(&mut *#field) { #call; })
        }
    }
}

fn called(abort: &Callee<'_>, value: &TokenStream, passed: Passed) -> TokenStream {
    let call = super::cleanup::call(abort, value, passed, None);
    let span = Span::mixed_site().located_at(abort.span);
    quote_spanned!(span=> __lc::aborted(#call))
}

/// The field, where the call is written, so that errors about its type land there.
fn at(field: &Ident, span: Span) -> Ident {
    let mut field = field.clone();
    field.set_span(span);
    field
}
