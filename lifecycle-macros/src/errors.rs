//! The collector of an input's mistakes. It collects all of them, so that one compilation reports all of them.

use std::fmt::Display;

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;

/// The mistakes found so far. Each message describes the mistake and its reason, then what to write instead.
#[derive(Default)]
pub(crate) struct Errors {
    found: Vec<syn::Error>,
}

impl Errors {
    /// Reports a mistake at `span`.
    pub(crate) fn push(&mut self, span: Span, what: impl Display, help: impl Display) {
        self.found.push(syn::Error::new(span, text(what, help)));
    }

    /// Reports a mistake whose span covers all of `tokens`.
    pub(crate) fn push_over(
        &mut self,
        tokens: impl ToTokens,
        what: impl Display,
        help: impl Display,
    ) {
        self.found
            .push(syn::Error::new_spanned(tokens, text(what, help)));
    }

    /// Reports an error of the parser, for an input that is not Rust.
    pub(crate) fn push_syntax(&mut self, error: syn::Error) {
        self.found.push(error);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.found.len()
    }

    /// Returns one `compile_error!` for each mistake.
    pub(crate) fn into_tokens(self) -> TokenStream {
        self.found
            .iter()
            .map(syn::Error::to_compile_error)
            .collect()
    }

    #[cfg(test)]
    pub(crate) fn messages(&self) -> Vec<String> {
        self.found.iter().map(ToString::to_string).collect()
    }
}

fn text(what: impl Display, help: impl Display) -> String {
    format!("{what}\nhelp: {help}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_becomes_its_own_error() {
        let mut errors = Errors::default();
        assert!(errors.is_empty());
        errors.push(Span::call_site(), "first", "do this");
        errors.push_over(quote::quote!(a b), "second", "do that");
        assert_eq!(
            errors.messages(),
            ["first\nhelp: do this", "second\nhelp: do that"]
        );
        assert_eq!(
            errors
                .into_tokens()
                .to_string()
                .matches("compile_error")
                .count(),
            2
        );
    }
}
