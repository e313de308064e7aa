//! The writer of `abort` and `release`, which end the steps at once, without waiting.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::quote_spanned;

use super::cleanup::Passed;
use super::{Arm, binding};
use crate::ast::Field;
use crate::plan::{Access, Callee, Cleanup, Kind, Plan, With};

/// Writes `__end_parts`, which `abort` and `release` call. It lists the steps, and the runtime decides for each step
/// what to call.
pub(super) fn method(plan: &Plan<'_>) -> TokenStream {
    let body = match &plan.kind {
        Kind::Owner { state, .. } => owner(plan, state),
        Kind::Part { .. } | Kind::Enum(_) => part(plan),
    };
    quote_mixed!(fn __end_parts(&mut self, __end: __lc::End) { #body })
}

fn owner(plan: &Plan<'_>, state: &Field<'_>) -> TokenStream {
    let ty = state.ty;
    let arms = plan.arms().into_iter().map(|arm| {
        let (pattern, reborrow, calls) = (arm.pattern(), arm.reborrow_captured(), calls(&arm));
        quote_mixed!(let #pattern = self; #reborrow let __state = <__lc::StateOf<#ty>>::of(__state); let __by = __lc::EndParts::owner(__end, &*__state); #calls)
    });
    // The owner is disarmed, since after its steps were ended its `Drop` has nothing left to release or to log.
    quote_mixed!(#(#arms)* __lc::disarm(__state);)
}

fn part(plan: &Plan<'_>) -> TokenStream {
    let arms = plan.arms();
    if arms.is_empty() {
        return quote_mixed!(match *self {});
    }
    let arms = arms.iter().map(|arm| {
        let (pattern, reborrow, calls) = (arm.pattern(), arm.reborrow_captured(), calls(arm));
        quote_mixed!(#pattern => { #reborrow #calls })
    });
    quote_mixed!(let __by = __lc::EndParts::part(__end, &*self, __lc::plan_of::<Self>()); match self { #(#arms)* })
}

fn calls(arm: &Arm<'_>) -> TokenStream {
    let steps = arm.body.steps.iter().enumerate();
    steps
        .map(|(position, step)| {
            let field = binding(step.index);
            let position = Literal::usize_unsuffixed(position);
            match &step.cleanup {
                Cleanup::Component { .. } => {
                    let ty = step.field.ty;
                    quote_mixed!(<__lc::Probe<#ty>>::end(&__by, #position, #field);)
                }
                Cleanup::With(with) if with.abort.is_none() => TokenStream::new(),
                Cleanup::With(with) => {
                    let abort = abort_here(with, &field);
                    quote_mixed! {
                        __lc::EndParts::call(&__by, #position, || {
                            if __lc::EndParts::aborts(&__by) || __lc::is_sole_owner!(&mut *#field) { #abort }
                        });
                    }
                }
            }
        })
        .collect()
}

/// Writes the call of `abort = …` after the step's cleanup did not succeed. The value of a `blocking` step may still be
/// on the blocking pool.
pub(super) fn abort_of_step(with: &With<'_>, field: &Ident) -> TokenStream {
    match &with.abort {
        Some(abort) if with.blocking && with.access != Access::Taken => {
            let span = Span::mixed_site().located_at(abort.span);
            let field = at(field, span);
            let call = called(abort, &quote_spanned!(span=> __value), Passed::Borrowed);
            quote_spanned!(span=> __lc::abort_blocking(#field, __step, |__value| #call);)
        }
        _ => abort_here(with, field),
    }
}

/// Writes the call of `abort = …` with the step's field. Writes nothing if the step has no `abort = …`.
fn abort_here(with: &With<'_>, field: &Ident) -> TokenStream {
    let Some(abort) = &with.abort else {
        return TokenStream::new();
    };
    let span = Span::mixed_site().located_at(abort.span);
    let field = at(field, span);
    let value = quote_spanned!(span=> __value);
    match with.access {
        Access::Field => {
            let call = called(
                abort,
                &quote_spanned!(span=> &mut *#field),
                Passed::Borrowed,
            );
            quote_mixed!(#call;)
        }
        Access::InsideOption => {
            let call = called(abort, &value, Passed::Borrowed);
            quote_mixed!(if let __lc::Some(__value) = &mut *#field { #call; })
        }
        Access::Taken => {
            let call = called(abort, &value, Passed::Moved);
            quote_mixed!(if let __lc::Some(__value) = __lc::Option::take(&mut *#field) { #call; })
        }
    }
}

fn called(abort: &Callee<'_>, value: &TokenStream, passed: Passed) -> TokenStream {
    let call = super::cleanup::call(abort, value, passed, None);
    let span = Span::mixed_site().located_at(abort.span);
    quote_spanned!(span=> __lc::aborted(#call))
}

/// Returns the local of the field, with the span of the user's call, so that errors about its type are reported at that
/// call.
fn at(field: &Ident, span: Span) -> Ident {
    let mut field = field.clone();
    field.set_span(span);
    field
}
