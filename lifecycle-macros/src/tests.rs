//! The derive on whole inputs.

mod docs;
mod errors;
mod fuzz;
mod order;
mod snapshots;
mod words;

use proc_macro2::TokenStream;

fn derive(source: &str) -> TokenStream {
    crate::derive(source.parse().expect("tokens"))
}

/// What the derive wrote, as Rust; it must always be that.
fn parsed(source: &str) -> syn::File {
    let tokens = derive(source);
    syn::parse2(tokens.clone()).unwrap_or_else(|error| panic!("{error}: {tokens}"))
}

/// The texts of the errors, in order.
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
