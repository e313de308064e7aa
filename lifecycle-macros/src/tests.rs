//! Tests of the derive on whole inputs.

mod errors;
mod fuzz;
mod key_docs;
mod order;
mod plan_docs;
mod snapshots;

use proc_macro2::TokenStream;

fn derive(source: &str) -> TokenStream {
    crate::derive(source.parse().expect("tokens"))
}

/// Expands an input and parses the output, which must be valid Rust even for a wrong input.
fn parsed(source: &str) -> syn::File {
    let tokens = derive(source);
    syn::parse2(tokens.clone()).unwrap_or_else(|error| panic!("{error}: {tokens}"))
}

/// Returns the messages of the errors, in order.
fn mistakes(source: &str) -> Vec<String> {
    let text = |item: &syn::Item| match item {
        syn::Item::Macro(error) => Some(
            error
                .mac
                .parse_body::<syn::LitStr>()
                .expect("the text of an error")
                .value(),
        ),
        _ => None,
    };
    parsed(source).items.iter().filter_map(text).collect()
}
