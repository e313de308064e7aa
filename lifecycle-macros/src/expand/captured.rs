//! The functions that replace `self` in the user's expressions by its meaning in generated code.

use proc_macro2::{Ident, Literal, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote_spanned};
use syn::Expr;

use super::binding_at;
use crate::plan::{Captured, SelfMeaning};
use crate::self_uses::{self, SelfUse};

pub(super) fn replace_self(expr: &Expr, self_meaning: &SelfMeaning) -> TokenStream {
    match self_meaning {
        SelfMeaning::WholeValue => with_whole_value(expr),
        SelfMeaning::Fields(captured) => with_fields(expr, captured),
    }
}

/// Replaces `self` by the local `__this`, which generated code binds to the value before the expression.
fn with_whole_value(expr: &Expr) -> TokenStream {
    self_uses::rewrite(expr.to_token_stream(), &mut |self_use| {
        let span = self_use.span();
        let site = Span::mixed_site().located_at(span);
        match self_use {
            SelfUse::Bare { .. } => quote_spanned!(site=> __this),
            SelfUse::Field { name, .. } | SelfUse::Method { name, .. } => {
                let member = member(&name, span);
                quote_spanned!(site=> __this.#member)
            }
        }
    })
}

/// Replaces `self.field` by `*` and the local to which generated code binds that field.
pub(super) fn with_fields(expr: &impl ToTokens, captured: &[Captured]) -> TokenStream {
    self_uses::rewrite(expr.to_token_stream(), &mut |self_use| {
        let site = Span::mixed_site().located_at(self_use.span());
        let SelfUse::Field { name, .. } = self_use else {
            return TokenStream::new();
        };
        let field = captured.iter().find(|field| field.name == name);
        let field = field.map(|field| binding_at(field.index, site));
        field.map_or_else(TokenStream::new, |field| quote_spanned!(site=> (*#field)))
    })
}

/// Returns the name or index of a field, with the span at which the user wrote it.
fn member(name: &str, span: Span) -> TokenTree {
    match name.parse::<usize>() {
        Ok(index) => {
            let mut index = Literal::usize_unsuffixed(index);
            index.set_span(span);
            TokenTree::Literal(index)
        }
        Err(_) => TokenTree::Ident(raw_where_needed(name, span)),
    }
}

fn raw_where_needed(name: &str, span: Span) -> Ident {
    let mut ident = syn::parse_str::<Ident>(name).unwrap_or_else(|_| Ident::new_raw(name, span));
    ident.set_span(span);
    ident
}
