//! The expressions of a user, with `self` replaced by what it means in the generated code.

use proc_macro2::{Ident, Literal, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote_spanned};
use syn::Expr;

use super::binding_at;
use crate::mentions::{self, Mention};
use crate::plan::{Captured, This};

pub(super) fn expression(expr: &Expr, this: &This) -> TokenStream {
    match this {
        This::Whole => whole(expr),
        This::Fields(captured) => fields(expr, captured),
    }
}

/// `self` as the local `__this`, which generated code binds around the expression.
fn whole(expr: &Expr) -> TokenStream {
    mentions::rewrite(expr.to_token_stream(), &mut |mention| {
        let span = mention.span();
        let here = Span::mixed_site().located_at(span);
        match mention {
            Mention::Bare { .. } => quote_spanned!(here=> __this),
            Mention::Field { name, .. } | Mention::Method { name, .. } => {
                let member = member(&name, span);
                quote_spanned!(here=> __this.#member)
            }
        }
    })
}

/// `self.field` as the binding of that field, behind its reference.
pub(super) fn fields(expr: &impl ToTokens, captured: &[Captured]) -> TokenStream {
    mentions::rewrite(expr.to_token_stream(), &mut |mention| {
        let here = Span::mixed_site().located_at(mention.span());
        let Mention::Field { name, .. } = mention else {
            return TokenStream::new();
        };
        let field = captured.iter().find(|field| field.name == name);
        let field = field.map(|field| binding_at(field.index, here));
        field.map_or_else(TokenStream::new, |field| quote_spanned!(here=> (*#field)))
    })
}

/// The name or index of a field, with the place where it was mentioned.
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
