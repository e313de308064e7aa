//! The writer of the checks that need the compiler: fields without `#[shutdown]` are not components, and the steps fit
//! the timeout. A third check, that the types of steps are components, is a part of the plan's constant.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote_spanned};
use syn::Member;

use super::ImplTarget;
use crate::ast::Field;
use crate::plan::{Kind, Plan, Role};

pub(super) fn checks(plan: &Plan<'_>, target: &ImplTarget<'_>) -> TokenStream {
    let mut by_constant = Vec::new();
    let mut by_type = Vec::new();
    let bodies = plan.bodies();
    let non_steps = bodies.iter().flat_map(|body| &body.non_steps);
    for non_step in non_steps.filter(|non_step| non_step.role == Role::Plain) {
        if plan.param_uses(non_step.field).any {
            by_type.push(forbid_component_by_type(non_step.field));
        } else {
            by_constant.push(forbid_component(plan, non_step.field));
            by_type.push(warn_if_component(non_step.field));
        }
    }
    let by_type = (!by_type.is_empty()).then(|| checks_by_type(target, &by_type));
    let proof = proof_now(plan, target);
    quote_mixed!(#(const _: () = #by_constant;)* #by_type #proof)
}

/// Returns an impl with the checks that the compiler's method resolution decides. The impl is compiled, but never
/// called.
fn checks_by_type(target: &ImplTarget<'_>, checks: &[TokenStream]) -> TokenStream {
    // A type parameter is a component only by a bound that the type itself states. No later release of a crate can add
    // that bound, so a forgotten field of such a type is an error and not a warning. So the parameters are bound as
    // marked with `MustClean`, which does nothing for a parameter that is not a component.
    let params = target.generics.type_params().map(|param| &param.ident);
    let mut bounds = target.bounds.clone();
    bounds.extend(params.map(|param| quote_mixed!(#param: __lc::MustClean)));
    let check = ImplTarget { bounds, ..*target };
    let body = quote_mixed! {
        fn check() {
            use __lc::{ForgottenField as _, MustNotBeForgotten as _, NothingForgotten as _};
            #(#checks)*
        }
    };
    let check = check.implement(quote_mixed!(__lc::Check), body);
    // The lint is allowed, since a check uses only those imported traits that fit the field's type.
    quote_mixed!(#[doc(hidden)] #[allow(unused_imports)] #check)
}

/// Refuses a field whose type is a component, by evaluating a constant. So our text is the whole error.
fn forbid_component(plan: &Plan<'_>, field: &Field<'_>) -> TokenStream {
    let ty = field.ty;
    let text = format!(
        "the field `{}` of `{}` is a component, but nothing says when it is cleaned up\n\
         help: write `#[shutdown]` above it, with its place in the order (`priority` or `after`), \
         or `#[shutdown(skip)]` if another owner cleans it",
        field.name, plan.source.ident
    );
    let span = Span::mixed_site().located_at(field.span());
    quote_spanned!(span=> __lc::assert_not_component(<__lc::Probe<#ty>>::MUST_CLEAN, #text))
}

/// Warns of a field whose type is a component, by the use of a deprecated item. That is the only warning that a derive
/// can give.
fn warn_if_component(field: &Field<'_>) -> TokenStream {
    let verdict = verdict(field);
    quote_mixed!({ #verdict })
}

/// Returns statements that put the result of probing a field's type into a local.
fn verdict(field: &Field<'_>) -> TokenStream {
    let ty = field.ty;
    let span = Span::mixed_site().located_at(field.span());
    // The name gets the field's span, since the compiler reports no deprecation of a name with a derive's span.
    let component = Ident::new("component", field.span());
    quote_spanned! {span=>
        let __forgotten = <__lc::Probe<#ty>>::FORGOTTEN;
        #[warn(deprecated)] // the code around it allows this lint, as the field's type may be deprecated
        let __verdict = (&&&__forgotten).#component();
    }
}

/// Refuses a field whose type is a component, by a trait bound. The compiler decides the bound while type parameters
/// are unknown. A local type with the field's name puts that name into the error.
fn forbid_component_by_type(field: &Field<'_>) -> TokenStream {
    let verdict = verdict(field);
    let span = Span::mixed_site().located_at(field.span());
    let mut name = match &field.member {
        Member::Named(ident) => ident.clone(),
        Member::Unnamed(index) => format_ident!("_{}", index.index),
    };
    name.set_span(Span::mixed_site());
    quote_spanned! {span=>
        {
            #verdict
            enum #name {}
            __lc::assert_not_component_by_type::<#name, Self, _>(&__verdict);
        }
    }
}

/// Writes the comparison of the plan's longest path with its timeout. An error is reported at the timeout.
pub(super) fn proof(plan: &Plan<'_>, of: &TokenStream) -> TokenStream {
    let stated = match &plan.kind {
        Kind::Owner { timeout, .. } | Kind::Part { timeout, .. } => timeout.as_ref(),
        Kind::Enum(_) => None,
    };
    let stated = stated.map(|(_, span)| *span);
    let is_default = stated.is_none() && plan.is_owner();
    let prove = if is_default { "prove_default" } else { "prove" };
    let span = Span::mixed_site().located_at(stated.unwrap_or_else(|| plan.source.ident.span()));
    let prove = Ident::new(prove, span);
    quote_spanned!(span=> __lc::#prove(__lc::plan_of::<#of>()))
}

/// Returns the proof for a type whose plan does not depend on parameters. `None` for other types.
fn proof_now(plan: &Plan<'_>, target: &ImplTarget<'_>) -> Option<TokenStream> {
    let generics = &target.generics;
    if generics.type_params().next().is_some() || generics.const_params().next().is_some() {
        return None;
    }
    let ident = target.ident;
    let lifetimes = generics.lifetimes().map(|_| quote_mixed!('static));
    let proof = proof(plan, &quote_mixed!(#ident<#(#lifetimes),*>));
    Some(quote_mixed!(const _: () = #proof;))
}
