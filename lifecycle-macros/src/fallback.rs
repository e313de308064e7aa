//! The empty impls of the traits for an input with mistakes. With them one mistake gives one message: code elsewhere
//! that calls `shutdown()` still compiles. The impls never run.

use proc_macro2::TokenStream;

use syn::Generics;

use crate::ast::{Body, Input};
use crate::expand::runtime;
use crate::generics::where_clause;

/// Returns the empty impls for an input with mistakes.
pub(crate) fn fallback(input: &Input<'_>) -> TokenStream {
    let runtime = runtime(input.attrs.runtime.value());
    let ident = &input.source.ident;
    let generics = &input.source.generics;
    let (impl_generics, ty_generics, _) = generics.split_for_impl();
    let where_clause = where_clause(generics, &sendable(generics));
    let is_owner = matches!(input.body, Body::Struct(_)) && !input.attrs.part.is_given();
    let owner = is_owner.then(|| {
        quote_mixed! {
            #[automatically_derived]
            impl #impl_generics __lc::Owner for #ident #ty_generics #where_clause {
                fn __state(&mut self) -> &mut __lc::ShutdownState {
                    __lc::no_state()
                }
                fn __run(&mut self) -> __lc::Steps<'_> {
                    __lc::no_state()
                }
            }
        }
    });
    quote_mixed! {
        #[doc(hidden)]
        const _: () = {
            use #runtime as __lc;
            #[automatically_derived]
            impl #impl_generics __lc::Component for #ident #ty_generics #where_clause {
                async fn cleanup(&mut self, _: &__lc::Context) -> __lc::Result<(), __lc::BoxError> {
                    __lc::Ok(())
                }
            }
            #[automatically_derived]
            impl #impl_generics __lc::MustClean for #ident #ty_generics #where_clause {}
            #owner
        };
    }
}

/// Returns the bounds that make a generic type `Send`, so that a missing bound is not reported in addition to the
/// mistake.
fn sendable(generics: &Generics) -> Vec<TokenStream> {
    generics
        .type_params()
        .next()
        .map(|_| quote_mixed!(Self: __lc::Send))
        .into_iter()
        .collect()
}
