//! The derive behind `lifecycle-runtime`, which exports it and documents it beside the traits.
//!
//! The stages, in the order in which an input passes them: `attr` and `ast` read it, `check` turns it into a `plan`
//! that cannot be wrong, `expand` writes the plan as Rust. Mistakes are collected in `errors` on the way; if there are
//! any, `fallback` stands in for the expansion.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

/// `quote!` for generated code: its locals are hidden from the user's code, and it is read in this crate's edition.
macro_rules! here {
    ($($tokens:tt)*) => {
        ::quote::quote_spanned!(::proc_macro2::Span::mixed_site()=> $($tokens)*)
    };
}

mod ast;
mod attr;
mod check;
mod duration;
mod errors;
mod expand;
mod fallback;
mod generics;
mod keys;
mod mentions;
mod nearest;
mod plan;
#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;

use crate::ast::Input;
use crate::errors::Errors;

/// Derives `GracefulShutdown` and `Component`: a shutdown that is declared on the fields of a type.
///
/// The attribute language is documented at `lifecycle_runtime::GracefulShutdown`.
#[proc_macro_derive(GracefulShutdown, attributes(shutdown))]
pub fn derive_graceful_shutdown(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    derive(input.into()).into()
}

/// The derive, apart from the compiler: the same on any thread, for tests.
pub(crate) fn derive(input: TokenStream) -> TokenStream {
    let source = match syn::parse2(input) {
        Ok(source) => source,
        Err(error) => return error.into_compile_error(),
    };
    let mut errors = Errors::default();
    let input = Input::read(&source, &mut errors);
    let plan = check::check(&input, &mut errors);
    match plan.filter(|_| errors.is_empty()) {
        Some(plan) => expand::expand(&plan),
        None => {
            let mut output = errors.into_tokens();
            output.extend(fallback::fallback(&input));
            output
        }
    }
}
