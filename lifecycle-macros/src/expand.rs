//! The code generator, which writes a plan as Rust. It cannot fail, and writes little code: one call of the runtime for
//! each field.

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
use crate::generics::{self, ParamUses};
use crate::plan::{Body, Cleanup, Kind, Plan, Variant};

/// Returns the generated code of a type: its impls and its compile-time proofs.
pub(crate) fn expand(plan: &Plan<'_>) -> TokenStream {
    let runtime = runtime(plan.runtime);
    let target = ImplTarget::of(plan);
    let component = component(plan, &target);
    let owner = owner(plan, &target);
    let checks = checks::checks(plan, &target);
    quote_mixed! {
        #[doc(hidden)]
        // The lints are allowed, since a step's field may have a deprecated type, and the user may write a closure
        // where a path is enough.
        #[allow(deprecated, clippy::redundant_closure, clippy::redundant_closure_for_method_calls)]
        const _: () = {
            use #runtime as __lc;
            // Method resolution on a probe uses one of these traits or none, depending on the field's type, so some may
            // be unused.
            #[allow(unused_imports)]
            use __lc::{Fallback as _, NoState as _};
            #component
            #owner
            #checks
        };
    }
}

/// Returns the path of the runtime's `__private` module, through which generated code reaches everything.
pub(crate) fn runtime(path: Option<&Path>) -> TokenStream {
    match path {
        Some(path) => quote_mixed!(#path::__private),
        None => quote_mixed!(::lifecycle_runtime::__private),
    }
}

/// The type for which the impls are written, with the bounds that the impls add.
struct ImplTarget<'a> {
    ident: &'a Ident,
    generics: &'a Generics,
    /// The bounds that the impls have in addition to the type's own bounds.
    bounds: Vec<TokenStream>,
}

impl<'a> ImplTarget<'a> {
    fn of(plan: &'a Plan<'a>) -> Self {
        // A type with a `Drop` impl gets no bounds, since a `Drop` impl must have the same bounds as the struct.
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

    /// Returns the code that implements the trait `trait_path` for this type.
    fn implement(&self, trait_path: TokenStream, body: TokenStream) -> TokenStream {
        let ident = self.ident;
        let (impl_generics, ty_generics, _) = self.generics.split_for_impl();
        let where_clause = generics::where_clause(self.generics, &self.bounds);
        quote_mixed! {
            #[automatically_derived]
            impl #impl_generics #trait_path for #ident #ty_generics #where_clause {
                #body
            }
        }
    }
}

/// Adds the bound that the impls need on each field whose type uses a type parameter.
fn bound_fields(body: &Body<'_>, plan: &Plan<'_>, bounds: &mut Vec<TokenStream>) {
    let mut bound = |field: &Field<'_>, required: TokenStream| {
        let ty = field.ty;
        let found = plan.param_uses(field);
        if found.type_param && !found.itself {
            bounds.push(quote_mixed!(#ty: #required));
        }
    };
    for step in &body.steps {
        match step.cleanup {
            Cleanup::Component { .. } => bound(step.field, quote_mixed!(__lc::Component)),
            Cleanup::With(_) => bound(step.field, quote_mixed!(__lc::Send)),
        }
    }
    for non_step in &body.non_steps {
        bound(non_step.field, quote_mixed!(__lc::Send));
    }
}

impl<'a> Plan<'a> {
    fn bodies(&self) -> Vec<&Body<'a>> {
        match &self.kind {
            Kind::Owner { body, .. } | Kind::Part { body, .. } => vec![body],
            Kind::Enum(variants) => variants.iter().map(|variant| &variant.body).collect(),
        }
    }

    fn param_uses(&self, field: &Field<'_>) -> ParamUses {
        generics::param_uses(field.ty, self.source)
    }

    /// Returns what destructures a value: one arm for a struct, or one arm for each variant of an enum.
    fn arms(&self) -> Vec<Arm<'_>> {
        match &self.kind {
            Kind::Owner { body, state, .. } => vec![Arm {
                path: quote_mixed!(Self),
                body,
                state: Some(state),
            }],
            Kind::Part { body, .. } => vec![Arm {
                path: quote_mixed!(Self),
                body,
                state: None,
            }],
            Kind::Enum(variants) => variants.iter().map(variant_arm).collect(),
        }
    }

    fn is_owner(&self) -> bool {
        matches!(self.kind, Kind::Owner { .. })
    }
}

