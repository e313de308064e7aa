//! Plan to tokens. It cannot fail, and it writes little: one call for each field, of what the runtime offers.

mod captured;
mod checks;
mod cleanup;
mod constant;
mod forced;
mod resolved;
mod table;
mod times;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote_spanned};
use syn::{Generics, Path};

use crate::ast::Field;
use crate::generics::{self, Mentions};
use crate::plan::{Body, Cleanup, Kind, Plan, Variant};

/// The impls, and the proofs beside them.
pub(crate) fn expand(plan: &Plan<'_>) -> TokenStream {
    let runtime = runtime(plan.runtime);
    let target = Target::of(plan);
    let component = component(plan, &target);
    let owner = owner(plan, &target);
    let checks = checks::checks(plan, &target);
    here! {
        #[doc(hidden)]
        // A field of a deprecated type is cleaned all the same, and a closure is a fine way to say how.
        #[allow(deprecated, clippy::redundant_closure, clippy::redundant_closure_for_method_calls)]
        const _: () = {
            use #runtime as __lc;
            // Which trait a probe takes depends on the field's type.
            #[allow(unused_imports)]
            use __lc::{Fallback as _, NoState as _};
            #component
            #owner
            #checks
        };
    }
}

/// The module that generated code reaches everything through.
pub(crate) fn runtime(path: Option<&Path>) -> TokenStream {
    match path {
        Some(path) => here!(#path::__private),
        None => here!(::lifecycle_runtime::__private),
    }
}

/// What the impls are for: the type, with the bounds that they ask for beside its own.
struct Target<'a> {
    ident: &'a Ident,
    generics: &'a Generics,
    /// Bounds beside those of the type.
    bounds: Vec<TokenStream>,
}

impl<'a> Target<'a> {
    fn of(plan: &'a Plan<'a>) -> Self {
        // A `Drop` impl must have the bounds of the struct and no others.
        let mut bounds = Vec::new();
        if !matches!(plan.kind, Kind::Owner { drops: true, .. }) {
            for body in plan.bodies() {
                bound_fields(body, plan, &mut bounds);
            }
        }
        Self {
            ident: &plan.source.ident,
            generics: &plan.source.generics,
            bounds,
        }
    }

    fn implement(&self, what: TokenStream, body: TokenStream) -> TokenStream {
        let ident = self.ident;
        let (impl_generics, ty_generics, _) = self.generics.split_for_impl();
        let where_clause = generics::where_clause(self.generics, &self.bounds);
        here! {
            #[automatically_derived]
            impl #impl_generics #what for #ident #ty_generics #where_clause {
                #body
            }
        }
    }
}

/// Asks of each field whose type has a type parameter what the impl needs of it.
fn bound_fields(body: &Body<'_>, plan: &Plan<'_>, bounds: &mut Vec<TokenStream>) {
    let mut bound = |field: &Field<'_>, what: TokenStream| {
        let ty = field.ty;
        let found = plan.mentions(field);
        if found.type_param && !found.itself {
            bounds.push(here!(#ty: #what));
        }
    };
    for step in &body.steps {
        match step.cleanup {
            Cleanup::Component { .. } => bound(step.field, here!(__lc::Component)),
            Cleanup::With(_) => bound(step.field, here!(__lc::Send)),
        }
    }
    for other in &body.others {
        bound(other.field, here!(__lc::Send));
    }
}

impl<'a> Plan<'a> {
    fn bodies(&self) -> Vec<&Body<'a>> {
        match &self.kind {
            Kind::Owner { body, .. } | Kind::Part { body, .. } => vec![body],
            Kind::OneOf(variants) => variants.iter().map(|variant| &variant.body).collect(),
        }
    }

    fn mentions(&self, field: &Field<'_>) -> Mentions {
        generics::mentions(field.ty, self.source)
    }

    /// Where the impl takes a value apart: at the struct, or at each variant.
    fn arms(&self) -> Vec<Arm<'_>> {
        match &self.kind {
            Kind::Owner { body, state, .. } => vec![Arm {
                path: here!(Self),
                body,
                state: Some(state),
            }],
            Kind::Part { body, .. } => vec![Arm {
                path: here!(Self),
                body,
                state: None,
            }],
            Kind::OneOf(variants) => variants.iter().map(variant_arm).collect(),
        }
    }

    fn is_owner(&self) -> bool {
        matches!(self.kind, Kind::Owner { .. })
    }
}

