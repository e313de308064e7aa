//! The derive macro of `lifecycle-runtime`. That crate exports it and documents it beside the traits.
//!
//! An input passes through these stages: `attr` and `ast` read it, `check` turns it into a valid `plan`, and `expand`
//! writes the plan as Rust. Every stage collects its mistakes in `errors`; if there are any, `fallback` replaces the
//! expansion.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

/// A `quote!` for generated code. It hides the locals of generated code from the user's code, and makes the compiler
/// read generated code in this crate's edition.
macro_rules! quote_mixed {
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
mod nearest;
mod plan;
mod self_uses;
#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;

use crate::ast::Input;
use crate::errors::Errors;

/// Derives `GracefulShutdown` and `Component` from the cleanup that a type declares on its fields.
///
/// The attribute language is documented at `lifecycle_runtime::GracefulShutdown`.
#[proc_macro_derive(GracefulShutdown, attributes(shutdown))]
pub fn derive_graceful_shutdown(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    derive(input.into()).into()
}

/// Expands the derive. The function needs no compiler around it, so that tests can call it on any thread.
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
