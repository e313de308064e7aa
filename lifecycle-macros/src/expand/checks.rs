//! What only the compiler can prove: that fields without `#[shutdown]` are no components, that the budget suffices. That
//! steps are components is asked where their plans are.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote_spanned};
use syn::Member;

use super::Target;
use crate::ast::Field;
use crate::plan::{Kind, Plan, Role};

pub(super) fn checks(plan: &Plan<'_>, target: &Target<'_>) -> TokenStream {
    let mut now = Vec::new();
    let mut later = Vec::new();
    let bodies = plan.bodies();
    let others = bodies.iter().flat_map(|body| &body.others);
    for other in others.filter(|other| other.role == Role::Plain) {
        if plan.mentions(other.field).any {
            later.push(is_none_by_type(other.field));
        } else {
            now.push(is_none(plan, other.field));
            later.push(is_warned_of(other.field));
        }
    }
    let later = (!later.is_empty()).then(|| asked_by_type(target, &later));
    let proof = proof_now(plan, target);
    here!(#(const _: () = #now;)* #later #proof)
}

/// What method resolution decides: compiled, never called.
fn asked_by_type(target: &Target<'_>, asked: &[TokenStream]) -> TokenStream {
    // The bound that makes a parameter a component is the type's own, so no later release of a crate can add it: such
    // a field is never a matter of a warning. On a parameter that is none, the mark says nothing.
    let params = target.generics.type_params().map(|param| &param.ident);
    let mut bounds = target.bounds.clone();
    bounds.extend(params.map(|param| here!(#param: __lc::MustClean)));
    let check = Target { bounds, ..*target };
    let body = here! {
        fn check() {
            use __lc::{ForgottenField as _, MustNotBeForgotten as _, NothingForgotten as _};
            #(#asked)*
        }
    };
    let check = check.implement(here!(__lc::Check), body);
    here!(#[doc(hidden)] #[allow(unused_imports)] #check)
}

/// As a constant: the text is the whole error.
fn is_none(plan: &Plan<'_>, field: &Field<'_>) -> TokenStream {
    let ty = field.ty;
    let text = format!(
        "the field `{}` of `{}` is a component, but nothing says when it is cleaned up\n\
         help: write `#[shutdown]` with its place in the order above it, \
         or `#[shutdown(skip)]` if another owner cleans it",
        field.name, plan.source.ident
    );
    let span = Span::mixed_site().located_at(field.span());
    quote_spanned!(span=> __lc::assert_not_component(<__lc::Probe<#ty>>::MUST_CLEAN, #text))
}

/// As the use of a deprecated item, which is the one warning that a derive can give.
fn is_warned_of(field: &Field<'_>) -> TokenStream {
    let verdict = verdict(field);
    here!({ #verdict })
}

/// The verdict on a field's type, in a local.
fn verdict(field: &Field<'_>) -> TokenStream {
    let ty = field.ty;
    let span = Span::mixed_site().located_at(field.span());
    // The compiler does not say that something is deprecated where a derive wrote its name: this one is the field's.
    let component = Ident::new("component", field.span());
    quote_spanned! {span=>
        let __forgotten = <__lc::Probe<#ty>>::FORGOTTEN;
        #[warn(deprecated)] // which is allowed around it, as the field's type may be deprecated
        let __verdict = (&&&__forgotten).#component();
    }
}

/// As a type: decided while the parameters are still unknown. A type of the field's name lends it to the error.
fn is_none_by_type(field: &Field<'_>) -> TokenStream {
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

/// The longest path against the timeout; the error lands on the timeout.
pub(super) fn proof(plan: &Plan<'_>, of: &TokenStream) -> TokenStream {
    let stated = match &plan.kind {
        Kind::Owner { timeout, .. } | Kind::Part { timeout, .. } => timeout.as_ref(),
        Kind::OneOf(_) => None,
    };
    let stated = stated.map(|(_, span)| *span);
    let is_default = stated.is_none() && plan.is_owner();
    let prove = if is_default { "prove_default" } else { "prove" };
    let span = Span::mixed_site().located_at(stated.unwrap_or_else(|| plan.source.ident.span()));
    let prove = Ident::new(prove, span);
    quote_spanned!(span=> __lc::#prove(__lc::plan_of::<#of>()))
}

/// The proof of a type whose plan depends on no parameter.
fn proof_now(plan: &Plan<'_>, target: &Target<'_>) -> Option<TokenStream> {
    let generics = &target.generics;
    if generics.type_params().next().is_some() || generics.const_params().next().is_some() {
        return None;
    }
    let ident = target.ident;
    let lifetimes = generics.lifetimes().map(|_| here!('static));
    let proof = proof(plan, &here!(#ident<#(#lifetimes),*>));
    Some(here!(const _: () = #proof;))
}