fn variant_arm<'a>(variant: &'a Variant<'_>) -> Arm<'a> {
    let ident = variant.ident;
    Arm {
        path: here!(Self::#ident),
        body: &variant.body,
        state: None,
    }
}

/// A struct or variant, taken apart.
struct Arm<'a> {
    path: TokenStream,
    body: &'a Body<'a>,
    state: Option<&'a Field<'a>>,
}

impl Arm<'_> {
    /// Binds every field that generated code or a closure uses.
    fn pattern(&self) -> TokenStream {
        let path = &self.path;
        let steps = self
            .body
            .steps
            .iter()
            .map(|step| (&step.field.member, binding(step.index)));
        let lent = self.body.others.iter().filter(|other| other.lent);
        let lent = lent.map(|other| (&other.field.member, binding(other.index)));
        let bound = steps
            .chain(lent)
            .map(|(member, binding)| here!(#member: #binding,));
        let state = self
            .state
            .map(|field| &field.member)
            .map(|member| here!(#member: __state,));
        here!(#path { #(#bound)* #state .. })
    }

    /// Fields without a step are read by closures of several steps, so they are shared.
    fn share(&self) -> TokenStream {
        let lent = self
            .body
            .others
            .iter()
            .filter(|other| other.lent)
            .map(|other| binding(other.index));
        here!(#(let #lent = &*#lent;)*)
    }
}

/// The local that a field is bound to.
fn binding(index: usize) -> Ident {
    binding_at(index, Span::mixed_site())
}

/// [`binding`], as it is written there.
fn binding_at(index: usize, span: Span) -> Ident {
    format_ident!("__f{}", index, span = Span::mixed_site().located_at(span))
}

fn component(plan: &Plan<'_>, target: &Target<'_>) -> TokenStream {
    let constant = constant::constant(plan);
    let cleanup = cleanup::cleanup(plan, target);
    let forced = forced::method(plan);
    let resolved = resolved::resolved(plan);
    let docs = table::docs(plan);
    let body = here!(#constant const __IS_PLAN: __lc::Bool = true; #cleanup #forced #resolved);
    let span = Span::mixed_site().located_at(target.ident.span());
    let implemented = target.implement(quote_spanned!(span=> __lc::Component), body);
    // An owner tells its times with the rest that an owner has.
    let times = times::times(plan).filter(|_| !plan.is_owner());
    let timed = times.map(|times| target.implement(here!(__lc::Timed), times));
    // Every other build would look for links in it.
    let marked = target.implement(here!(__lc::MustClean), TokenStream::new());
    here!(#[cfg_attr(doc, doc = #docs)] #implemented #marked #timed)
}

fn owner(plan: &Plan<'_>, target: &Target<'_>) -> TokenStream {
    let Kind::Owner { state, drops, .. } = &plan.kind else {
        return TokenStream::new();
    };
    let (member, ty) = (&state.member, state.ty);
    let times = times::times(plan);
    let owned = target.implement(
        here!(__lc::Owner),
        here! {
            fn __state(&mut self) -> &mut __lc::ShutdownState {
                __lc::state::<#ty>();
                <__lc::StateOf<#ty>>::of(&mut self.#member)
            }
            fn __run(&mut self) -> __lc::Steps<'_> {
                __lc::Owner::__boxed(self)
            }
            #times
        },
    );
    let drop = drops.then(|| {
        target.implement(
            here!(__lc::Drop),
            here! {
                fn drop(&mut self) {
                    __lc::Owner::__dropped(self);
                }
            },
        )
    });
    here!(#owned #drop)
}
