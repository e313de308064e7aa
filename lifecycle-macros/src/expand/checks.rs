//! What only the compiler can prove: that steps are components, that other fields are not, that the budget suffices.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote_spanned};
use syn::Member;

use super::Target;
use crate::ast::Field;
use crate::plan::{Cleanup, Kind, Plan, Role};

pub(super) fn checks(plan: &Plan<'_>, target: &Target<'_>) -> TokenStream {
    let mut now = Vec::new();
    let mut later = Vec::new();
    if let Kind::Owner { state, .. } = &plan.kind {
        let ty = state.ty;
        let is_state = here!(__lc::state::<#ty>(););
        if plan.mentions(state).any {
            later.push(is_state);
        } else {
            now.push(is_state);
        }
    }
    for (field, asked) in asked(plan) {
        let found = plan.mentions(field);
        match asked {
            // Asked by a bound of the impl already.
            Asked::IsComponent if target.bounded && found.type_param && !found.itself => {}
            Asked::IsComponent if found.any => later.push(is_component(field)),
            Asked::IsComponent => now.push(is_component(field)),
            Asked::IsNone if found.any => later.push(is_none_by_type(field)),
            Asked::IsNone => now.push(is_none(plan, field)),
        }
    }
    let generic = !later.is_empty();
    let later = generic.then(|| {
        let check = target.implement(here!(__lc::Check), here!(fn check() { #(#later)* }));
        here!(#[doc(hidden)] #check)
    });
    let proof = proof_now(plan, target);
    here!(#(const _: () = { #now };)* #later #proof)
}

enum Asked {
    IsComponent,
    IsNone,
}

fn asked<'a>(plan: &'a Plan<'a>) -> impl Iterator<Item = (&'a Field<'a>, Asked)> {
    plan.bodies().into_iter().flat_map(|body| {
        let steps = body
            .steps
            .iter()
            .filter(|step| matches!(step.cleanup, Cleanup::Component { .. }));
        let others = body.others.iter().filter(|other| other.role == Role::Plain);
        let steps = steps.map(|step| (step.field, Asked::IsComponent));
        steps.chain(others.map(|other| (other.field, Asked::IsNone)))
    })
}

/// The one error about a step whose type is no component lands on the type.
fn is_component(field: &Field<'_>) -> TokenStream {
    let ty = field.ty;
    here!(__lc::component::<#ty>();)
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
    quote_spanned!(span=> __lc::attended(<__lc::Probe<#ty>>::IS_COMPONENT, #text))
}

/// As a type: decided while the parameters are still unknown. A type of the field's name lends it to the error.
fn is_none_by_type(field: &Field<'_>) -> TokenStream {
    let ty = field.ty;
    let span = Span::mixed_site().located_at(field.span());
    let mut name = match &field.member {
        Member::Named(ident) => ident.clone(),
        Member::Unnamed(index) => format_ident!("_{}", index.index),
    };
    name.set_span(Span::mixed_site());
    quote_spanned! {span=>
        let __verdict = <__lc::Probe<#ty>>::verdict();
        {
            enum #name {}
            __lc::attended_by_type::<#name, Self, _>(&__verdict);
        }
    }
}

/// The longest path against the timeout; the error lands on the timeout.
pub(super) fn proof(plan: &Plan<'_>, of: &TokenStream) -> TokenStream {
    let span = match &plan.kind {
        Kind::Owner { timeout_span, .. } => *timeout_span,
        Kind::Part {
            timeout: Some((_, span)),
            ..
        } => *span,
        Kind::Part { timeout: None, .. } | Kind::OneOf(_) => plan.source.ident.span(),
    };
    quote_spanned!(Span::mixed_site().located_at(span)=> __lc::prove(__lc::plan_of::<#of>()))
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