fn variant_arm<'a>(variant: &'a Variant<'_>) -> Arm<'a> {
    let ident = variant.ident;
    Arm {
        path: quote_mixed!(Self::#ident),
        body: &variant.body,
        state: None,
    }
}

/// The pattern that destructures a struct or variant, with its fields.
struct Arm<'a> {
    path: TokenStream,
    body: &'a Body<'a>,
    state: Option<&'a Field<'a>>,
}

impl Arm<'_> {
    /// Returns a pattern that binds every field that generated code or a closure uses.
    fn pattern(&self) -> TokenStream {
        let path = &self.path;
        let steps = self
            .body
            .steps
            .iter()
            .map(|step| (&step.field.member, binding(step.index)));
        let captured = self
            .body
            .non_steps
            .iter()
            .filter(|non_step| non_step.captured);
        let captured = captured.map(|non_step| (&non_step.field.member, binding(non_step.index)));
        let bound = steps
            .chain(captured)
            .map(|(member, binding)| quote_mixed!(#member: #binding,));
        let state = self
            .state
            .map(|field| &field.member)
            .map(|member| quote_mixed!(#member: __state,));
        quote_mixed!(#path { #(#bound)* #state .. })
    }

    /// Returns statements that turn the captured fields into shared references, since closures of several steps may
    /// read the same field.
    fn reborrow_captured(&self) -> TokenStream {
        let captured = self
            .body
            .non_steps
            .iter()
            .filter(|non_step| non_step.captured)
            .map(|non_step| binding(non_step.index));
        quote_mixed!(#(let #captured = &*#captured;)*)
    }
}

/// Returns the name of the local variable to which the pattern binds a field.
fn binding(index: usize) -> Ident {
    binding_at(index, Span::mixed_site())
}

/// Returns the same name as [`binding`], with the span at which errors about the field are reported.
fn binding_at(index: usize, span: Span) -> Ident {
    format_ident!("__f{}", index, span = Span::mixed_site().located_at(span))
}

fn component(plan: &Plan<'_>, target: &ImplTarget<'_>) -> TokenStream {
    let constant = constant::constant(plan);
    let cleanup = cleanup::cleanup(plan, target);
    let forced = forced::method(plan);
    let resolved = resolved::resolved(plan);
    let docs = table::docs(plan);
    let body =
        quote_mixed!(#constant const __IS_PLAN: __lc::Bool = true; #cleanup #forced #resolved);
    let span = Span::mixed_site().located_at(target.ident.span());
    let implemented = target.implement(quote_spanned!(span=> __lc::Component), body);
    // An owner is left out here, since its trait `Owner` has a `__times` of its own.
    let times = times::times(plan).filter(|_| !plan.is_owner());
    let timed = times.map(|times| target.implement(quote_mixed!(__lc::Timed), times));
    let marked = target.implement(quote_mixed!(__lc::MustClean), TokenStream::new());
    // The documentation is written only for rustdoc: in every other build the compiler would resolve links in the text
    // for nothing.
    quote_mixed!(#[cfg_attr(doc, doc = #docs)] #implemented #marked #timed)
}

fn owner(plan: &Plan<'_>, target: &ImplTarget<'_>) -> TokenStream {
    let Kind::Owner { state, drops, .. } = &plan.kind else {
        return TokenStream::new();
    };
    let (member, ty) = (&state.member, state.ty);
    let times = times::times(plan);
    let owned = target.implement(
        quote_mixed!(__lc::Owner),
        quote_mixed! {
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
            quote_mixed!(__lc::Drop),
            quote_mixed! {
                fn drop(&mut self) {
                    __lc::Owner::__dropped(self);
                }
            },
        )
    });
    quote_mixed!(#owned #drop)
}
